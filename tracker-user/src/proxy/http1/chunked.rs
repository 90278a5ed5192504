//! The chunked transfer coding (RFC 9112, section 7.1), read strictly: what goes on is either exactly what was
//! understood, or our own words for it. Extensions are left out; trailers go on without the fields that frame or route.

use super::body::{BadBody, Step};
use super::framing::{MAX_FIELDS, fields};
use crate::proxy::message::Name;

/// The longest line that a chunk may begin with.
const MAX_SIZE_LINE: usize = 4 * 1024;

/// The largest section of trailers.
const MAX_TRAILERS: usize = 16 * 1024;

/// More digits than any chunk's size needs.
const MAX_DIGITS: usize = 15;

/// How far it is read.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Chunks(State);

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Before the line with a chunk's size.
    Size,
    /// Within a chunk.
    Data(u64),
    /// Before the line end that follows a chunk.
    DataEnd,
    /// Behind the last chunk.
    Trailers,
    Over,
}

impl Chunks {
    pub(super) const fn new() -> Self {
        Self(State::Size)
    }

    pub(super) const fn is_over(&self) -> bool {
        matches!(self.0, State::Over)
    }

    pub(super) fn step(&mut self, bytes: &[u8]) -> Result<Step, BadBody> {
        match self.0 {
            State::Over => Ok(Step::End),
            State::Size => self.size(bytes),
            State::Trailers => self.trailers(bytes),
            State::Data(_) if bytes.is_empty() => Ok(Step::More),
            State::Data(left) => {
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let left = left - count as u64;
                self.0 = if left == 0 { State::DataEnd } else { State::Data(left) };
                Ok(Step::Pass { count, content: true })
            }
            State::DataEnd => match bytes {
                [b'\r', b'\n', ..] => {
                    self.0 = State::Size;
                    Ok(Step::Pass { count: 2, content: false })
                }
                [] | [b'\r'] => Ok(Step::More),
                _ => Err(BadBody::ChunkEnd),
            },
        }
    }

    fn size(&mut self, bytes: &[u8]) -> Result<Step, BadBody> {
        let digits = bytes.iter().take(MAX_DIGITS + 1).take_while(|b| b.is_ascii_hexdigit()).count();
        if digits > MAX_DIGITS || (digits == 0 && !bytes.is_empty()) {
            return Err(BadBody::ChunkSize);
        }
        let Some(end) = bytes.iter().take(MAX_SIZE_LINE).position(|&b| b == b'\n') else {
            return if bytes.len() < MAX_SIZE_LINE { Ok(Step::More) } else { Err(BadBody::Extension) };
        };
        let line = bytes.get(..end).and_then(|line| line.strip_suffix(b"\r")).ok_or(BadBody::ChunkSize)?;
        let (number, extension) = line.split_at_checked(digits).unwrap_or_default();
        let size = std::str::from_utf8(number).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let size = size.ok_or(BadBody::ChunkSize)?;
        let count = end + 1;
        match extension.trim_ascii_start() {
            [] if extension.is_empty() => {}
            [] | [b';', ..] => {}
            _ => return Err(BadBody::ChunkSize),
        }
        if extension.contains(&b'\r') {
            return Err(BadBody::ChunkSize);
        }
        if size == 0 {
            return match bytes.get(count..).unwrap_or_default() {
                // Nothing is said before it is known whether there are trailers.
                [] | [b'\r'] => Ok(Step::More),
                [b'\r', b'\n', ..] if extension.is_empty() => {
                    self.0 = State::Over;
                    Ok(Step::Pass { count: count + 2, content: false })
                }
                _ => {
                    self.0 = State::Trailers;
                    Ok(Step::Replace { count, by: Vec::new() })
                }
            };
        }
        self.0 = State::Data(size);
        Ok(if extension.is_empty() {
            Step::Pass { count, content: false }
        } else {
            Step::Replace { count, by: format!("{size:x}\r\n").into_bytes() }
        })
    }

