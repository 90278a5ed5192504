//! What crosses the border between kernel and user space: keys, values, hints, settings, counters.
//!
//! Every type is `repr(C)`, a multiple of eight bytes, without implicit padding, and holds only integers, so that any
//! bit pattern is valid on both sides.

use core::mem::offset_of;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::mark::{Mark, Stream};
use crate::record::Record;

/// Raised whenever the meaning of anything in this module, in [`crate::mark`] or in [`crate::record`] changes; what is merely moved shows in
/// [`LAYOUT`]. Both are part of the pin directory's name.
pub const ABI_VERSION: u32 = 3;

/// A client address, the key of every table: 16 bytes in network order, IPv4 as an IPv4-mapped IPv6 address
/// (RFC 4291, section 2.5.5.2), so that a dual-stack listener and an IPv4 listener see the same client.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientAddr(pub [u8; 16]);

impl ClientAddr {
    /// The key of an IPv4 address given in network order.
    #[inline(always)]
    #[must_use]
    pub const fn from_v4(octets: [u8; 4]) -> Self {
        let [a, b, c, d] = octets;
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    /// The address as people write it; a mapped address is shown as IPv4.
    #[must_use]
    pub const fn ip(self) -> IpAddr {
        Ipv6Addr::from_octets(self.0).to_canonical()
    }
}

impl From<Ipv4Addr> for ClientAddr {
    fn from(address: Ipv4Addr) -> Self {
        Self::from_v4(address.octets())
    }
}

impl From<IpAddr> for ClientAddr {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => Self(v6.octets()),
        }
    }
}

impl core::fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.ip().fmt(f)
    }
}

impl core::str::FromStr for ClientAddr {
    type Err = core::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<IpAddr>().map(Into::into)
    }
}

/// The kernel's own lock. The kernel recognises it in a map's value by the name of its type.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct bpf_spin_lock {
    /// Never to be touched; user space always reads 0.
    pub val: u32,
}

/// The value of the record map. Programs change the record only while they hold the lock; user space reads it with
/// `BPF_F_LOCK` ([`READ_LOCKED`]), so nobody ever sees half a transition and no count is lost between CPUs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Slot {
    /// Guards the rest. At the top level of the value, as the kernel demands.
    pub lock: bpf_spin_lock,
    /// Always 0.
    pub _pad: u32,
    /// The key once more: who holds a slot while it is deleted and given to another client can tell.
    pub client: ClientAddr,
    /// The record.
    pub record: Record,
}

impl Slot {
    /// The slot of a client that is seen for the first time.
    #[inline(always)]
    #[must_use]
    pub const fn starting(client: ClientAddr, now: u64) -> Self {
        Self { lock: bpf_spin_lock { val: 0 }, _pad: 0, client, record: Record::starting(now) }
    }

    /// Whether this still is the record of `client`. Only meaningful while the lock is held.
    #[inline(always)]
    #[must_use]
    pub fn serves(&self, client: &ClientAddr) -> bool {
        self.client == *client && !self.record.is_retired()
    }
}

/// The kernel's flag `BPF_F_LOCK`: copy a value while holding its lock.
pub const READ_LOCKED: u64 = 4;

/// How many records the kernel side keeps unless the loader says otherwise.
pub const DEFAULT_MAX_RECORDS: u32 = 131_072;

/// A change that user space asks of a record. User space cannot hold a record's lock, so it never writes one itself: it
/// runs the program `amend` with this as its packet, and the change is decided and made in the kernel in one step.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amendment {
    /// Whose record.
    pub client: ClientAddr,
    /// [`AMEND_OPEN`] or [`AMEND_FORGET`].
    pub kind: u32,
    /// The record's `changes` that the decision was based on; if it differs by now, nothing is done.
    pub changes: u32,
    /// The right count of connections that are open, and not ended by the client.
    pub open: u32,
    /// And of those that the client has ended.
    pub half: u32,
    /// When the counts were seen, in `CLOCK_BOOTTIME` nanoseconds.
    pub at: u64,
}

/// Correct the counts of connections.
pub const AMEND_OPEN: u32 = 1;
/// Delete the record if there is no connection.
pub const AMEND_FORGET: u32 = 2;

/// What the daemon tells the kernel, live: the only entry of the settings map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// A silence or a closed period of at least this many nanoseconds is latched in the record. 0 latches nothing.
    pub limit: u64,
    /// [`TRAFFIC_BOTH`] or [`TRAFFIC_CLIENT`]: whose data moves `traffic_at`.
    pub direction: u32,
    /// Always 0.
    pub _pad: u32,
    /// Since when every connection was watched, without interruption. Kept here for the next daemon, which adopts the
    /// records: the programs do not read it.
    pub watched_since: u64,
    /// Since when the records cannot be relied upon; 0: they can.
    pub blind_since: u64,
}

/// Data in either direction is traffic.
pub const TRAFFIC_BOTH: u32 = 0;
/// Only data sent by the client is traffic.
pub const TRAFFIC_CLIENT: u32 = 1;

/// The size of the hints' ring in bytes: a power of two of pages.
pub const HINTS_BYTES: u32 = 256 * 1024;

