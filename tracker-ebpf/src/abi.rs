//! What crosses the border between kernel and user space: keys, values, hints, settings, counters.
//!
//! Every type is `repr(C)`, a multiple of eight bytes, without implicit padding, and holds only integers, so that any
//! bit pattern is valid on both sides.

use core::mem::offset_of;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::mark::{Mark, Stream};
use crate::record::Record;

/// Raised whenever the meaning of anything in this module, in [`crate::mark`] or in [`crate::record`] changes; what is merely moved shows in
/// [`LAYOUT`]. Both are part of the pin directory's name.
pub const ABI_VERSION: u32 = 5;

/// A client address, the key of every table: 16 bytes in network order, IPv4 as an IPv4-mapped IPv6 address
/// (RFC 4291, section 2.5.5.2), so that a dual-stack listener and an IPv4 listener see the same client.
///
/// A link-local IPv6 address names a host only together with its link: two links can have a host of the same one. So the
/// key of such an address holds the number of the interface, in four of the bytes that are 0 in every address that is
/// well formed (RFC 4291, section 2.5.6).
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

    /// The key of an IPv6 address given in network order, which was met at the interface with the number `link`; 0 says
    /// that the interface is not known, and matters to link-local addresses only. `None` if that leaves open which host
    /// is meant: a link-local address without its link, or one whose reserved bits are not 0.
    #[inline(always)]
    #[must_use]
    pub const fn from_v6(octets: [u8; 16], link: u32) -> Option<Self> {
        if !is_link_local(&octets) {
            return Some(Self(octets));
        }
        let [a, b, r0, r1, r2, r3, r4, r5, i0, i1, i2, i3, i4, i5, i6, i7] = octets;
        if link == 0 || b & 0x3f != 0 || (r0 | r1 | r2 | r3 | r4 | r5) != 0 {
            return None;
        }
        let [l0, l1, l2, l3] = link.to_be_bytes();
        Some(Self([a, b, 0, 0, l0, l1, l2, l3, i0, i1, i2, i3, i4, i5, i6, i7]))
    }

    /// The key of the far end of a connection, as the kernel tells it to its owner; `None` as in [`Self::from_v6`].
    #[must_use]
    pub const fn from_peer(peer: SocketAddr) -> Option<Self> {
        match peer {
            SocketAddr::V4(v4) => Some(Self::from_v4(v4.ip().octets())),
            SocketAddr::V6(v6) => Self::from_v6(v6.ip().octets(), v6.scope_id()),
        }
    }

    /// The address as people write it, without its link; a mapped address is shown as IPv4.
    #[must_use]
    pub const fn ip(self) -> IpAddr {
        let mut octets = self.0;
        if is_link_local(&octets) {
            octets = without_link(octets);
        }
        Ipv6Addr::from_octets(octets).to_canonical()
    }

    /// What one host can have many addresses of, as the address that it begins with: an IPv6 /64. An IPv4 address is one by
    /// itself.
    #[must_use]
    pub const fn network(self) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        if self.ip().is_ipv4() { self } else { Self([a, b, c, d, e, f, g, h, 0, 0, 0, 0, 0, 0, 0, 0]) }
    }

    /// The number of the interface by which a link-local address is reached; `None` for every other address.
    #[must_use]
    pub const fn link(self) -> Option<u32> {
        let [_, _, _, _, a, b, c, d, ..] = self.0;
        if is_link_local(&self.0) { Some(u32::from_be_bytes([a, b, c, d])) } else { None }
    }
}

/// fe80::/10
#[inline(always)]
const fn is_link_local(octets: &[u8; 16]) -> bool {
    octets[0] == 0xfe && octets[1] & 0xc0 == 0x80
}

const fn without_link(octets: [u8; 16]) -> [u8; 16] {
    let [a, b, c, d, _, _, _, _, rest @ ..] = octets;
    let [i0, i1, i2, i3, i4, i5, i6, i7] = rest;
    [a, b, c, d, 0, 0, 0, 0, i0, i1, i2, i3, i4, i5, i6, i7]
}

impl From<Ipv4Addr> for ClientAddr {
    fn from(address: Ipv4Addr) -> Self {
        Self::from_v4(address.octets())
    }
}

impl From<IpAddr> for ClientAddr {
    /// A link-local address alone names no client: its key is one that no client has.
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => {
                let octets = v6.octets();
                Self(if is_link_local(&octets) { without_link(octets) } else { octets })
            }
        }
    }
}

impl core::fmt::Display for ClientAddr {
    /// `192.0.2.7`, `2001:db8::7`, `fe80::7%2`
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.link() {
            None => self.ip().fmt(f),
            Some(link) => write!(f, "{}%{link}", self.ip()),
        }
    }
}

