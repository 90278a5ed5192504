//! The record of one client address and its transitions.
//!
//! The packet that ends a silence arrives before anyone in user space can look. If it only refreshed `traffic_at`, an
//! expired session would look fresh whenever the daemon was late, stopped or dead at the deadline. So a transition that
//! ends a gap of at least the limit *latches* it: whoever looks later decides as if it had always looked. Only the most
//! recent gap is kept, with both its ends: if it began before some moment, no earlier one ended after that moment.
//!
//! A connection that its client has ended (FIN) may still bring an answer, or go on for ever because the other end of its
//! tunnel is silent. So it only holds the client's state for [`GRACE`] after something was last delivered on it: the
//! client counts as closed from then on, and as open again when more is delivered. The record needs no clock for that,
//! and nobody has to look at that moment: [`Record::closes_at`] says it beforehand.

/// How long a client that has ended all its connections counts as open after something was last delivered to it, or after
/// its last end, while one of them is not closed yet. In nanoseconds.
pub const GRACE: u64 = 5_000_000_000;

/// What the kernel knows of one client address. Times are `CLOCK_BOOTTIME` nanoseconds; 0 means never. A moment before
/// this boot, which only user space can know of, is a negative number that wrapped around.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Connections that are open, and not ended by the client.
    pub open: u32,
    /// Connections that the client has ended, and that are not closed yet.
    pub half: u32,
    /// How often a connection was opened, ended by the client or closed, wrapping. Two reads with the same number have seen
    /// the same connections, so whoever compares a record with another source knows whether anything happened in between.
    pub changes: u32,
    /// How many of the connections are counted because they were listed ([`Self::correct`]), and not known one by one: the
    /// next that are found uncounted are taken for these.
    pub assumed: u32,
    /// When the client last came to count as open.
    pub opened_at: u64,
    /// When a connection of the client's was last established: what came from there was answered there. (A client comes to
    /// count as open also when one is found, or something is sent to it.)
    pub established_at: u64,
    /// When `open` last fell to 0: from then on whatever is opened may be somebody else's.
    pub left_at: u64,
    /// When the client last came to count as closed, as far as the last transition knew; see [`Self::closes_at`].
    pub closed_at: u64,
    /// When something was last delivered on a connection that the client has ended, or when it last ended one. The kernel
    /// side may be behind the truth by less than [`TELL_EVERY`](crate::mark::TELL_EVERY).
    pub held_at: u64,
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
    /// `open` reached 0, or the last connection that the client had ended was closed.
    Closed,
}

/// What the end of a connection, or of the client's side of it, did to the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// There are others for which it changes nothing.
    OthersOpen,
    /// It was the last one of its kind, and none is open: whoever judges the client should look.
    Last,
    /// There was none: an opening was missed. The count stays at 0.
    WithoutOpen,
}

impl Record {
    /// A record that begins now, with nothing open: gaps are measured from here.
    #[inline(always)]
    #[must_use]
    pub const fn starting(now: u64) -> Self {
        Self {
            open: 0,
            half: 0,
            changes: 0,
            assumed: 0,
            opened_at: 0,
            established_at: 0,
            left_at: now,
            closed_at: now,
            held_at: 0,
            traffic_at: now,
            traffic_gap_start: 0,
            traffic_gap_end: 0,
            closed_gap_start: 0,
            closed_gap_end: 0,
            rx: 0,
            tx: 0,
        }
    }

    /// From when on the client counts as closed: a moment that may be still to come, and that comes later if something is
    /// delivered before. `None` while a connection is open that the client has not ended.
    #[inline(always)]
    #[must_use]
    pub const fn closes_at(&self) -> Option<u64> {
        match (self.open, self.half) {
            (0, 0) => Some(self.closed_at),
            (0, _) => Some(later(self.left_at, self.held_at.wrapping_add(GRACE))),
            _ => None,
        }
    }

    /// Whether the client counts as open.
    #[inline(always)]
    #[must_use]
    pub const fn is_open(&self, now: u64) -> bool {
        match self.closes_at() {
            Some(at) => self.half > 0 && is_later(at, now),
            None => true,
        }
    }

    /// When the client last came to count as closed, up to `now`.
    #[inline(always)]
    #[must_use]
    pub const fn closed_by(&self, now: u64) -> u64 {
        match self.closes_at() {
            Some(at) if !is_later(at, now) => at,
            _ => self.closed_at,
        }
    }

    /// How many connections there are, ended by the client or not.
    #[inline(always)]
    #[must_use]
    pub const fn connections(&self) -> u32 {
        self.open.saturating_add(self.half)
    }

    /// A connection was established. True if it is the client's only one that is open: `open` rose from 0.
    #[inline(always)]
    pub fn on_open(&mut self, now: u64, limit: u64) -> bool {
        self.established_at = later(self.established_at, now);
        self.on_one_more(now, limit)
    }

