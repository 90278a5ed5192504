//! Where somebody has just logged out, as the store has it: a hold outlives the process.

use std::sync::Arc;

use super::StartError;
use crate::auth::LogoutHolds;
use crate::clock::{Anchor, boot_now, wall_now};
use crate::config::Config;
use crate::store::Store;
use crate::tracker::IsHeld;

/// The holds, with those of an earlier run: a session that its user has ended is in the history, and whoever has typed a password
/// since has begun another one there.
pub(super) fn holds(config: &Config, store: &Store) -> Result<Arc<LogoutHolds>, StartError> {
    let lasts = config.portal.logout_hold;
    let holds = LogoutHolds::lasting(lasts);
    if !lasts.is_zero() {
        let (anchor, now) = (Anchor::now(), boot_now());
        // Where the wall clock cannot say when that was, all of them may count.
        let since = wall_now().checked_sub(lasts).unwrap_or_default();
        let logouts = store.logouts_since(since, LogoutHolds::MOST)?;
        holds.restore(logouts.into_iter().map(|(client, at)| (client, anchor.boot(at))), now);
    }
    Ok(Arc::new(holds))
}

/// The same, as the tracker asks for it.
pub(super) fn held(holds: &Arc<LogoutHolds>) -> IsHeld {
    let holds = Arc::clone(holds);
    Box::new(move |client, now| holds.until(client, now).is_some())
}