/// A text is no client's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoClient {
    /// It is no IP address.
    NoAddress,
    /// It is a link-local address, and its link is missing, or what stands there is none.
    NoLink,
}

impl core::fmt::Display for NoClient {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::NoAddress => "not an IP address",
            Self::NoLink => {
                "a link-local address needs the interface by which it is reached, as in fe80::1%eth0"
            }
        })
    }
}

impl core::error::Error for NoClient {}

impl core::str::FromStr for ClientAddr {
    type Err = NoClient;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, link) = match text.split_once('%') {
            Some((address, link)) => (address, Some(link)),
            None => (text, None),
        };
        match (address.parse().map_err(|_| NoClient::NoAddress)?, link) {
            (IpAddr::V4(v4), None) => Ok(v4.into()),
            (IpAddr::V6(v6), None) => Self::from_v6(v6.octets(), 0).ok_or(NoClient::NoLink),
            (IpAddr::V6(v6), Some(link)) if is_link_local(&v6.octets()) => {
                let link = link.parse().map_err(|_| NoClient::NoLink)?;
                Self::from_v6(v6.octets(), link).ok_or(NoClient::NoLink)
            }
            // No other address has a link.
            (_, Some(_)) => Err(NoClient::NoAddress),
        }
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
    /// 1 if the client has a session: the record is kept as long as that stands. 0: it is a stranger's, of which there are
    /// only so many, and which may be deleted at any time.
    pub held: u32,
    /// The key once more: who holds a slot while it is deleted and given to another client can tell.
    pub client: ClientAddr,
    /// When it was made, in `CLOCK_BOOTTIME` nanoseconds: no two records of a client are born at one moment. By this a
    /// connection knows whether it is counted in this record.
    pub born: u64,
    /// The record.
    pub record: Record,
}

impl Slot {
    /// The slot of a client of which nothing was known since `since`, made at `born`.
    #[inline(always)]
    #[must_use]
    pub const fn starting(client: ClientAddr, since: u64, born: u64) -> Self {
        Self { lock: bpf_spin_lock { val: 0 }, held: 0, client, born, record: Record::starting(since) }
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

/// How many records of clients with a session the kernel side keeps unless the loader says otherwise.
pub const DEFAULT_MAX_RECORDS: u32 = 131_072;

/// How many clients without a session may have a record, beside those with one. Whoever finds no room is watched all the
/// same, and counted when they have a session.
#[must_use]
pub const fn strangers_of(max_records: u32) -> u32 {
    match max_records / 4 {
        0 => 1,
        quarter if quarter > MOST_STRANGERS => MOST_STRANGERS,
        quarter => quarter,
    }
}

const MOST_STRANGERS: u32 = 65_536;

/// How many entries the record map has: for both kinds.
#[must_use]
pub const fn entries_of(max_records: u32) -> u32 {
    max_records + strangers_of(max_records)
}

/// How many records there are.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Used {
    /// Guards the rest. Never taken together with a record's.
    pub lock: bpf_spin_lock,
    /// Always 0.
    pub _pad: u32,
    /// Of clients with a session.
    pub held: u64,
    /// Of others.
    pub strangers: u64,
}

/// A change that user space asks of a record. User space cannot hold a record's lock, so it never writes one itself: it
/// runs the program `amend` with this as its packet, and the change is decided and made in the kernel in one step.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amendment {
    /// Whose record.
    pub client: ClientAddr,
    /// What is asked: one of the constants that begin with `AMEND_`.
    pub kind: u32,
    /// The record's `changes` that the decision was based on; if it differs by now, nothing is done.
    pub changes: u32,
    /// The right count of connections that are open, and not ended by the client.
    pub open: u32,
    /// And of those that the client has ended.
    pub half: u32,
    /// When the counts were seen, since when a new record is to know that nothing happened, or when payload moved, in
    /// `CLOCK_BOOTTIME` nanoseconds.
    pub at: u64,
    /// Of [`AMEND_TRAFFIC`]: when payload moved last before `at`, as far as the record may not know of it; else `at`.
    pub before: u64,
}

/// Correct the counts of connections.
pub const AMEND_OPEN: u32 = 1;
/// Delete the record if it is a stranger's and there is no connection.
pub const AMEND_FORGET: u32 = 2;
/// Change nothing: say whether `at` is the present moment by the kernel's clock, give or take [`SAME_CLOCK`].
pub const AMEND_CLOCK: u32 = 3;

/// Keep the record for as long as the client has a session; make one if there is none. Fails when there are as many as there
/// may be.
pub const AMEND_HOLD: u32 = 4;
/// The client has no session any more: its record is a stranger's. Where there are enough of these, it is deleted.
pub const AMEND_RELEASE: u32 = 5;
/// Delete the record if it is a stranger's, whatever is open.
pub const AMEND_EVICT: u32 = 6;

