//! Version 2: binary.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Header, Parsed, Refused};

/// What it begins with: nothing that HTTP or TLS could begin with.
pub(super) const BEGIN: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family and protocol, and how much follows.
const FIXED: usize = 16;
/// Two IPv6 addresses and ports.
const MOST_ADDRESSES: usize = 36;
/// So much room the specification wants there to be for what balancers add (section 2.2).
const MOST_ADDITIONS: usize = 536;
/// No longer header is read.
pub(super) const MAX: usize = FIXED + MOST_ADDRESSES + MOST_ADDITIONS;

/// The type of the addition that holds the checksum.
const CRC32C: u8 = 3;

const CUT: Refused = Refused::Malformed("what it adds is longer than it says");

/// What these bytes are, which begin like one.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Refused> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else {
        return Ok(Parsed::More(FIXED.saturating_sub(bytes.len())));
    };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED + length > MAX {
        return Err(Refused::Malformed("it is too long"));
    }
    if !matches!(command, 0x20 | 0x21) {
        return Err(Refused::Malformed("it is of no known version or command"));
    }
    if rest.len() < length {
        return Ok(Parsed::More(length - rest.len()));
    }
    if command == 0x20 {
        // Addresses and all else are to be ignored.
        return Ok(Parsed::Done(Header::Local));
    }
    let cut = Refused::Malformed("its addresses are cut");
    let (client, additions) = match family {
        0x11 => {
            let ([a, b, c, d, _, _, _, _, high, low, _, _], rest) =
                rest.split_first_chunk::<12>().ok_or(cut)?;
            let port = u16::from_be_bytes([*high, *low]);
            (SocketAddr::from((Ipv4Addr::new(*a, *b, *c, *d), port)), rest)
        }
        0x21 => {
            let (addresses, rest) = rest.split_first_chunk::<MOST_ADDRESSES>().ok_or(cut)?;
            let (source, others) = addresses.split_first_chunk::<16>().ok_or(cut)?;
            let port = others.get(16..).and_then(|ports| ports.first_chunk()).copied().ok_or(cut)?;
            (SocketAddr::from((Ipv6Addr::from_octets(*source), u16::from_be_bytes(port))), rest)
        }
        // Unspecified, or a Unix socket: there is no address to know a client by.
        0x00 | 0x31 | 0x32 => return Err(Refused::Unknown),
        0x12 | 0x22 => return Err(Refused::Malformed("it is of a datagram")),
        _ => return Err(Refused::Malformed("it is of no known family or protocol")),
    };
    check(bytes, additions)?;
    Ok(Parsed::Done(Header::Client(client)))
}

/// Walks over what was added to the addresses: none of it counts but the checksum, where there is one.
fn check(header: &[u8], mut additions: &[u8]) -> Result<(), Refused> {
    while let Some((&[kind, high, low], rest)) = additions.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([high, low]));
        let (value, rest) = rest.split_at_checked(length).ok_or(CUT)?;
        if kind == CRC32C {
            let place = header.len() - rest.len() - length;
            let sum = <[u8; 4]>::try_from(value).map_err(|_| Refused::Malformed("its checksum is none"))?;
            if u32::from_be_bytes(sum) != crc32c(header, place) {
                return Err(Refused::Malformed("its checksum is wrong"));
            }
        }
        additions = rest;
    }
    if additions.is_empty() { Ok(()) } else { Err(CUT) }
}

/// The CRC-32C of a header whose own checksum, at `place`, counts as 0 (RFC 9260, appendix A). Bit by bit: a header is short.
pub(super) fn crc32c(header: &[u8], place: usize) -> u32 {
    let own = place..place + 4;
    let bytes = header.iter().enumerate().map(|(at, byte)| if own.contains(&at) { 0 } else { *byte });
    !bytes.fold(u32::MAX, |sum, byte| {
        (0..8).fold(
            sum ^ u32::from(byte),
            |sum, _| if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 },
        )
    })
}
