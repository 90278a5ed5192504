//! What is recorded of a client, in wall time.

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::{Anchor, BootTime};
use crate::session::{self, Evidence};

/// What is recorded of a client, or of one connection of a shared host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Activity {
    /// Connections open now, with those that the client has ended and that are not closed yet.
    pub open_connections: u32,
    /// Whether it counts as open.
    pub is_open: bool,
    /// When it last came to count as open.
    pub opened: Option<Timestamp>,
    /// When it last came to count as closed.
    pub closed: Option<Timestamp>,
    /// When data last moved.
    pub last_traffic: Option<Timestamp>,
    /// How long ago that is.
    pub silent_for: Duration,
    /// The last closed period of at least the timeout.
    pub closed_gap: Option<Gap>,
    /// The last silence of at least the timeout.
    pub traffic_gap: Option<Gap>,
    /// Payload bytes received from the client.
    pub bytes_received: u64,
    /// Payload bytes sent to the client.
    pub bytes_sent: u64,
}

/// A gap that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// When it began.
    pub from: Timestamp,
    /// When it ended.
    pub until: Timestamp,
}

impl Activity {
    /// What `evidence` says at `now`.
    pub(super) fn of(evidence: &Evidence, now: BootTime, anchor: &Anchor) -> Self {
        let wall = |at: BootTime| anchor.wall(at);
        let gap = |gap: session::Gap| Gap { from: wall(gap.start), until: wall(gap.end) };
        Self {
            open_connections: evidence.connections(),
            is_open: evidence.is_open(now),
            opened: evidence.opened_at.map(wall),
            closed: evidence.closed_by(now).map(wall),
            last_traffic: evidence.traffic_at.map(wall),
            silent_for: now.since(evidence.traffic_at.unwrap_or_default()),
            closed_gap: evidence.closed_gap.map(gap),
            traffic_gap: evidence.traffic_gap.map(gap),
            bytes_received: evidence.received,
            bytes_sent: evidence.sent,
        }
    }

    /// The same, without the closing of what was never open.
    pub(super) fn since_opened(self) -> Self {
        Self { closed: self.closed.filter(|_| self.opened.is_some()), ..self }
    }
}
