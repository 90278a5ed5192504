//! What a watched socket carries, and what of it its client's record has not been told yet.
//!
//! A packet proves nothing when it is seen: TCP may refuse it (out of its window, a bad checksum, an old time stamp, beyond
//! the end), and so may another program after us; and anybody who can send packets in a client's name could hold the
//! client's session with them. So a packet that may carry data only leaves its moment in the mark. What counts is how far
//! TCP itself got, `rcv_nxt` and `snd_nxt`, as the next packet of the socket finds it, in whichever direction: most often
//! the acknowledgement. If the stream has advanced since it was last looked at, data has moved, at the moment that was left.
//! An advance is noticed at the end of the connection at the latest.
//!
//! A record belongs to all connections of a client, on all CPUs: telling it of each packet would cost a look-up, a lock
//! and a cache line that wanders. So each direction of a connection tells it once in [`TELL_EVERY`] at most; in between
//! the mark, which only this connection touches, keeps the moment at which data last moved. Where a client has so many
//! connections that each moves data less often than that, the record is looked at without its lock: while another
//! connection has told it of data a moment ago, it need not be told again before [`TELL_AT_LAST`]. What was kept is told
//! before anything later is, and when the connection closes. What follows from that:
//!
//! * The record's `traffic_at` is never later than the truth; it is earlier by less than [`TELL_EVERY`] and the time until
//!   the receiver acknowledges.
//! * Data that ends a silence of [`TELL_EVERY`] or more is told when it is noticed. So no gap is missed; with one connection
//!   both its ends are exact, with several it may have begun, and so be longer, by as much as `traffic_at` was behind.
//! * Bytes are not counted but are how far the stream's sequence numbers got: nothing is lost between CPUs, and they are
//!   exact when the connection has closed.
//!
//! Under TLS the stream is not the payload: handshakes, tickets, key updates and alerts move it, too. Such a connection's
//! mark is opaque: its data is counted, and delivered as any other, but it is no traffic. Whoever has the payload stamps
//! the record ([`AMEND_TRAFFIC`](crate::abi::AMEND_TRAFFIC)).

use crate::abi::ClientAddr;
use crate::record::{Closed, Direction, Edge, Record};

/// How long a connection may keep to itself that data moved, in nanoseconds.
pub const TELL_EVERY: u64 = 1_000_000;

/// How long it may at most, in nanoseconds, while the record hears of data from others: less time than half of the circle
/// of sequence numbers takes on the fastest of cables.
pub const TELL_AT_LAST: u64 = 16 * TELL_EVERY;

/// What a watched socket carries: the value of the socket-local storage. What packets of one direction write is in one
/// cache line, with the kernel's own eight bytes before the first: the directions are often worked on by two CPUs at once,
/// and should not take the line from each other with every packet.
///
/// Every field stands for itself, and what has been told is changed under the record's lock only.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// From the client.
    pub(crate) received: Stream,
    /// To the client.
    pub(crate) sent: Stream,
    /// Which record counts the connection: that one's [`born`](crate::abi::Slot::born); 0 if none does.
    pub(crate) counted_in: u64,
}

/// One direction.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Whose connection it is.
    pub(crate) client: ClientAddr,
    /// The sequence number up to which data was seen to have moved.
    pub(crate) seen: u32,
    /// The sequence number up to which the record knows of data.
    pub(crate) told: u32,
    /// The sequence number of the FIN, which is no data, if [`FIN`] is set; till then, of what is sent, how far a packet
    /// got last.
    pub(crate) end: u32,
    /// [`FIN`], [`HALF`] and [`OPAQUE`].
    pub(crate) flags: u32,
    /// When a packet last passed that may have carried data.
    pub(crate) came_at: u64,
    /// When data that counts last moved, if the record was not told then.
    pub(crate) moved_at: u64,
    /// When data moved of which the record was last told by this direction.
    pub(crate) told_at: u64,
}

