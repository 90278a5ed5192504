//! What a watched socket carries, and what of it its client's record has not been told yet.
//!
//! A record belongs to all connections of a client, on all CPUs: telling it of each packet would cost a look-up, a lock
//! and a cache line that wanders. So each direction of a connection tells it once in [`TELL_EVERY`] at most; in between
//! the mark, which only this connection touches, keeps the moment at which data last moved. Where a client has so many
//! connections that each moves data less often than that, the record is looked at without its lock: while another
//! connection has told it of data a moment ago, it need not be told again before [`TELL_AT_LAST`]. What was kept is told
//! before anything later is, and when the connection closes. What follows from that:
//!
//! * The record's `traffic_at` is never later than the truth, and never earlier by [`TELL_EVERY`].
//! * Data that ends a silence of that or more is told at once. So no gap is missed; with one connection both its ends
//!   are exact, with several it may have begun, and so be longer, by less than [`TELL_EVERY`].
//! * Bytes are not counted but are how far the stream's sequence numbers got: nothing is lost between CPUs, and they are
//!   exact when the connection has closed.

use crate::abi::ClientAddr;
use crate::record::{Direction, Record};

/// How long a connection may keep to itself that data moved, in nanoseconds.
pub const TELL_EVERY: u64 = 1_000_000;

/// How long it may at most, in nanoseconds, while the record hears of data from others: less time than half of the circle
/// of sequence numbers takes on the fastest of cables.
pub const TELL_AT_LAST: u64 = 16 * TELL_EVERY;

/// What a watched socket carries: the value of the socket-local storage. What packets of one direction need of it, and
/// write, is in one cache line, with the kernel's own eight bytes before the first: the directions are often worked on
/// by two CPUs at once, and should not take the line from each other with every packet.
///
/// Every field stands for itself, and what has been told is changed under the record's lock only.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// From the client; its edge is the client's FIN, which takes a sequence number but is no data.
    pub(crate) received: Stream,
    /// Whether the client has said that its stream ends.
    pub(crate) ended: u32,
    /// Always 0: the rest of the cache line.
    _pad: [u32; 3],
    /// To the client; its edge is how far data was sent: what lies below is a retransmission.
    pub(crate) sent: Stream,
}

/// One direction.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stream {
    /// Whose connection it is.
    pub(crate) client: ClientAddr,
    /// A sequence number.
    pub(crate) edge: u32,
    /// The sequence number up to which the record knows of data.
    pub(crate) told: u32,
    /// When data that counts last moved, if the record was not told then.
    pub(crate) moved_at: u64,
    /// When the record was last told of data in this direction, because of it.
    pub(crate) told_at: u64,
}

impl Stream {
    const fn starting(client: ClientAddr, first: u32) -> Self {
        Self { client, edge: first, told: first, moved_at: 0, told_at: 0 }
    }
}

/// Data that moved.
#[derive(Clone, Copy, Debug)]
pub struct Moved {
    /// When.
    pub at: u64,
    /// Which way.
    pub direction: Direction,
    /// Whether this direction is traffic.
    pub counts: bool,
}

impl Mark {
    /// The mark of a connection that begins: the sequence numbers of the first byte to be received and to be sent.
    #[inline(always)]
    #[must_use]
    pub const fn starting(client: ClientAddr, received: u32, sent: u32) -> Self {
        Self {
            received: Stream::starting(client, received),
            ended: 0,
            _pad: [0; 3],
            sent: Stream::starting(client, sent),
        }
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

    /// The client's FIN has the sequence number `end`.
    #[inline(always)]
    pub const fn on_end(&mut self, end: u32) {
        self.received.edge = end;
        self.ended = 1;
    }

    /// The sequence number up to which data was sent.
    #[inline(always)]
    #[must_use]
    pub const fn sent(&self) -> u32 {
        self.sent.edge
    }

    /// Data was sent up to this sequence number.
    #[inline(always)]
    pub const fn on_sent(&mut self, end: u32) {
        self.sent.edge = end;
    }

    /// Whether the record need not be told of this yet: the mark keeps it.
    #[inline(always)]
    pub const fn keeps(&mut self, moved: &Moved) -> bool {
        let stream = self.stream(moved.direction);
        // A clock that is behind the other CPU's is no reason to wait long.
        let keeps = moved.at.wrapping_sub(stream.told_at) < TELL_EVERY;
        if keeps && moved.counts {
            stream.moved_at = moved.at;
        }
        keeps
    }

    /// Whether it need not be told either because it has just been told of data by another connection, at `traffic_at`,
    /// which may be read without the lock.
    #[inline(always)]
    pub const fn yields(&mut self, moved: &Moved, traffic_at: u64) -> bool {
        let stream = self.stream(moved.direction);
        // The other CPU's clock may be a little ahead.
        let apart = moved.at.wrapping_sub(traffic_at).cast_signed().unsigned_abs();
        let yields =
            moved.at.wrapping_sub(stream.told_at) < TELL_AT_LAST && (!moved.counts || apart < TELL_EVERY);
        if yields && moved.counts {
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

    /// Tells the record what was kept, and then this. `received`: how far the stream got, if that is known. To be called
    /// under the record's lock.
    #[inline(always)]
    pub fn tell(&mut self, record: &mut Record, limit: u64, moved: &Moved, received: Option<u32>) {
        self.settle(record, limit, received);
        if moved.counts {
            record.on_traffic(moved.at, limit);
        }
        self.stream(moved.direction).told_at = moved.at;
    }

    /// Tells the record what was kept; `received` as above. To be called under the record's lock.
    #[inline(always)]
    pub fn settle(&mut self, record: &mut Record, limit: u64, received: Option<u32>) {
        // Told twice it changes nothing, so that it need not be taken back, which might take away another CPU's.
        let (one, other) = (self.received.moved_at, self.sent.moved_at);
        let (first, second) = if one < other { (one, other) } else { (other, one) };
        if first != 0 {
            record.on_traffic(first, limit);
        }
        if second != 0 {
            record.on_traffic(second, limit);
        }
        let sent = self.sent.edge;
        record.tx = advance(record.tx, self.sent.told, sent);
        self.sent.told = sent;
        if let Some(mut received) = received {
            if self.ended != 0 && received == self.received.edge.wrapping_add(1) {
                received = self.received.edge;
            }
            record.rx = advance(record.rx, self.received.told, received);
            self.received.told = received;
        }
    }
}

/// The count after the stream got from one sequence number to another. It is told in time, long before half the circle
/// is gone round; backwards where a segment that was told was not accepted after all.
#[inline(always)]
const fn advance(count: u64, from: u32, to: u32) -> u64 {
    count.wrapping_add_signed(to.wrapping_sub(from).cast_signed() as i64)
}
