//! A session: a client, a user, how and when that was proved.

use std::sync::Arc;

use super::event::Reason;
use super::factors::Proven;
use crate::clock::BootTime;
use crate::types::{ClientAddr, ConnectionId, Device, Factors, Identity, Method, Scope, SessionId, Traffic};

/// Whether requests are served on a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Yes, while the judge agrees.
    Active,
    /// No: its user proved themselves, but a further factor is required. It takes no licence, and waits for that factor, or
    /// for its end.
    Waiting {
        /// Requests have been served on it before: it went stale, or what is required has changed.
        was_served: bool,
    },
    /// No: its timeout ran out at `since`. It waits for its user to prove themselves again, or for its end.
    Stale {
        /// Which timeout.
        reason: Reason,
        /// When.
        since: BootTime,
    },
}

/// One session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its number; renewals keep it.
    pub id: SessionId,
    /// The client address.
    pub client: ClientAddr,
    /// The connection, where the session is of no other: on a shared host.
    pub connection: Option<ConnectionId>,
    /// The user.
    pub identity: Arc<Identity>,
    /// How the user proved it, last.
    pub method: Method,
    /// The further factors that were proved with it.
    pub factors: Factors,
    /// The further factors that the user had set up by then.
    pub enrolled: Factors,
    /// The hardware address behind the client address when its user last proved themselves, where it is known and tells
    /// this client from others.
    pub device: Option<Device>,
    /// When it began, by the proof's admission; renewals keep it, the lifetime counts from it.
    pub created: BootTime,
    /// When its user last proved themselves: when the request was read that brought the proof, a moment before it was
    /// admitted.
    pub authenticated: BootTime,
    /// The proof that the judge counts from. A proof that would move no deadline worth mentioning is only shown: what
    /// the judge goes by is on disk before anyone relies on it, and a client that sends credentials with each request
    /// must not cost a disk write each time.
    pub judged_from: BootTime,
    /// When mode `absolute` began to count: at creation, or at the last renewal of the stale session.
    pub counted_from: BootTime,
    /// Whether requests are served on it.
    pub state: State,
    /// What had been counted for the client, or for the connection, when it began; `None` where that is not known, or
    /// where the counters have been set back since.
    pub traffic_before: Option<Traffic>,
}

impl Session {
    /// What it is of.
    #[must_use]
    pub const fn scope(&self) -> Scope {
        Scope { client: self.client, connection: self.connection }
    }

    /// Whether it waits for a further factor.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting { .. })
    }

    /// Whether anybody was ever served on it: one that still waits for a factor of its login has not begun.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        !matches!(self.state, State::Waiting { was_served: false })
    }

    /// What its user has proved.
    #[must_use]
    pub fn proven(&self) -> Proven<'_> {
        let Self { identity, method, factors, enrolled, .. } = self;
        Proven { identity, method: *method, factors: *factors, enrolled: *enrolled }
    }
}