/// The stream ends at `end`, once TCP got beyond that.
const FIN: u32 = 1;
/// Only of what is sent: the client has ended its side, and the record counts the connection among those.
const HALF: u32 = 2;
/// What moves is not the payload, and so no traffic. The same in both directions from the beginning to the end.
pub(crate) const OPAQUE: u32 = 4;

impl Stream {
    const fn starting(client: ClientAddr, first: u32, now: u64) -> Self {
        Self { client, seen: first, told: first, end: first, flags: 0, came_at: now, moved_at: 0, told_at: 0 }
    }

    /// Whether data that goes this way is traffic.
    #[inline(always)]
    const fn is_traffic(&self, direction: Direction, counts: Counts) -> bool {
        counts.has(direction) && self.flags & OPAQUE == 0
    }

    /// How far data got, if TCP got to `reached`.
    #[inline(always)]
    const fn data_end(&self, reached: u32) -> u32 {
        if self.flags & FIN != 0 && reached == self.end.wrapping_add(1) { self.end } else { reached }
    }

    #[inline(always)]
    const fn ends(&mut self, fin: u32) {
        self.end = fin;
        self.flags |= FIN;
    }

    /// When data moved that was not seen to have moved before; 0: none has.
    #[inline(always)]
    const fn advance(&mut self, reached: u32) -> u64 {
        let end = self.data_end(reached);
        // What is behind was read before another CPU saw more.
        if !is_beyond(end, self.seen) {
            return 0;
        }
        self.seen = end;
        self.came_at
    }

    #[inline(always)]
    const fn count(&mut self, bytes: u64, reached: u32) -> u64 {
        let end = self.data_end(reached);
        // It is told in time, long before half the circle is gone round; backwards where a FIN was taken for a byte.
        let advance = end.wrapping_sub(self.told).cast_signed() as i64;
        self.told = end;
        bytes.wrapping_add_signed(advance)
    }
}

/// Whether `a` lies beyond `b`, on the circle of sequence numbers.
#[inline(always)]
const fn is_beyond(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

/// How far TCP got: the sequence numbers that it expects and sends next.
#[derive(Clone, Copy, Debug)]
pub struct Reached {
    /// `rcv_nxt`.
    pub received: u32,
    /// `snd_nxt`.
    pub sent: u32,
}

/// Data that moved.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    /// When; 0: none has. (Not an `Option`: the kernel refuses programs that copy what is not there.)
    pub at: u64,
    /// Which way.
    pub direction: Direction,
}

/// Whose data is traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// That of both sides.
    Both,
    /// The client's.
    Client,
}

impl Counts {
    /// Whether data that goes this way counts.
    #[inline(always)]
    #[must_use]
    pub const fn has(self, direction: Direction) -> bool {
        matches!((self, direction), (Self::Both, _) | (_, Direction::Received))
    }
}

impl Mark {
    /// The mark of a connection that begins with a packet at `now`, and how far TCP got before that one.
    #[inline(always)]
    #[must_use]
    pub const fn starting(client: ClientAddr, reached: &Reached, now: u64) -> Self {
        Self {
            received: Stream::starting(client, reached.received, now),
            sent: Stream::starting(client, reached.sent, now),
            counted_in: 0,
        }
    }

    /// The same of a connection whose stream `is_opaque`, if it is.
    #[inline(always)]
    #[must_use]
    pub const fn opaque(mut self, is_opaque: bool) -> Self {
        if is_opaque {
            self.received.flags |= OPAQUE;
            self.sent.flags |= OPAQUE;
        }
        self
    }

    /// The connection, just established, is counted in a record that begins with it, born at `born`.
    #[inline(always)]
    pub const fn begins(&mut self, born: u64) {
        self.counted_in = born;
    }

    /// That record did not come to be.
    #[inline(always)]
    pub const fn is_in_none(&mut self) {
        self.counted_in = 0;
    }

    /// Whether the record that was born at `born` counts it.
    #[inline(always)]
    #[must_use]
    pub const fn is_counted_in(&self, born: u64) -> bool {
        self.counted_in == born
    }

