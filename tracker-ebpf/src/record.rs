//! The record of one client address and its transitions.
//!
//! The packet that ends a silence arrives before anyone in user space can look. If it only refreshed `traffic_at`, an
//! expired session would look fresh whenever the daemon was late, stopped or dead at the deadline. So a transition that
//! ends a gap of at least the limit *latches* it: whoever looks later decides as if it had always looked. Only the most
//! recent gap is kept, with both its ends: if it began before some moment, no earlier one ended after that moment.

/// What the kernel knows of one client address. Times are `CLOCK_BOOTTIME` nanoseconds; 0 means never. A moment before
/// this boot, which only user space can know of, is a negative number that wrapped around.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Connections open now.
    pub open: u32,
    /// How often a connection was opened or closed, wrapping. Two reads with the same number have seen the same
    /// connections, so whoever compares a record with another source knows whether anything happened in between.
    pub changes: u32,
    /// When `open` last rose from 0.
    pub opened_at: u64,
    /// When `open` last fell to 0.
    pub closed_at: u64,
    /// When stream data last moved: new data only, in the directions that count. The kernel side may be behind the truth
    /// by less than [`TELL_EVERY`](crate::mark::TELL_EVERY), and is never ahead of it.
    pub traffic_at: u64,
    /// When the most recent silence of at least the limit began.
    pub traffic_gap_start: u64,
    /// When it ended.
    pub traffic_gap_end: u64,
    /// When the most recent closed period of at least the limit began.
    pub closed_gap_start: u64,
    /// When it ended.
    pub closed_gap_end: u64,
    /// Payload bytes received from the client; of open connections, perhaps without the last ones.
    pub rx: u64,
    /// Payload bytes sent to the client; likewise.
    pub tx: u64,
}

/// Which way data went, seen from the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    Received,
    /// To the client.
    Sent,
}

/// A client's connections began or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// `open` left 0.
    Opened,
    /// `open` reached 0.
    Closed,
}

/// What closing a connection did to the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Other connections of the client are still open.
    OthersOpen,
    /// It was the client's last connection.
    Last,
    /// Nothing was open: an opening was missed. The count stays at 0.
    WithoutOpen,
}

impl Record {
    /// A record that begins now, with nothing open: gaps are measured from here.
    #[inline(always)]
    #[must_use]
    pub const fn starting(now: u64) -> Self {
        Self {
            open: 0,
            changes: 0,
            opened_at: 0,
            closed_at: now,
            traffic_at: now,
            traffic_gap_start: 0,
            traffic_gap_end: 0,
            closed_gap_start: 0,
            closed_gap_end: 0,
            rx: 0,
            tx: 0,
        }
    }

    /// A connection was established. True if it is the client's first: `open` rose from 0.
    #[inline(always)]
    pub fn on_open(&mut self, now: u64, limit: u64) -> bool {
        let first = self.open == 0;
        if first {
            self.leave_zero(now, limit);
        }
        self.open = self.open.saturating_add(1);
        self.changes = self.changes.wrapping_add(1);
        first
    }

    /// New stream data moved; `counts` says whether this direction is traffic.
    #[inline(always)]
    pub fn on_data(&mut self, now: u64, limit: u64, direction: Direction, bytes: u64, counts: bool) {
        match direction {
            Direction::Received => self.rx = self.rx.wrapping_add(bytes),
            Direction::Sent => self.tx = self.tx.wrapping_add(bytes),
        }
        if counts {
            self.on_traffic(now, limit);
        }
    }

    /// New stream data moved that counts as traffic. What is not later than the last changes nothing.
    #[inline(always)]
    pub fn on_traffic(&mut self, now: u64, limit: u64) {
        // Two CPUs may read the clock in one order and arrive here in the other: time never runs backwards.
        if is_later(now, self.traffic_at) {
            if is_gap(self.traffic_at, now, limit) {
                self.traffic_gap_start = self.traffic_at;
                self.traffic_gap_end = now;
            }
            self.traffic_at = now;
        }
    }

    /// A connection was closed, in whatever way.
    #[inline(always)]
    pub fn on_close(&mut self, now: u64) -> Closed {
        match self.open {
            0 | RETIRED => Closed::WithoutOpen,
            1 => {
                self.reach_zero(now);
                self.changes = self.changes.wrapping_add(1);
                Closed::Last
            }
            more => {
                self.open = more - 1;
                self.changes = self.changes.wrapping_add(1);
                Closed::OthersOpen
            }
        }
    }

    /// Sets the count to what another source (the socket dump) showed at `at`: openings or closings were missed.
    #[inline(always)]
    pub fn correct(&mut self, open: u32, at: u64, limit: u64) -> Option<Edge> {
        let before = self.open;
        if before == open {
            return None;
        }
        self.changes = self.changes.wrapping_add(1);
        if before == 0 {
            self.leave_zero(at, limit);
            self.open = open;
            Some(Edge::Opened)
        } else if open == 0 {
            self.reach_zero(at);
            Some(Edge::Closed)
        } else {
            self.open = open;
            None
        }
    }

    /// Takes the record out of service just before it is deleted, unless a connection is open. Whoever still holds it
    /// sees so with [`Self::is_retired`] and looks for its successor: no opening is written into a deleted record.
    #[inline(always)]
    pub fn retire(&mut self) -> bool {
        let idle = self.open == 0;
        if idle {
            self.open = RETIRED;
        }
        idle
    }

    /// Whether the record is about to be deleted.
    #[inline(always)]
    #[must_use]
    pub const fn is_retired(&self) -> bool {
        self.open == RETIRED
    }

    #[inline(always)]
    fn leave_zero(&mut self, now: u64, limit: u64) {
        if is_gap(self.closed_at, now, limit) {
            self.closed_gap_start = self.closed_at;
            self.closed_gap_end = now;
        }
        self.opened_at = now;
    }

    #[inline(always)]
    fn reach_zero(&mut self, now: u64) {
        self.open = 0;
        self.closed_at = now;
    }
}

/// The count of a record that is about to be deleted; more connections than a machine can hold.
const RETIRED: u32 = u32::MAX;

/// Whether the time from `since` to `now` is a gap worth latching.
#[inline(always)]
const fn is_gap(since: u64, now: u64, limit: u64) -> bool {
    since != 0 && limit != 0 && now.wrapping_sub(since).cast_signed() >= limit.cast_signed()
}

/// Whether `a` is later than `b`, of which either may be before this boot.
#[inline(always)]
const fn is_later(a: u64, b: u64) -> bool {
    a.cast_signed() > b.cast_signed()
}
