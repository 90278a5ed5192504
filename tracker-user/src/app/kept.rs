//! What the store kept of the last run.

use tracing::warn;

use super::StartError;
use crate::clock::{Anchor, boot_id, boot_now};
use crate::config::Config;
use crate::session::Policy;
use crate::store::Store;
use crate::tracker::Kept;

/// Reads the sessions of the last run and the policy it judged them by.
pub(super) fn read(store: &Store) -> Result<Kept, StartError> {
    if store.sessions_are_void() {
        warn!("sessions may have ended without the disk taking note: nobody is taken to be logged in");
    }
    let boot = boot_id();
    let policy = store.policy()?.map(|stored| {
        // A session's times are to be shown the same after a restart.
        if let Some(anchor) = stored.anchor(&boot) {
            anchor.go_on();
        }
        stored.restore(&boot)
    });
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

/// The policy that `config` makes now: the one in force goes on if it is the same, and with it what it has seen.
pub(super) fn continued(config: &Config, kept: &Kept) -> Policy {
    let policy = super::policy(config, boot_now());
    match &kept.policy {
        Some(before) if Policy { since: before.since, ..policy.clone() } == *before => before.clone(),
        _ => policy,
    }
}
