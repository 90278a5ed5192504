//! HTTP/1 on the wire (RFC 9112), as a proxy sees it: heads are read where they lie and written anew, content is passed
//! on from the buffer it was read into.
//!
//! Strict in what is ambiguous: a message that two parsers could frame in two ways is refused. What is passed on was
//! understood first, and is written in our own words: line ends, framing and hop-by-hop fields are always ours.

mod body;
mod buffer;
mod chunked;
mod discard;
mod fields;
mod head_end;
mod request;
mod response;
mod schemes;
mod transfer;

pub(super) use self::body::{Body, Coding};
pub(super) use self::buffer::Buffer;
pub(super) use self::discard::Discard;
pub(super) use self::fields::{BadFraming, Name};
pub(super) use self::head_end::HeadEnd;
pub(super) use self::request::{BadRequest, Method, Onward, Request};
pub(super) use self::response::{Answered, BadResponse, Recipient, Response, connection};
pub(super) use self::transfer::{Broke, Transfer};

/// The largest head: a ticket with many groups, as base64, and room for the rest.
pub(super) const MAX_HEAD: usize = 160 * 1024;

/// Adds the parts to a head.
fn put(head: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| head.extend_from_slice(part));
}

/// The protocol version of a message; anything newer than 1.1 under major version 1 would be read as 1.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Version {
    /// No chunks, and connections are not kept unless it is asked for.
    Http10,
    #[default]
    Http11,
}

impl Version {
    const fn of(minor: Option<u8>) -> Self {
        match minor {
            Some(0) => Self::Http10,
            _ => Self::Http11,
        }
    }

    /// As `Via` has it.
    const fn number(self) -> &'static [u8] {
        match self {
            Self::Http10 => b"1.0",
            Self::Http11 => b"1.1",
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
