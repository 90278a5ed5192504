//! Version 1: a line of text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Header, Parsed, Refused};

/// What it begins with.
pub(super) const BEGIN: &[u8] = b"PROXY ";
/// The length of the shortest one, `PROXY UNKNOWN`.
pub(super) const MIN: usize = 15;
/// The length of the longest one, with its end.
pub(super) const MAX: usize = 107;

/// What these bytes are, which begin like one.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed, Refused> {
    // No more was read than the shortest line has: where it ends within that, the line says nothing that is known.
    let end = bytes.iter().position(|byte| *byte == b'\n');
    let Some(line) = end.and_then(|end| bytes.get(..end)) else {
        return match MAX.saturating_sub(bytes.len()) {
            0 => Err(Refused::Malformed("its line has no end")),
            more => Ok(Parsed::Line(more)),
        };
    };
    let said = line.strip_suffix(b"\r").ok_or(Refused::Malformed("its line does not end with CR LF"))?;
    let said = said.strip_prefix(BEGIN).ok_or(Refused::Missing)?;
    let said = str::from_utf8(said).map_err(|_| Refused::Malformed("its line is not ASCII"))?;
    let (protocol, rest) = said.split_once(' ').unwrap_or((said, ""));
    match protocol {
        "TCP4" => client::<Ipv4Addr>(rest),
        "TCP6" => client::<Ipv6Addr>(rest),
        // Whatever follows is to be ignored.
        "UNKNOWN" => Err(Refused::Unknown),
        _ => Err(Refused::Malformed("it is of no known protocol")),
    }
}

/// Source, destination, and their ports.
fn client<A: FromStr + Into<IpAddr>>(rest: &str) -> Result<Parsed, Refused> {
    let address = |text: &str| text.parse::<A>().map_err(|_| Refused::Malformed("it has a bad address"));
    let mut words = rest.split(' ');
    let mut word = || words.next().ok_or(Refused::Malformed("something is missing in it"));
    let (source, _) = (address(word()?)?, address(word()?)?);
    let (port, _) = (port(word()?)?, port(word()?)?);
    if words.next().is_some() {
        return Err(Refused::Malformed("something follows its ports"));
    }
    Ok(Parsed::Done(Header::Client(SocketAddr::new(source.into(), port))))
}

/// A port as it has to be written: digits, and no 0 before them.
fn port(text: &str) -> Result<u16, Refused> {
    let is_well_formed =
        text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let port = text.parse().ok().filter(|_| is_well_formed);
    port.ok_or(Refused::Malformed("it has a bad port"))
}
