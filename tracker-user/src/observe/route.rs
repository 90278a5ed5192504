//! Where the kernel would send a connection, by netlink: out, to this very host, or nowhere.
//!
//! The kernel alone knows: an address is the host's own by its interfaces, by a route of type `local`, in any table that a
//! rule leads to. Nothing is remembered; each connection is a question of its own, of some microseconds.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::socket::SockProtocol;
use tracing::{info, warn};

use super::netlink::{Door, Netlink, malformed};

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
/// Attributes of a question (linux/rtnetlink.h): rules may go by protocol and port.
const RTA_DST: u16 = 1;
const RTA_IP_PROTO: u16 = 27;
const RTA_DPORT: u16 = 29;

/// Where a connection would go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Out of one of the interfaces.
    Out,
    /// To this host: one of its addresses, or a route of type `local` or `anycast`.
    Here,
    /// To everybody on a link.
    Broadcast,
    /// To a group.
    Multicast,
    /// Nowhere: there is no route, or one that refuses. The system's error number.
    Nowhere(i32),
}

/// Asks the kernel. It belongs to the network namespace of the thread that asks first.
pub struct Routes {
    door: Door,
    /// The last question had no answer.
    failing: AtomicBool,
}

impl Default for Routes {
    fn default() -> Self {
        Self { door: Door::new(SockProtocol::NetlinkRoute), failing: AtomicBool::new(false) }
    }
}

impl Routes {
    /// Takes what is needed to ask, so that a later want of descriptors does not stand in the way.
    ///
    /// # Errors
    /// When it cannot be had; it is tried again with the first question.
    pub fn prepare(&self) -> io::Result<()> {
        self.door.with(|_| Ok(()))
    }

    /// Where a TCP connection of this process to that address and port would go at this moment.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or says what is not understood: then it is not known, and nothing may rest on it.
    pub fn of(&self, address: IpAddr, port: u16) -> io::Result<Route> {
        let answer = self.door.with(|netlink| {
            let answered = netlink.one(RTM_GETROUTE, &question(address, Some(port)), read);
            match answered {
                // An answer like others: the socket is as good as before.
                Err(error) => nowhere(&error).map_or(Err(error), |number| Ok(Route::Nowhere(number))),
                answered => answered,
            }
        });
        // Said once, not for each of the connections that are refused for it.
        if answer.is_err() != self.failing.load(Ordering::Relaxed) {
            self.failing.store(answer.is_err(), Ordering::Relaxed);
            match &answer {
                Err(error) => {
                    warn!(%error, "the kernel cannot be asked for routes: connections to origins are refused");
                }
                Ok(_) => info!("the kernel answers again where destinations lead"),
            }
        }
        answer
    }
}

/// The interface by which an address is reached; `None` where it is this host's own, lies behind a next hop, or cannot be
/// reached.
pub(super) fn link(netlink: &mut Netlink, address: IpAddr) -> io::Result<Option<u32>> {
    netlink.one(RTM_GETROUTE, &question(address, None), read_link).or_else(|error| match nowhere(&error) {
        Some(_) => Ok(None),
        None => Err(error),
    })
}

