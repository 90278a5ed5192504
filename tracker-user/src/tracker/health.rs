//! The health of the observer: what the loop does about it. Alarm, repair, and nobody is served on what is not known.

use std::time::Duration;

use super::core::Core;
use crate::clock::boot_now;

/// A connection of the proxy's own that is older than this must be seen.
const SURELY_SEEN: Duration = Duration::from_secs(2);
/// The records are compared with the sockets at most so often because something looks wrong, and the kernel side is
/// attached again at most so often.
const REATTACH_EVERY: Duration = Duration::from_secs(5);

impl Core {
    /// Checks whether the observer sees what happens, and has it repaired where it does not.
    pub(super) fn check_health(&mut self) {
        let unseen = self.connections.holds_unseen(boot_now().before(SURELY_SEEN));
        // Another program may have taken the callback by which the kernel side hears of a closing.
        let untold =
            self.connections.have_left().into_iter().any(|client| {
                self.table.session(client).is_some() && self.observer.has_missed_the_end(client)
            });
        let doubtful = self.observer.check() && unseen;
        if untold {
            self.compare_with_sockets();
        }
        self.health_changed();
        let now = boot_now();
        if (doubtful || self.observer.wants_mending()) && now.since(self.reattached_at) >= REATTACH_EVERY {
            self.reattached_at = now;
            self.compare_with_sockets();
        }
    }

    /// Takes note of whether the observer is degraded. Refreshes find out what comes of it for sessions.
    pub(super) fn health_changed(&mut self) {
        let degraded = self.observer.blindness().is_some();
        self.metrics.blind.set(i64::from(degraded));
        if std::mem::replace(&mut self.degraded, degraded) != degraded {
            self.refresh_all();
        }
    }
}
