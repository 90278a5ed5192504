//! What the loop does about the watchdog of the source: alarm, repair, and nobody is served on what is not known.

use std::time::Duration;

use super::core::Core;
use crate::clock::boot_now;
use crate::session::may_have_reopened;
use crate::types::ClientAddr;

/// A connection of the proxy's own that is older than this must be seen.
const SURELY_SEEN: Duration = Duration::from_secs(2);
/// The records are compared with the sockets at most so often because something looks wrong, and the kernel side is
/// attached again at most so often.
const MEND_EVERY: Duration = Duration::from_secs(5);

impl Core {
    /// Looks whether the observer sees.
    pub(super) fn check_sight(&mut self) {
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
        self.sight_changed();
        let now = boot_now();
        if (doubtful || self.observer.wants_mending()) && now.since(self.mended) >= MEND_EVERY {
            self.mended = now;
            self.compare_with_sockets();
        }
    }

    /// Takes note of whether the observer sees. What comes of it for sessions, looks find out.
    pub(super) fn sight_changed(&mut self) {
        let blind = self.observer.blindness().is_some();
        self.metrics.blind.set(i64::from(blind));
        if std::mem::replace(&mut self.blind, blind) != blind {
            self.look_at_all();
        }
    }

    /// Whether a valid session's client may have come back since the proof without anybody seeing it: then the first new
    /// connection must prove itself, as after one that was seen.
    pub(super) fn may_have_reopened(&self, client: ClientAddr) -> bool {
        let policy = self.table.policy();
        let may = |session| may_have_reopened(session, policy, self.observer.watched_since());
        self.table.session(client).is_some_and(may)
    }
}