/// A hint: a client's count of open connections left 0 or reached 0, or the last one that it had ended was closed. The map is the truth; a hint only says where to look.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hint {
    /// The client.
    pub client: ClientAddr,
    /// When, in `CLOCK_BOOTTIME` nanoseconds.
    pub at: u64,
    /// [`HINT_OPENED`] or [`HINT_CLOSED`].
    pub kind: u32,
    /// 1 if it comes from an amendment, 0 if the kernel side saw the connection itself.
    pub amended: u32,
}

/// The first connection of a client was established.
pub const HINT_OPENED: u32 = 1;
/// The last connection of a client was ended by it, or closed.
pub const HINT_CLOSED: u32 = 2;

/// How many ports the kernel side can watch at once.
pub const MAX_PORTS: usize = 16;

/// Everything that can go wrong in the kernel, counted per CPU.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// The ring buffer was full: a hint was lost, a resync is due.
    HintDropped = 0,
    /// The record map was full: a client is not tracked.
    RecordMapFull = 1,
    /// The mark on the socket could not be made: its connection is not tracked.
    MarkFailed = 2,
    /// The state callback could not be enabled: the connection was taken back.
    CallbackRefused = 3,
    /// A connection closed whose record was missing or already at 0.
    CloseWithoutOpen = 4,
    /// Data moved on a marked socket whose record is missing.
    DataWithoutRecord = 5,
    /// How far the TCP of a marked socket got could not be read.
    Unreadable = 6,
    /// A connection opened in the very moment in which its client's record was deleted: a resync is due, which counts it.
    RecordRetired = 7,
}

impl Counter {
    /// All of them, in the order of their slots.
    pub const ALL: [Self; 8] = [
        Self::HintDropped,
        Self::RecordMapFull,
        Self::MarkFailed,
        Self::CallbackRefused,
        Self::CloseWithoutOpen,
        Self::DataWithoutRecord,
        Self::Unreadable,
        Self::RecordRetired,
    ];

    /// The name in metrics and in `trackerctl status`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HintDropped => "hint_dropped",
            Self::RecordMapFull => "record_map_full",
            Self::MarkFailed => "mark_failed",
            Self::CallbackRefused => "callback_refused",
            Self::CloseWithoutOpen => "close_without_open",
            Self::DataWithoutRecord => "data_without_record",
            Self::Unreadable => "unreadable",
            Self::RecordRetired => "record_retired",
        }
    }
}

const _: () = assert!(size_of::<Settings>() == 32 && size_of::<Hint>() == 32 && size_of::<Record>() == 104);
const _: () = assert!(size_of::<Slot>() == 128 && size_of::<Amendment>() == 40 && size_of::<Mark>() == 112);

/// A number that differs wherever the sizes, the places or the constants of this module differ: two builds with the same
/// one may work on the same maps.
pub const LAYOUT: u64 = fold(&[
    size_of::<ClientAddr>(),
    size_of::<Slot>(),
    offset_of!(Slot, lock),
    offset_of!(Slot, client),
    offset_of!(Slot, record),
    size_of::<Record>(),
    offset_of!(Record, open),
    offset_of!(Record, half),
    offset_of!(Record, changes),
    offset_of!(Record, opened_at),
    offset_of!(Record, left_at),
    offset_of!(Record, closed_at),
    offset_of!(Record, held_at),
    offset_of!(Record, traffic_at),
    offset_of!(Record, traffic_gap_start),
    offset_of!(Record, traffic_gap_end),
    offset_of!(Record, closed_gap_start),
    offset_of!(Record, closed_gap_end),
    offset_of!(Record, rx),
    offset_of!(Record, tx),
    size_of::<Settings>(),
    offset_of!(Settings, limit),
    offset_of!(Settings, direction),
    offset_of!(Settings, watched_since),
    offset_of!(Settings, blind_since),
    size_of::<Mark>(),
    offset_of!(Mark, received),
    offset_of!(Mark, sent),
    offset_of!(Stream, client),
    offset_of!(Stream, seen),
    offset_of!(Stream, told),
    offset_of!(Stream, end),
    offset_of!(Stream, flags),
    offset_of!(Stream, came_at),
    offset_of!(Stream, moved_at),
    offset_of!(Stream, told_at),
    crate::mark::TELL_EVERY as usize,
    crate::record::GRACE as usize,
    size_of::<Hint>(),
    offset_of!(Hint, client),
    offset_of!(Hint, at),
    offset_of!(Hint, kind),
    offset_of!(Hint, amended),
    HINTS_BYTES as usize,
    Counter::ALL.len(),
    TRAFFIC_BOTH as usize,
    TRAFFIC_CLIENT as usize,
    HINT_OPENED as usize,
    HINT_CLOSED as usize,
]);

/// FNV-1a over the numbers, 32 bits of each.
const fn fold(mut numbers: &[usize]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    while let [number, rest @ ..] = numbers {
        hash = (hash ^ (*number as u64 & 0xffff_ffff)).wrapping_mul(0x0000_0100_0000_01b3);
        numbers = rest;
    }
    hash
}

#[cfg(feature = "user")]
#[expect(
    unsafe_code,
    reason = "aya's marker trait: the types are repr(C), without padding, and hold only integers"
)]
mod pod {
    unsafe impl aya::Pod for super::ClientAddr {}
    unsafe impl aya::Pod for super::Settings {}
    unsafe impl aya::Pod for super::Hint {}
    unsafe impl aya::Pod for super::Record {}
    unsafe impl aya::Pod for super::Slot {}
}
