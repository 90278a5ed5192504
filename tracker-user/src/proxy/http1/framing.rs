//! The fields of an HTTP/1 head as they are parsed, and where the content behind it ends (RFC 9112, section 6).

use std::mem::MaybeUninit;

use crate::proxy::message::{Fields, Name};

/// The most fields that a head may have.
pub(super) const MAX_FIELDS: usize = 128;

/// Room for what is parsed.
pub(super) const fn room<'a>() -> [MaybeUninit<httparse::Header<'a>>; MAX_FIELDS] {
    [const { MaybeUninit::uninit() }; MAX_FIELDS]
}

/// A number of bytes as `Content-Length` has it: digits only.
pub(super) fn length(value: &[u8]) -> Option<u64> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(value).ok().filter(|_| digits)?.parse().ok().filter(|&length| length <= MAX_LENGTH)
}

/// No content is this long; sums stay far from overflowing.
pub(super) const MAX_LENGTH: u64 = u64::MAX / 4;

/// How a message with content says where that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Framing {
    pub(super) chunked: bool,
    pub(super) length: Option<u64>,
}

/// Two framings, or one that cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::proxy) enum BadFraming {
    #[error("Content-Length is not one number")]
    Length,
    #[error("the transfer coding is not chunked")]
    Coding,
    #[error("both Transfer-Encoding and Content-Length are there")]
    Both,
}

impl BadFraming {
    /// For the person at the client.
    pub(in crate::proxy) const fn user_words(self) -> &'static str {
        match self {
            Self::Length => "its Content-Length is not one number",
            Self::Coding => "its transfer coding is not chunked",
            Self::Both => "it has both a Transfer-Encoding and a Content-Length",
        }
    }
}

/// RFC 9112, section 6. The same length said several times, in one line or in several, is one.
pub(super) fn framing(fields: &Fields, head: &[u8]) -> Result<Framing, BadFraming> {
    let mut said = None;
    for value in fields.all(head, Name::ContentLength) {
        for member in value.split(|&b| b == b',') {
            let length = length(member.trim_ascii()).ok_or(BadFraming::Length)?;
            if said.replace(length).is_some_and(|before| before != length) {
                return Err(BadFraming::Length);
            }
        }
    }
    let mut codings = fields.all(head, Name::TransferEncoding);
    let chunked = match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(only), None) if only.eq_ignore_ascii_case(b"chunked") => true,
        _ => return Err(BadFraming::Coding),
    };
    if chunked && said.is_some() {
        return Err(BadFraming::Both);
    }
    Ok(Framing { chunked, length: said })
}
/// The fields that were parsed out of `head`.
pub(super) fn fields<'a>(parsed: &[httparse::Header<'a>], head: &'a [u8]) -> Fields {
    Fields::of(parsed.iter().map(|field| (field.name.as_bytes(), field.value)), head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing_of(lines: &str) -> Result<Framing, BadFraming> {
        let parsed = lines.lines().map(|line| {
            let (name, value) = line.split_once(':').unwrap();
            (name.as_bytes(), value.as_bytes())
        });
        framing(&Fields::of(parsed, lines.as_bytes()), lines.as_bytes())
    }

    #[test]
    fn one_framing_or_none() {
        let known = |length| Ok(Framing { chunked: false, length });
        for (lines, expected) in [
            ("", known(None)),
            ("Content-Length: 5\r\n", known(Some(5))),
            ("Content-Length: 5\r\nContent-Length: 5\r\n", known(Some(5))),
            ("Content-Length: 5, 5\r\n", known(Some(5))),
            ("Content-Length: 05\r\n", known(Some(5))),
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Err(BadFraming::Length)),
            ("Content-Length: 5,\r\n", Err(BadFraming::Length)),
            ("Content-Length:\r\n", Err(BadFraming::Length)),
            ("Content-Length: +5\r\n", Err(BadFraming::Length)),
            ("Content-Length: 0x5\r\n", Err(BadFraming::Length)),
            ("Content-Length: 18446744073709551615\r\n", Err(BadFraming::Length)),
            ("Content-Length: 99999999999999999999\r\n", Err(BadFraming::Length)),
            ("Transfer-Encoding: Chunked\r\n", Ok(Framing { chunked: true, length: None })),
            ("Transfer-Encoding: gzip, chunked\r\n", Err(BadFraming::Coding)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(BadFraming::Coding)),
            ("Transfer-Encoding:\r\n", Err(BadFraming::Coding)),
            ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(BadFraming::Both)),
        ] {
            assert_eq!(framing_of(lines), expected, "{lines:?}");
        }
    }
}