    fn trailers(&mut self, bytes: &[u8]) -> Result<Step, BadBody> {
        let mut room = [httparse::EMPTY_HEADER; MAX_FIELDS];
        match httparse::parse_headers(bytes, &mut room) {
            Err(_) => Err(BadBody::Trailers),
            Ok(httparse::Status::Partial) if bytes.len() < MAX_TRAILERS => Ok(Step::More),
            Ok(httparse::Status::Partial) => Err(BadBody::Trailers),
            Ok(httparse::Status::Complete((count, parsed))) => {
                let fields = fields(parsed, bytes);
                let mut by = b"0\r\n".to_vec();
                for line in fields.iter(bytes).filter(|line| line.known == Name::Other) {
                    for part in [line.name, b": ", line.value, b"\r\n"] {
                        by.extend_from_slice(part);
                    }
                }
                by.extend_from_slice(b"\r\n");
                self.0 = State::Over;
                Ok(Step::Replace { count, by })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads all of `wire`, which comes in pieces of `piece`: the content, what goes on, and what is left over.
    fn read(wire: &[u8], piece: usize) -> Result<(Vec<u8>, Vec<u8>, usize), BadBody> {
        let (mut chunks, mut content, mut passed) = (Chunks::new(), Vec::new(), Vec::new());
        let (mut used, mut known) = (0, 0);
        loop {
            let bytes = &wire[used..known];
            match chunks.step(bytes)? {
                Step::Pass { count, content: is_content } => {
                    passed.extend_from_slice(&bytes[..count]);
                    if is_content {
                        content.extend_from_slice(&bytes[..count]);
                    }
                    used += count;
                }
                Step::Replace { count, by } => {
                    passed.extend(by);
                    used += count;
                }
                Step::More if known == wire.len() => return Err(BadBody::BrokeOff),
                Step::More => known = wire.len().min(known + piece),
                Step::End => return Ok((content, passed, wire.len() - used)),
            }
        }
    }

    #[test]
    fn what_is_read_and_what_goes_on() {
        for (wire, content, passed) in [
            ("3\r\nabc\r\n0\r\n\r\n", "abc", "3\r\nabc\r\n0\r\n\r\n"),
            ("3;x=\"y\"\r\nabc\r\n0\r\n\r\n", "abc", "3\r\nabc\r\n0\r\n\r\n"),
            ("3 ;x\r\nabc\r\n0;last\r\n\r\n", "abc", "3\r\nabc\r\n0\r\n\r\n"),
            ("00A\r\n0123456789\r\n00\r\n\r\n", "0123456789", "00A\r\n0123456789\r\n00\r\n\r\n"),
            ("0\r\nX-Sum: 7\r\nContent-Length: 9\r\nHost: x\r\n\r\n", "", "0\r\nX-Sum: 7\r\n\r\n"),
        ] {
            for piece in 1..=wire.len() {
                let read = read(format!("{wire}next").as_bytes(), piece).unwrap();
                assert_eq!(read, (content.into(), passed.into(), 4), "{wire:?} by {piece}");
            }
        }
    }

    #[test]
    fn what_is_refused() {
        for (wire, why) in [
            ("x\r\n", BadBody::ChunkSize),
            ("\r\n", BadBody::ChunkSize),
            ("-1\r\n", BadBody::ChunkSize),
            ("0x3\r\nabc\r\n0\r\n\r\n", BadBody::ChunkSize),
            ("3\nabc\r\n0\r\n\r\n", BadBody::ChunkSize),
            ("3\rabc\r\n", BadBody::ChunkSize),
            ("3;\rx\r\nabc\r\n0\r\n\r\n", BadBody::ChunkSize),
            ("3 3\r\nabc\r\n0\r\n\r\n", BadBody::ChunkSize),
            ("ffffffffffffffff\r\n", BadBody::ChunkSize),
            ("3\r\nabcd\r\n0\r\n\r\n", BadBody::ChunkEnd),
            ("3\r\nabc\n0\r\n\r\n", BadBody::ChunkEnd),
            ("3\r\nab", BadBody::BrokeOff),
            ("3\r\nabc\r\n0\r\n", BadBody::BrokeOff),
            ("0\r\nno field\r\n\r\n", BadBody::Trailers),
        ] {
            for piece in 1..=wire.len() {
                assert_eq!(read(wire.as_bytes(), piece), Err(why), "{wire:?} by {piece}");
            }
        }
        assert_eq!(read(format!("3;{}", "x".repeat(5000)).as_bytes(), 100), Err(BadBody::Extension));
        assert_eq!(read(format!("0\r\nX: {}", "x".repeat(20_000)).as_bytes(), 99), Err(BadBody::Trailers));
    }

    proptest! {
        /// Whatever the chunks and however the bytes arrive: the content is the same, and what goes on reads the same.
        #[test]
        fn content_survives_any_chunks_and_any_pieces(
            chunks in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..300), any::<bool>()), 0..12),
            piece in 1_usize..400,
        ) {
            let (mut wire, mut expected) = (Vec::new(), Vec::new());
            for (data, extension) in &chunks {
                wire.extend(format!("{:X}{}\r\n", data.len(), if *extension { ";a=b" } else { "" }).bytes());
                wire.extend(data);
                wire.extend(b"\r\n");
                expected.extend(data);
            }
            wire.extend(b"0\r\n\r\n");
            let (content, passed, left) = read(&wire, piece).unwrap();
            prop_assert_eq!((&content, left), (&expected, 0));
            prop_assert_eq!(read(&passed, passed.len()).unwrap(), (expected, passed, 0));
        }

        /// No bytes make it fail in another way than with an error.
        #[test]
        fn nonsense_is_an_error(wire in prop::collection::vec(prop::sample::select(b"0123abcF;\r\n x:".to_vec()), 0..80)) {
            let whole = read(&wire, wire.len().max(1)).map(|(content, passed, _)| (content, passed));
            let bytewise = read(&wire, 1).map(|(content, passed, _)| (content, passed));
            prop_assert_eq!(whole.is_ok(), bytewise.is_ok());
            if whole.is_ok() {
                prop_assert_eq!(whole, bytewise);
            }
        }
    }
}
