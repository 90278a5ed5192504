//! What the store kept of the last run, and how it keeps the policy.

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::StartError;
use crate::clock::{Anchor, BootTime, boot_id, boot_now};
use crate::config::Config;
use crate::session::Policy;
use crate::store::Store;
use crate::tracker::{Kept, Tracker};

/// The policy in force, as the store keeps it: the configuration it came from, and since when it is in force.
#[derive(Serialize, Deserialize)]
struct KeptPolicy {
    boot: String,
    since: i64,
    /// How the clocks stood to each other, so that a session's times are shown the same after a restart.
    offset: i64,
    config: String,
}

/// Reads the sessions of the last run and the policy it judged them by.
pub(super) fn read(store: &Store) -> Result<Kept, StartError> {
    if store.sessions_are_void() {
        warn!("sessions may have ended without the disk taking note: nobody is taken to be logged in");
    }
    let boot = boot_id();
    let policy = store.state(Tracker::POLICY)?.and_then(|text| policy(&text, &boot));
    let (anchor, now) = (Anchor::now(), boot_now());
    let mut kept = Kept { policy, ..Kept::default() };
    for (stored, seen) in store.sessions()? {
        let Some(session) = stored.restore(&boot, &anchor, now, seen) else { continue };
        if stored.is_of_another_boot(&boot) {
            kept.rebooted.push(session.client);
        }
        kept.sessions.push(session);
    }
    Ok(kept)
}

/// The policy of the last run. One that cannot be read is one that another version wrote: the present one judges.
fn policy(text: &[u8], boot: &str) -> Option<Policy> {
    let kept: KeptPolicy = serde_json::from_slice(text).ok()?;
    let config = Config::parse(&kept.config, "the store").ok()?;
    // In another boot, every gap the records know of came after.
    let since = if kept.boot == boot {
        Anchor::from_offset(kept.offset).go_on();
        BootTime::from_nanos(kept.since.cast_unsigned())
    } else {
        BootTime::default()
    };
    Some(super::policy(&config, since))
}

/// The policy that `config` makes now: the one in force goes on if it is the same, and with it what it has seen.
pub(super) fn continued(config: &Config, kept: &Kept) -> Policy {
    let policy = super::policy(config, boot_now());
    match &kept.policy {
        Some(before) if Policy { since: before.since, ..policy.clone() } == *before => before.clone(),
        _ => policy,
    }
}

/// How the store keeps it.
pub(super) fn text(config: &Config, policy: &Policy) -> Vec<u8> {
    let since = policy.since.as_nanos().cast_signed();
    let offset = Anchor::now().offset();
    let kept =
        KeptPolicy { boot: boot_id(), since, offset, config: config.changes_since(&Config::default()) };
    serde_json::to_vec(&kept).unwrap_or_default()
}
