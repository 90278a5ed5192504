//! TCP segments made by hand and sent in a client's name, as anybody could who can forge its address and knows, or guesses,
//! where its streams are.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Result, bail};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, bind, getsockopt,
    sendto, setsockopt, socket,
};

use crate::ns::Ns;
use crate::raw::Raw;

/// Options that nix does not know.
mod option {
    use nix::{getsockopt_impl, libc, setsockopt_impl, sockopt_impl};

    sockopt_impl!(
        /// Lets the next two be asked for.
        Repair, Both, libc::IPPROTO_TCP, libc::TCP_REPAIR, i32
    );
    sockopt_impl!(
        /// Which queue is meant.
        Queue, Both, libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, i32
    );
    sockopt_impl!(
        /// The sequence number of its end.
        Sequence, GetOnly, libc::IPPROTO_TCP, libc::TCP_QUEUE_SEQ, u32
    );
    sockopt_impl!(
        /// The connection's time stamp now.
        Stamp, GetOnly, libc::IPPROTO_TCP, libc::TCP_TIMESTAMP, u32
    );
    sockopt_impl!(
        /// `struct tcp_info`.
        Info, GetOnly, libc::IPPROTO_TCP, libc::TCP_INFO, [u8; 192]
    );
}

/// `tcpi_notsent_bytes`.
const NOT_SENT: std::ops::Range<usize> = 144..148;

/// Flags of the header.
pub const FIN: u8 = 1;
/// Begins a connection.
pub const SYN: u8 = 2;
/// Breaks it off.
pub const RST: u8 = 4;
/// Acknowledges.
pub const ACK: u8 = 16;

/// IPv6: a fragment header, here of a packet that is whole.
pub const FRAGMENT: u8 = 44;
/// IPv6: options for the destination.
pub const OPTIONS: u8 = 60;

/// A segment, relative to where the connection was when its [`Forge`] was made.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// How far its first byte lies beyond the client's next one.
    pub offset: i32,
    /// Its payload.
    pub payload: &'static [u8],
    /// Its flags.
    pub flags: u8,
    /// How far its acknowledgement lies beyond the right one.
    pub acknowledges: i32,
    /// It has a time stamp that lies so far beyond the right one.
    pub stamp: Option<i32>,
    /// Its checksum is right.
    pub intact: bool,
    /// IPv6: the headers before it.
    pub extensions: &'static [u8],
}

impl Segment {
    /// A good segment with this payload.
    #[must_use]
    pub const fn new(offset: i32, payload: &'static [u8]) -> Self {
        Self { offset, payload, flags: ACK, acknowledges: 0, stamp: None, intact: true, extensions: &[] }
    }
}

/// Sends segments in a client's name.
#[derive(Debug)]
pub struct Forge {
    socket: OwnedFd,
    from: SocketAddr,
    to: SocketAddr,
    next: u32,
    acknowledged: u32,
    stamp: u32,
}

