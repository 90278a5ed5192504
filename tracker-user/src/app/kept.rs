//! What the store kept of the last run.

use tracing::warn;

use super::StartError;
use crate::admin;
use crate::audit;
use crate::audit::{Audit, TrailEntry};
use crate::clock::{Anchor, BootTime, boot_id, boot_now};
use crate::config::Config;
use crate::observe::Witness;
use crate::session::Policy;
use crate::store::Store;
use crate::tracker::Kept;

/// Reads the sessions of the last run and the policy it judged them by.
pub(super) fn read(store: &Store) -> Result<Kept, StartError> {
    if store.sessions_are_void() {
        warn!("sessions may have ended without the disk taking note: nobody is taken to be logged in");
    }
    let boot = boot_id();
    let policy = policy(store, &boot)?;
    let (anchor, now) = (Anchor::now(), boot_now());
    let mut kept = Kept { policy, ..Kept::default() };
    for (portable, seen) in store.sessions()? {
        let Some(session) = portable.restore(&boot, &anchor, now, seen) else { continue };
        if portable.is_of_another_boot(&boot) {
            kept.rebooted.push(session.client);
        }
        kept.sessions.push(session);
    }
    Ok(kept)
}

/// The policy that the sessions of the last run were judged by, if it can be read.
fn policy(store: &Store, boot: &str) -> Result<Option<Policy>, StartError> {
    let (anchor, policy) = match (store.policy()?, store.configured_policy()?) {
        (Some(stored), _) => (stored.anchor(boot), Some(stored.restore(boot))),
        (None, Some(earlier)) => {
            let config = Config::parse(&earlier.config, "the store").ok();
            (earlier.anchor(boot), config.map(|config| super::policy(&config, earlier.since(boot))))
        }
        (None, None) => (None, None),
    };
    // A session's times are to be shown the same after a restart.
    if let Some(anchor) = anchor {
        anchor.go_on();
    }
    Ok(policy)
}

/// The policy that `config` makes now: the one in force goes on if it is the same, and with it what it has seen. Where that
/// one is not known, this one counts as the one that was in force all the time: what ran out while nobody was awake has
/// not been judged yet, and must not be forgotten.
pub(super) fn continued(config: &Config, kept: &Kept) -> Policy {
    let Some(before) = &kept.policy else { return super::policy(config, BootTime::default()) };
    let policy = super::policy(config, before.since);
    if policy == *before { policy } else { Policy { since: boot_now(), ..policy } }
}

/// Where the store's last transaction is noted for the next run in this boot; or what an operator should know.
pub(super) fn witness(config: &Config) -> (Option<Witness>, Option<String>) {
    match Witness::choose(&admin::server::witnesses(config)) {
        Ok(witness) => (Some(witness), None),
        Err(why) => {
            let warning = format!(
                "there is no place in memory to note the last transaction ({why}): after a crash everybody has to log \
                 in again; put run-dir on a tmpfs"
            );
            (None, Some(warning))
        }
    }
}

/// Tells of a database that is not the one last written: in the audit trail, and by what is returned.
pub(super) fn replaced(why: &str, audit: &Audit) -> String {
    audit.record(TrailEntry::now(audit::Event::Replaced(why.to_owned().into())));
    format!(
        "the database found at start is not the one that this gateway last wrote: {why}; nobody in it was taken to be \
         logged in, and its history, settings and local users are what it says"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ran_out_under_a_policy_that_is_not_known_has_run_out() {
        let config = Config::default();
        assert_eq!(continued(&config, &Kept::default()).since, BootTime::default());
        let since = BootTime::from_nanos(7);
        let known = |policy| Kept { policy: Some(policy), ..Kept::default() };
        let same = super::super::policy(&config, since);
        assert_eq!(continued(&config, &known(same.clone())), same);
        let another = Policy { max_users: 77, ..same };
        assert!(continued(&config, &known(another)).since > since, "it does not reach back");
    }
}
