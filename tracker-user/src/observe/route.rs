//! By which link an address is reached: the kernel's routing table, asked for each address anew.

use std::io;
use std::net::IpAddr;

use super::netlink::{Netlink, malformed};

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;

/// The interface's number; `None` where the address is this host's own, lies behind a next hop, or cannot be reached.
pub(super) fn link(netlink: &mut Netlink, address: IpAddr) -> io::Result<Option<u32>> {
    let (family, bytes) = match address {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    // struct rtmsg: family, length of the destination in bits, ten bytes that are not asked for; then the destination.
    let mut request = vec![0; 12];
    if let [kind, bits, ..] = request.as_mut_slice() {
        (*kind, *bits) = (family as u8, (bytes.len() * 8) as u8);
    }
    request.extend(((4 + bytes.len()) as u16).to_ne_bytes());
    request.extend(libc::RTA_DST.to_ne_bytes());
    request.extend(bytes);
    let mut found = None;
    let asked = netlink.query(RTM_GETROUTE, &request, |kind, message| {
        if kind == RTM_NEWROUTE {
            found = read(message)?;
        }
        Ok(())
    });
    match asked {
        Ok(()) => Ok(found),
        Err(error) => match error.raw_os_error() {
            // What a route of the kinds unreachable, prohibit and blackhole answers, and where there is none.
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL) => Ok(None),
            _ => Err(error),
        },
    }
}

/// `struct rtmsg`: the kind of route is its eighth byte.
fn read(message: &[u8]) -> io::Result<Option<u32>> {
    let short = || malformed("a route that is cut off");
    let (header, mut rest) = message.split_first_chunk::<12>().ok_or_else(short)?;
    let [_, _, _, _, _, _, _, route, ..] = *header;
    if route != libc::RTN_UNICAST {
        return Ok(None);
    }
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