/// `struct rtmsg` and attributes; with a port, of a TCP connection to that.
fn question(address: IpAddr, port: Option<u16>) -> Vec<u8> {
    let (family, bytes) = match address {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    let bits = u8::try_from(bytes.len() * 8).unwrap_or(0);
    let mut request = vec![u8::try_from(family).unwrap_or(0), bits, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut attributes = vec![(RTA_DST, bytes)];
    if let Some(port) = port {
        attributes.push((RTA_IP_PROTO, vec![u8::try_from(libc::IPPROTO_TCP).unwrap_or(0)]));
        attributes.push((RTA_DPORT, port.to_be_bytes().to_vec()));
    }
    for (kind, value) in attributes {
        let length = u16::try_from(4 + value.len()).unwrap_or(0);
        request.extend(length.to_ne_bytes());
        request.extend(kind.to_ne_bytes());
        request.extend(value);
        request.resize(request.len().next_multiple_of(4), 0);
    }
    request
}

/// Reads the type that a route has.
fn read(kind: u16, message: &[u8]) -> io::Result<Route> {
    let header = message.first_chunk::<12>().filter(|_| kind == RTM_NEWROUTE);
    let [_, _, _, _, _, _, _, route_type, ..] = *header.ok_or_else(|| malformed("no route"))?;
    match route_type {
        libc::RTN_UNICAST => Ok(Route::Out),
        libc::RTN_LOCAL | libc::RTN_ANYCAST => Ok(Route::Here),
        libc::RTN_BROADCAST => Ok(Route::Broadcast),
        libc::RTN_MULTICAST => Ok(Route::Multicast),
        libc::RTN_BLACKHOLE => Ok(Route::Nowhere(libc::EINVAL)),
        libc::RTN_UNREACHABLE => Ok(Route::Nowhere(libc::EHOSTUNREACH)),
        libc::RTN_PROHIBIT => Ok(Route::Nowhere(libc::EACCES)),
        other => Err(malformed(format_args!("a route of type {other}"))),
    }
}

/// Reads the interface that a route leads out of, if the address lies on its link.
fn read_link(kind: u16, message: &[u8]) -> io::Result<Option<u32>> {
    if read(kind, message)? != Route::Out {
        return Ok(None);
    }
    let short = || malformed("a route that is cut off");
    let (_, mut rest) = message.split_first_chunk::<12>().ok_or_else(short)?;
    let mut link = None;
    while let Some((head, _)) = rest.split_first_chunk::<4>() {
        let [length_low, length_high, kind_low, kind_high] = *head;
        let length = usize::from(u16::from_ne_bytes([length_low, length_high]));
        let value = rest.get(4..length).ok_or_else(short)?;
        match u16::from_ne_bytes([kind_low, kind_high]) {
            libc::RTA_OIF => link = value.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes)),
            libc::RTA_GATEWAY | libc::RTA_VIA => return Ok(None),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(link)
}

/// The errors by which IPv4 says that a route leads nowhere: none, unreachable, prohibited, a black hole.
fn nowhere(error: &io::Error) -> Option<i32> {
    let ends = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EACCES, libc::EINVAL];
    error.raw_os_error().filter(|number| ends.contains(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_addresses_are_here() {
        let routes = Routes::default();
        routes.prepare().unwrap();
        for address in ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0"] {
            assert_eq!(routes.of(address.parse().unwrap(), 80).unwrap(), Route::Here, "{address}");
        }
        let multicast = routes.of("224.0.0.1".parse().unwrap(), 80).unwrap();
        // A host without any network has no route for it.
        assert!(matches!(multicast, Route::Multicast | Route::Nowhere(_)), "{multicast:?}");
    }

    #[test]
    fn types_are_read_and_what_is_unknown_is_no_answer() {
        let message = |kind: u8| [2, 32, 0, 0, 254, 2, 0, kind, 0, 0, 0, 0];
        for (kind, route) in [
            (1, Some(Route::Out)),
            (2, Some(Route::Here)),
            (3, Some(Route::Broadcast)),
            (4, Some(Route::Here)),
            (5, Some(Route::Multicast)),
            (6, Some(Route::Nowhere(libc::EINVAL))),
            (7, Some(Route::Nowhere(libc::EHOSTUNREACH))),
            (8, Some(Route::Nowhere(libc::EACCES))),
            (0, None),
            (9, None),
            (77, None),
        ] {
            assert_eq!(read(RTM_NEWROUTE, &message(kind)).ok(), route, "{kind}");
        }
        assert!(read(RTM_NEWROUTE, &[2; 11]).is_err() && read(RTM_GETROUTE, &message(1)).is_err());
    }

    #[test]
    fn a_question_is_laid_out_as_the_kernel_reads_it() {
        let asked = question("192.0.2.1".parse().unwrap(), Some(443));
        assert_eq!(asked.len(), 12 + 8 + 8 + 8);
        assert_eq!((asked[0], asked[1]), (2, 32));
        assert_eq!(asked[12..20], [8_u16.to_ne_bytes(), 1_u16.to_ne_bytes(), [192, 0], [2, 1]].concat());
        assert_eq!(asked[32..34], [1, 187]);
        assert_eq!(question("2001:db8::1".parse().unwrap(), Some(80)).len(), 12 + 20 + 8 + 8);
    }
}
