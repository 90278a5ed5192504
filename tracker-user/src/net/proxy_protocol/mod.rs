//! The PROXY protocol, versions 1 and 2 (proxy-protocol.txt of `HAProxy`): what a balancer says of the client before that says
//! anything itself.
//!
//! Read here and not by one of the crates for it: of a header, this must know while it comes which bytes are certainly still
//! its own, since what follows belongs to TLS or HTTP; and the crates believe what is none (`PROXY` without its space, ports
//! like `+80`, datagrams) and do not look at the checksum. Nothing of a header but the client's address is believed: what it
//! says of names, certificates and TLS is skipped.

mod credible;
mod v1;
mod v2;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

pub use self::credible::Caller;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// The connection is this client's.
    Client(SocketAddr),
    /// It is the balancer's own: a health check.
    Local,
}

/// Why there is no header, or none that says who the client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The connection was closed before anything came.
    #[error("it was closed before a header came")]
    Closed,
    /// Something else came.
    #[error("it does not begin with a PROXY header")]
    Missing,
    /// The sender does not know the client, or it has no address.
    #[error("the PROXY header does not say who the client is")]
    Unknown,
    /// It is not well formed.
    #[error("the PROXY header is not well formed: {0}")]
    Malformed(&'static str),
    /// No client has this address.
    #[error("the PROXY header names no client: {0}")]
    Address(&'static str),
}

/// What is known of a header of which some bytes are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parsed {
    /// This many more bytes are certainly the header's.
    More(usize),
    /// It ends with the next line feed, which comes within this many bytes.
    Line(usize),
    /// All of it is there.
    Done(Header),
}

/// Whether what a connection has said begins with a header of either version.
#[must_use]
pub fn is_header(bytes: &[u8]) -> bool {
    bytes.starts_with(v1::BEGIN) || bytes.starts_with(v2::BEGIN)
}

/// What these first bytes of a connection are.
fn parse(bytes: &[u8]) -> Result<Parsed, Refused> {
    if bytes.is_empty() {
        // As many as the shortest header has.
        return Ok(Parsed::More(v1::MIN));
    }
    let begins = |begin: &[u8]| bytes.iter().zip(begin).all(|(byte, expected)| byte == expected);
    match (begins(v1::BEGIN), begins(v2::BEGIN)) {
        (true, _) => v1::parse(bytes),
        (_, true) => v2::parse(bytes),
        _ => Err(Refused::Missing),
    }
}

/// Reads the header that a connection begins with, and not one byte more. It waits for as long as that takes.
///
/// # Errors
/// When it begins with none, or with one that does not say who the client is.
pub async fn read(stream: &mut TcpStream) -> Result<Header, Refused> {
    let mut header = Vec::new();
    loop {
        let certain = match parse(&header)? {
            Parsed::Done(header) => return Ok(header),
            Parsed::More(more) => more,
            Parsed::Line(most) => line(stream, most).await.map_err(|_| Refused::Closed)?,
        };
        let before = header.len();
        let read = (&mut *stream).take(certain as u64).read_buf(&mut header).await;
        if !matches!(read, Ok(1..)) {
            return Err(if before == 0 { Refused::Closed } else { Refused::Malformed("it breaks off") });
        }
    }
}

/// How many of the bytes that have come belong to the line, without taking them.
async fn line(stream: &TcpStream, most: usize) -> io::Result<usize> {
    let mut ahead = [0; v1::MAX];
    let room = ahead.get_mut(..most).unwrap_or_default();
    let seen = stream.peek(room).await?;
    let seen = room.get(..seen).unwrap_or_default();
    // Where nothing has come, the read that follows finds the end.
    Ok(seen.iter().position(|byte| *byte == b'\n').map_or(seen.len(), |end| end + 1).max(1))
}