impl Forge {
    /// Asks the kernel where a client's connection is; `ns` is the client's.
    ///
    /// # Errors
    /// Without privilege.
    pub fn of(ns: &Ns, raw: &Raw) -> Result<Self> {
        let stream = raw.stream();
        setsockopt(stream, option::Repair, &1)?;
        let queue = |number: i32| -> Result<u32> {
            setsockopt(stream, option::Queue, &number)?;
            Ok(getsockopt(stream, option::Sequence)?)
        };
        let (written, acknowledged) = (queue(2), queue(1));
        // Leaves without a window probe.
        setsockopt(stream, option::Repair, &-1)?;
        let info = getsockopt(stream, option::Info)?;
        let not_sent = u32::from_ne_bytes(info[NOT_SENT].try_into()?);
        let (from, to) = (stream.local_addr()?, stream.peer_addr()?);
        let socket = ns.inside(|| -> Result<OwnedFd> {
            let (family, protocol) = match from {
                SocketAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Tcp),
                SocketAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::Raw),
            };
            let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
            match from {
                SocketAddr::V4(from) => bind(socket.as_raw_fd(), &SockaddrIn::from(from))?,
                SocketAddr::V6(from) => {
                    bind(socket.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(*from.ip(), 0, 0, 0)))?;
                }
            }
            Ok(socket)
        })?;
        let (next, stamp) = (written?.wrapping_sub(not_sent), getsockopt(stream, option::Stamp)?);
        Ok(Self { socket, from, to, next, acknowledged: acknowledged?, stamp })
    }

    /// Sends a segment.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn send(&self, segment: &Segment) -> Result<()> {
        let tcp = self.written(segment);
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(_), IpAddr::V4(to)) => {
                let [a, b, c, d] = to.octets();
                sendto(self.socket.as_raw_fd(), &tcp, &SockaddrIn::new(a, b, c, d, 0), MsgFlags::empty())?;
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut packet = vec![0x60, 0, 0, 0];
                let length = segment.extensions.len() * 8 + tcp.len();
                packet.extend(u16::try_from(length)?.to_be_bytes());
                packet.extend([segment.extensions.first().copied().unwrap_or(TCP), 64]);
                packet.extend(from.octets());
                packet.extend(to.octets());
                for (place, kind) in segment.extensions.iter().enumerate() {
                    let next = segment.extensions.get(place + 1).copied().unwrap_or(TCP);
                    // Padding, or where the fragment lies and its number.
                    let rest = if *kind == OPTIONS { [1, 4, 0, 0, 0, 0] } else { [0, 0, 0, 0, 0, 7] };
                    packet.extend([next, 0]);
                    packet.extend(rest);
                }
                packet.extend(tcp);
                let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, 0));
                sendto(self.socket.as_raw_fd(), &packet, &to, MsgFlags::empty())?;
            }
            mixed => bail!("{mixed:?} do not talk to each other"),
        }
        Ok(())
    }

    fn written(&self, segment: &Segment) -> Vec<u8> {
        let stamp = segment.stamp.map(|offset| self.stamp.wrapping_add_signed(offset));
        let words = if stamp.is_some() { 8 } else { 5 };
        let mut tcp = Vec::new();
        tcp.extend(self.from.port().to_be_bytes());
        tcp.extend(self.to.port().to_be_bytes());
        tcp.extend(self.next.wrapping_add_signed(segment.offset).to_be_bytes());
        let acknowledged = self.acknowledged.wrapping_add_signed(segment.acknowledges);
        tcp.extend((if segment.flags & ACK != 0 { acknowledged } else { 0 }).to_be_bytes());
        // A window; the checksum; no urgent data.
        tcp.extend([words << 4, segment.flags, 0x20, 0, 0, 0, 0, 0]);
        if let Some(stamp) = stamp {
            tcp.extend([1, 1, 8, 10]);
            tcp.extend(stamp.to_be_bytes());
            tcp.extend([0; 4]);
        }
        tcp.extend(segment.payload);
        let sum = checksum(self.from.ip(), self.to.ip(), &tcp);
        tcp[16..18].copy_from_slice(&(if segment.intact { sum } else { !sum }).to_be_bytes());
        tcp
    }
}

const TCP: u8 = 6;

/// RFC 9293, section 3.1, and RFC 8200, section 8.1.
fn checksum(from: IpAddr, to: IpAddr, segment: &[u8]) -> u16 {
    let mut all = Vec::new();
    for address in [from, to] {
        match address {
            IpAddr::V4(v4) => all.extend(v4.octets()),
            IpAddr::V6(v6) => all.extend(v6.octets()),
        }
    }
    all.extend([0, TCP]);
    all.extend((segment.len() as u16).to_be_bytes());
    all.extend(segment);
    let words = all.chunks(2).map(|two| u16::from_be_bytes([two[0], two.get(1).copied().unwrap_or(0)]));
    let mut sum: u32 = words.map(u32::from).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