    /// There is one more connection. True if it is the only one that is open.
    #[inline(always)]
    fn on_one_more(&mut self, now: u64, limit: u64) -> bool {
        let first = self.open == 0;
        self.begin(now, limit);
        self.open = self.open.saturating_add(1);
        self.changes = self.changes.wrapping_add(1);
        first
    }

    /// A connection was found that is open and was not counted in this record; `ended`: its client has ended its side. It
    /// is counted from now on, unless it was listed before.
    #[inline(always)]
    pub fn on_join(&mut self, now: u64, limit: u64, ended: bool) -> Option<Edge> {
        if self.assumed > 0 {
            self.assumed -= 1;
            return None;
        }
        let first = self.on_one_more(now, limit);
        if ended {
            return if matches!(self.on_end(now), Closed::Last) { Some(Edge::Closed) } else { None };
        }
        if first { Some(Edge::Opened) } else { None }
    }

    /// The client has ended its side of a connection, which stays.
    #[inline(always)]
    pub fn on_end(&mut self, now: u64) -> Closed {
        if self.open == 0 || self.is_retired() {
            return Closed::WithoutOpen;
        }
        self.open -= 1;
        self.half = self.half.saturating_add(1);
        self.changes = self.changes.wrapping_add(1);
        self.held_at = later(self.held_at, now);
        if self.open > 0 {
            return Closed::OthersOpen;
        }
        self.left_at = now;
        Closed::Last
    }

    /// Something was delivered on a connection that its client has ended. What is not later than the last changes nothing.
    #[inline(always)]
    pub fn on_delivered(&mut self, now: u64, limit: u64) {
        if self.half > 0 && is_later(now, self.held_at) {
            self.begin(now, limit);
            self.held_at = now;
        }
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

    /// A connection was closed, in whatever way; `ended` says whether the record knows that its client had ended it.
    #[inline(always)]
    pub fn on_close(&mut self, now: u64, ended: bool) -> Closed {
        let held_until = self.closes_at();
        let count = if ended { &mut self.half } else { &mut self.open };
        if *count == 0 || *count == RETIRED {
            return Closed::WithoutOpen;
        }
        *count -= 1;
        self.changes = self.changes.wrapping_add(1);
        self.assumed = self.assumed.min(self.connections());
        if self.open > 0 || (ended && self.half > 0) {
            return Closed::OthersOpen;
        }
        if !ended {
            self.left_at = now;
        }
        if self.half == 0 {
            self.closed_at = earlier(now, held_until);
        }
        Closed::Last
    }

    /// Sets the counts to what another source (the socket dump) showed at `at`: openings, ends or closings were missed. Of
    /// what a client had ended unseen nobody knows what was delivered: it holds nothing.
    #[inline(always)]
    pub fn correct(&mut self, open: u32, half: u32, at: u64, limit: u64) -> Option<Edge> {
        let before = *self;
        if before.open == open && before.half == half {
            return None;
        }
        if open > 0 {
            self.begin(at, limit);
        }
        self.changes = self.changes.wrapping_add(1);
        (self.open, self.half) = (open, half);
        let (was, is) = (before.connections(), self.connections());
        self.assumed = self.assumed.saturating_add(is.saturating_sub(was)).min(is);
        if open > 0 {
            return if before.open == 0 { Some(Edge::Opened) } else { None };
        }
        if before.open > 0 {
            self.left_at = at;
        }
        if half == 0 {
            self.closed_at = earlier(at, before.closes_at());
        } else if before.half == 0 {
            let closed = if before.open > 0 { at } else { before.closed_at };
            self.held_at = closed.wrapping_sub(GRACE);
        }
        if before.open > 0 || half == 0 { Some(Edge::Closed) } else { None }
    }

    /// Takes the record out of service just before it is deleted. Whoever still holds it sees so with
    /// [`Self::is_retired`] and looks for its successor: nothing is written into a deleted record.
    #[inline(always)]
    pub fn retire(&mut self) {
        self.open = RETIRED;
    }

    /// Whether the record is about to be deleted.
    #[inline(always)]
    #[must_use]
    pub const fn is_retired(&self) -> bool {
        self.open == RETIRED
    }

    /// Something happens that makes the client count as open. What was closed until now is a gap.
    #[inline(always)]
    fn begin(&mut self, now: u64, limit: u64) {
        let Some(closed) = self.closes_at() else { return };
        if self.half > 0 && is_later(closed, now) {
            return;
        }
        self.closed_at = closed;
        if is_gap(closed, now, limit) {
            self.closed_gap_start = closed;
            self.closed_gap_end = now;
        }
        self.opened_at = now;
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

/// The later of two moments.
#[inline(always)]
const fn later(a: u64, b: u64) -> u64 {
    if is_later(a, b) { a } else { b }
}

/// The earlier of two moments, of which the second may be unknown.
#[inline(always)]
const fn earlier(a: u64, b: Option<u64>) -> u64 {
    match b {
        Some(b) if is_later(a, b) => b,
        _ => a,
    }
}