/// Payload moved that counts as traffic, on connections whose stream does not show it ([`Mark::opaque`]): at `before`, and
/// then at `at`. What the record knows of something later changes nothing. Fails where there is no record.
pub const AMEND_TRAFFIC: u32 = 7;

/// How far a moment may be from the kernel's own when it gets there, in nanoseconds.
pub const SAME_CLOCK: u64 = 1_000_000_000;

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

/// At how many places the kernel side can watch at once; fewer than a word has bits.
pub const MAX_PORTS: usize = 16;

/// In the kernel's list of watched places: at any address.
pub const ANY_ADDRESS: [u64; 2] = [0; 2];

/// The same: at any IPv4 address.
pub const ANY_V4: [u64; 2] = as_words([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);

/// An address of ours as the kernel side compares it: the bytes of a [`ClientAddr`], in two words.
#[inline(always)]
#[must_use]
pub const fn as_words(octets: [u8; 16]) -> [u64; 2] {
    let [a0, a1, a2, a3, a4, a5, a6, a7, b0, b1, b2, b3, b4, b5, b6, b7] = octets;
    [
        u64::from_be_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
        u64::from_be_bytes([b0, b1, b2, b3, b4, b5, b6, b7]),
    ]
}

/// Whether what is watched at `watched` includes a connection to our address `local`.
#[inline(always)]
#[must_use]
pub const fn covers(watched: [u64; 2], local: [u64; 2]) -> bool {
    let [high, low] = watched;
    let is_it = high == local[0] && low == local[1];
    let is_any = high == 0 && low == 0;
    let is_any_v4 = high == 0 && low == ANY_V4[1] && local[0] == 0 && local[1] >> 32 == low >> 32;
    is_it || is_any || is_any_v4
}

/// Everything that can go wrong in the kernel, counted per CPU.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// The ring buffer was full: a hint was lost, a resync is due.
    HintDropped = 0,
    /// A client without a session found no room for a record: its connection is watched, and not counted yet.
    StrangerUncounted = 1,
    /// The mark on the socket could not be made: its connection is not tracked.
    MarkFailed = 2,
    /// The state callback could not be enabled: the connection was taken back.
    CallbackRefused = 3,
    /// A connection closed whose record was already at 0.
    CloseWithoutOpen = 4,
    /// How far the TCP of a marked socket got could not be read.
    Unreadable = 5,
}

impl Counter {
    /// All of them, in the order of their slots.
    pub const ALL: [Self; 6] = [
        Self::HintDropped,
        Self::StrangerUncounted,
        Self::MarkFailed,
        Self::CallbackRefused,
        Self::CloseWithoutOpen,
        Self::Unreadable,
    ];

    /// The name in metrics and in `trackerctl status`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HintDropped => "hint_dropped",
            Self::StrangerUncounted => "strangers_uncounted",
            Self::MarkFailed => "mark_failed",
            Self::CallbackRefused => "callback_refused",
            Self::CloseWithoutOpen => "close_without_open",
            Self::Unreadable => "unreadable",
        }
    }
}

const _: () = assert!(size_of::<Settings>() == 32 && size_of::<Hint>() == 32 && size_of::<Record>() == 112);
const _: () = assert!(size_of::<Slot>() == 144 && size_of::<Amendment>() == 48 && size_of::<Mark>() == 120);

/// A number that differs wherever the sizes, the places or the constants of this module differ: two builds with the same
/// one may work on the same maps.
pub const LAYOUT: u64 = fold(&[
    size_of::<ClientAddr>(),
    size_of::<Slot>(),
    offset_of!(Slot, lock),
    offset_of!(Slot, held),
    offset_of!(Slot, client),
    offset_of!(Slot, born),
    offset_of!(Slot, record),
    size_of::<Record>(),
    offset_of!(Record, open),
    offset_of!(Record, half),
    offset_of!(Record, changes),
    offset_of!(Record, assumed),
    offset_of!(Record, opened_at),
    offset_of!(Record, established_at),
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
    offset_of!(Mark, counted_in),
    offset_of!(Stream, client),
    offset_of!(Stream, seen),
    offset_of!(Stream, told),
    offset_of!(Stream, end),
    offset_of!(Stream, flags),
    offset_of!(Stream, came_at),
    offset_of!(Stream, moved_at),
    offset_of!(Stream, told_at),
    crate::mark::TELL_EVERY as usize,
    crate::mark::OPAQUE as usize,
    crate::record::GRACE as usize,
    size_of::<Hint>(),
    offset_of!(Hint, client),
    offset_of!(Hint, at),
    offset_of!(Hint, kind),
    offset_of!(Hint, amended),
    HINTS_BYTES as usize,
    Counter::ALL.len(),
    size_of::<Used>(),
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
    unsafe impl aya::Pod for super::Mark {}
    unsafe impl aya::Pod for super::Used {}
}
