//! What is recorded of a client, in wall time.

use std::time::Duration;

use jiff::Timestamp;
use tracker_ebpf::record::Record;

use crate::clock::{Anchor, BootTime};

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
    /// What `record` says at `now`.
    pub(super) fn of(record: &Record, now: BootTime, anchor: &Anchor) -> Self {
        let stamp = |at: u64| BootTime::from_stamp(at).map(|at| anchor.wall(at));
        let gap = |start: u64, end: u64| Some(Gap { from: stamp(start)?, until: stamp(end)? });
        Self {
            open_connections: record.connections(),
            is_open: record.is_open(now.as_nanos()),
            opened: stamp(record.opened_at),
            closed: stamp(record.closed_by(now.as_nanos())),
            last_traffic: stamp(record.traffic_at),
            silent_for: now.since(BootTime::from_nanos(record.traffic_at)),
            closed_gap: gap(record.closed_gap_start, record.closed_gap_end),
            traffic_gap: gap(record.traffic_gap_start, record.traffic_gap_end),
            bytes_received: record.rx,
            bytes_sent: record.tx,
        }
    }

    /// The same, without the closing of what was never open.
    pub(super) fn since_opened(self) -> Self {
        Self { closed: self.closed.filter(|_| self.opened.is_some()), ..self }
    }
}
