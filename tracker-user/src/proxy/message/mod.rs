//! HTTP messages whatever version carries them (RFC 9110): a request's head with the bytes that it was read from, and
//! fields by name. How a version writes them down is the business of `http1`.

mod fields;
mod request;
mod schemes;

pub(super) use self::fields::{Fields, Line, Name, Span};
pub(super) use self::request::{Content, Method, RequestHead, RequestLine, Target};

/// The protocol version of a message; anything newer than 1.1 under major version 1 would be read as 1.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Version {
    /// No chunks, and connections are not kept unless it is asked for.
    Http10,
    #[default]
    Http11,
}

impl Version {
    /// As `Via` has it.
    pub(super) const fn number(self) -> &'static [u8] {
        match self {
            Self::Http10 => b"1.0",
            Self::Http11 => b"1.1",
        }
    }
}
