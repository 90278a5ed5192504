//! HTTP/1 on the wire (RFC 9112), as a proxy sees it: heads are read where they lie and written anew, content is passed
//! on from the buffer it was read into.
//!
//! Strict in what is ambiguous: a message that two parsers could frame in two ways is refused. What is passed on was
//! understood first, and is written in our own words: line ends, framing and hop-by-hop fields are always ours.

mod body;
mod chunked;
mod discard;
mod framing;
mod head_end;
mod request;
mod response;
mod transfer;

#[cfg(test)]
pub(super) use self::body::Step;
pub(super) use self::body::{Body, Coding};
pub(super) use self::discard::Discard;
#[cfg(test)]
pub(super) use self::framing::BadFraming;
pub(super) use self::head_end::HeadEnd;
pub(super) use self::request::{BadRequest, Onward, Request, onward};
pub(super) use self::response::{BadResponse, Response, ResponseContent, ResponseHead};
pub(super) use self::transfer::{Broke, Transfer};
use super::message::Version;

/// The largest head: a ticket with many groups, as base64, and room for the rest.
pub(super) const MAX_HEAD: usize = 160 * 1024;

/// Adds the parts to a head.
pub(super) fn put(head: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| head.extend_from_slice(part));
}

impl Version {
    const fn of(minor: Option<u8>) -> Self {
        match minor {
            Some(0) => Self::Http10,
            _ => Self::Http11,
        }
    }

    /// As it begins a status line.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }
}