    /// The connection, just established, is counted in a record that is there. To be called under the record's lock.
    #[inline(always)]
    pub fn enter(&mut self, born: u64, record: &mut Record, limit: u64, now: u64) -> Option<Edge> {
        self.counted_in = born;
        if record.on_open(now, limit) { Some(Edge::Opened) } else { None }
    }

    /// Makes sure that the connection is counted in a record, before that is told anything: there may have been no room for
    /// one when it began, or the one that counted it may have been deleted. To be called under the record's lock.
    #[inline(always)]
    pub fn join(&mut self, born: u64, record: &mut Record, limit: u64, now: u64) -> Option<Edge> {
        if self.is_counted_in(born) {
            return None;
        }
        self.counted_in = born;
        record.on_join(now, limit, self.is_half())
    }

    /// Whose connection it is, without a look at what the other direction writes.
    #[inline(always)]
    #[must_use]
    pub const fn client(&self, direction: Direction) -> ClientAddr {
        match direction {
            Direction::Received => self.received.client,
            Direction::Sent => self.sent.client,
        }
    }

    /// A packet passes that may carry data.
    #[inline(always)]
    pub const fn on_packet(&mut self, direction: Direction, now: u64) {
        self.stream(direction).came_at = now;
    }

    /// A packet leaves whose data ends here, with a FIN or without. (Nobody but this host's own TCP sends by the socket.)
    #[inline(always)]
    pub const fn on_leaving(&mut self, end: u32, fin: bool) {
        // Not of what is sent again.
        if self.sent.flags & FIN == 0 && (fin || is_beyond(end, self.sent.seen)) {
            self.sent.end = end;
            self.sent.flags |= if fin { FIN } else { 0 };
        }
    }

    /// A FIN has come, with this sequence number, of which TCP will not say that it took it: it will say that the
    /// connection is closed.
    #[inline(always)]
    pub const fn on_last(&mut self, fin: u32) {
        self.received.ends(fin);
    }

    /// How far TCP got, if a packet comes that acknowledges up to `by`: where both ends are on one host, the
    /// acknowledgement may be there before the sender has noted that it has sent.
    #[inline(always)]
    #[must_use]
    pub const fn acknowledged(&self, reached: Reached, by: u32) -> Reached {
        let Stream { end, flags, .. } = self.sent;
        let is_last = by == end || (flags & FIN != 0 && by == end.wrapping_add(1));
        if is_last && is_beyond(by, reached.sent) { Reached { sent: by, ..reached } } else { reached }
    }

    /// Whether the record counts the connection among those that their client has ended.
    #[inline(always)]
    #[must_use]
    pub const fn is_half(&self) -> bool {
        self.sent.flags & HALF != 0
    }

    /// What has moved since this was asked last, the earlier first.
    #[inline(always)]
    pub const fn news(&mut self, reached: &Reached) -> [Moved; 2] {
        let received = Moved { at: self.received.advance(reached.received), direction: Direction::Received };
        let sent = Moved { at: self.sent.advance(reached.sent), direction: Direction::Sent };
        if received.at > sent.at { [sent, received] } else { [received, sent] }
    }

    /// Whether the record need not be told of this yet: the mark keeps it.
    #[inline(always)]
    pub const fn keeps(&mut self, moved: &Moved, counts: Counts) -> bool {
        let stream = self.stream(moved.direction);
        // A clock that is behind the other CPU's is no reason to wait long.
        let keeps = moved.at.wrapping_sub(stream.told_at) < TELL_EVERY;
        if keeps && stream.is_traffic(moved.direction, counts) {
            stream.moved_at = moved.at;
        }
        keeps
    }

    /// Whether it need not be told either because it has just been told of data by another connection, at `traffic_at`,
    /// which may be read without the lock.
    #[inline(always)]
    pub const fn yields(&mut self, moved: &Moved, counts: Counts, traffic_at: u64) -> bool {
        // What holds the client's state no other connection tells.
        if self.is_half() && matches!(moved.direction, Direction::Sent) {
            return false;
        }
        let stream = self.stream(moved.direction);
        let counts = stream.is_traffic(moved.direction, counts);
        // What others have told may be later, too: they were acknowledged sooner.
        let is_known = moved.at.wrapping_sub(traffic_at).cast_signed() < TELL_EVERY.cast_signed();
        let yields = moved.at.wrapping_sub(stream.told_at) < TELL_AT_LAST && (!counts || is_known);
        if yields && counts {
            stream.moved_at = moved.at;
        }
        yields
    }

    #[inline(always)]
    const fn stream(&mut self, direction: Direction) -> &mut Stream {
        match direction {
            Direction::Received => &mut self.received,
            Direction::Sent => &mut self.sent,
        }
    }

    /// Tells the record what was kept, and then this. To be called under the record's lock.
    #[inline(always)]
    pub fn tell(
        &mut self,
        record: &mut Record,
        limit: u64,
        moved: &Moved,
        counts: Counts,
        reached: &Reached,
    ) {
        self.settle(record, limit, reached);
        self.tell_one(record, limit, moved, counts);
    }

    /// The client's FIN was accepted: tells the record what was kept, what has moved since, and that. To be called under
    /// the record's lock.
    #[inline(always)]
    pub fn end(
        &mut self,
        record: &mut Record,
        limit: u64,
        counts: Counts,
        reached: &Reached,
        now: u64,
    ) -> Closed {
        self.received.ends(reached.received.wrapping_sub(1));
        self.tell_all(record, limit, counts, reached);
        let ended = record.on_end(now);
        if ended != Closed::WithoutOpen {
            self.sent.flags |= HALF;
        }
        ended
    }

    /// The client's FIN was accepted, and there is no record to be told.
    #[inline(always)]
    pub const fn end_untold(&mut self, reached: &Reached) {
        self.received.ends(reached.received.wrapping_sub(1));
        self.sent.flags |= HALF;
    }

    /// The connection is closed: tells the record what was kept, what has moved since, and that. To be called under the
    /// record's lock.
    #[inline(always)]
    pub fn close(
        &mut self,
        record: &mut Record,
        limit: u64,
        counts: Counts,
        reached: &Reached,
        now: u64,
    ) -> Closed {
        self.tell_all(record, limit, counts, reached);
        record.on_close(now, self.is_half())
    }

    #[inline(always)]
    fn tell_all(&mut self, record: &mut Record, limit: u64, counts: Counts, reached: &Reached) {
        self.settle(record, limit, reached);
        let [first, second] = self.news(reached);
        self.tell_one(record, limit, &first, counts);
        self.tell_one(record, limit, &second, counts);
    }

    #[inline(always)]
    fn tell_one(&mut self, record: &mut Record, limit: u64, moved: &Moved, counts: Counts) {
        if moved.at == 0 {
            return;
        }
        if self.stream(moved.direction).is_traffic(moved.direction, counts) {
            record.on_traffic(moved.at, limit);
        }
        if self.is_half() && matches!(moved.direction, Direction::Sent) {
            record.on_delivered(moved.at, limit);
        }
        self.stream(moved.direction).told_at = moved.at;
    }

    /// Tells the record what was kept. To be called under the record's lock.
    #[inline(always)]
    fn settle(&mut self, record: &mut Record, limit: u64, reached: &Reached) {
        // Told twice it changes nothing, so that it need not be taken back, which might take away another CPU's.
        let (one, other) = (self.received.moved_at, self.sent.moved_at);
        let (first, second) = if one < other { (one, other) } else { (other, one) };
        if first != 0 {
            record.on_traffic(first, limit);
        }
        if second != 0 {
            record.on_traffic(second, limit);
        }
        record.rx = self.received.count(record.rx, reached.received);
        record.tx = self.sent.count(record.tx, reached.sent);
    }
}
