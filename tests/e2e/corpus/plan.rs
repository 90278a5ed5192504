//! What is played: each message three ways, and how it is addressed so that everything which arrives can be told apart.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use super::messages::Message;
use super::wire::{self, RELAYED};

/// Exchanges that are played at a time. Each slot has a port of its own at the origin, so that the connections which the
/// gateway keeps are shared by exchanges that follow each other, and by no others.
pub(super) const SLOTS: u16 = 160;
/// The port of the first slot.
pub(super) const FIRST_PORT: u16 = 20_000;
/// How long nothing may happen before an unfinished message is ended by its sender.
pub(super) const QUIET: Duration = Duration::from_millis(300);
/// How long anything may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// So many pieces come on their own when a message is sent byte by byte; the rest in larger ones.
const SINGLE_BYTES: usize = 320;
/// Between two pieces: long enough for most of them to be read on their own.
const PAUSE: Duration = Duration::from_millis(1);

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    Whole,
    Pieces,
    Bytes,
}

impl Way {
    pub(super) const ALL: [Self; 3] = [Self::Whole, Self::Pieces, Self::Bytes];

    /// Writes it so. The pieces differ with `seed`.
    pub(super) async fn write(
        self,
        to: &mut (impl AsyncWrite + Unpin),
        bytes: &[u8],
        seed: usize,
    ) -> std::io::Result<()> {
        let mut rest = bytes;
        let mut chance = lab::chance::Chance::new(seed as u64);
        let mut sent = 0;
        while !rest.is_empty() {
            let count = match self {
                Self::Whole => rest.len(),
                // Four or five pieces.
                Self::Pieces => 1 + chance.number(0..(bytes.len() as u64 / 2).max(1)) as usize,
                Self::Bytes if sent < SINGLE_BYTES => 1,
                Self::Bytes => 16 * 1024,
            };
            let (now, later) = rest.split_at(count.min(rest.len()));
            to.write_all(now).await?;
            rest = later;
            sent += now.len();
            if !rest.is_empty() {
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }
}

/// What a connection to the gateway came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The marked request was answered.
    Answered,
    /// The gateway closed it.
    Closed,
    /// It did nothing any more.
    Hung,
}

/// What the origin got.
#[derive(Clone, Debug)]
pub(super) enum Arrived {
    Whole(wire::Message),
    /// Its head, and some of the content; then the connection ended.
    Part(wire::Message),
    /// Something that is no request.
    Nonsense(Vec<u8>, wire::Stop),
}

/// One message, one way.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) message: usize,
    pub(super) way: Way,
    /// The slot's, once it is played.
    pub(super) port: OnceLock<u16>,
    /// At the origin, in their order.
    pub(super) arrived: Mutex<Vec<Arrived>>,
    /// The origin has said all of the answer.
    pub(super) is_said: AtomicBool,
    /// The client has got a whole answer.
    pub(super) is_answered: AtomicBool,
    /// All that the client got, and how it ended.
    pub(super) heard: OnceLock<(Vec<u8>, End)>,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) messages: Vec<Message>,
    pub(super) exchanges: Vec<Exchange>,
    /// The number of the exchange that each slot plays, and 1; 0 where it plays none.
    slots: Vec<AtomicUsize>,
    hung: Mutex<Vec<usize>>,
}

impl Board {
    pub(super) fn new(messages: Vec<Message>) -> Self {
        // All messages one way, then the next: what is kept from one to the other differs.
        let exchanges =
            Way::ALL.into_iter().flat_map(|way| (0..messages.len()).map(move |message| (message, way)));
        let exchanges = exchanges.map(|(message, way)| Exchange {
            message,
            way,
            port: OnceLock::new(),
            arrived: Mutex::default(),
            is_said: AtomicBool::new(false),
            is_answered: AtomicBool::new(false),
            heard: OnceLock::new(),
        });
        let slots = (0..SLOTS).map(|_| AtomicUsize::new(0)).collect();
        Self { exchanges: exchanges.collect(), messages, slots, hung: Mutex::default() }
    }

    pub(super) fn message(&self, number: usize) -> &Message {
        &self.messages[self.exchanges[number].message]
    }

    /// Whose a request at the origin is. Only `OPTIONS *` has no tag: it is that of the exchange which the slot plays.
    pub(super) fn owner(&self, target: &[u8], port: u16) -> Option<usize> {
        let tagged = tag(target).map(|(number, _)| number).filter(|number| *number < self.exchanges.len());
        tagged.or_else(|| self.playing(port))
    }

    /// What the slot with this port plays now.
    pub(super) fn playing(&self, port: u16) -> Option<usize> {
        let slot = self.slots.get(usize::from(port.checked_sub(FIRST_PORT)?))?;
        slot.load(Ordering::SeqCst).checked_sub(1)
    }

    /// The slot with this port plays this now.
    pub(super) fn begin(&self, number: usize, port: u16) {
        let _ = self.exchanges[number].port.set(port);
        self.slots[usize::from(port - FIRST_PORT)].store(number + 1, Ordering::SeqCst);
    }

    /// It came to this end.
    pub(super) fn end(&self, number: usize, heard: Vec<u8>, end: End) {
        let _ = self.exchanges[number].heard.set((heard, end));
        if end == End::Hung {
            self.hung.lock().unwrap().push(number);
        }
    }

    /// The exchanges that have hung.
    pub(super) fn hung(&self) -> Vec<usize> {
        self.hung.lock().unwrap().clone()
    }

    /// All that the client of an exchange with a request sends, the marked request at its end; nothing before it is played.
    pub(super) fn sent(&self, number: usize) -> Vec<u8> {
        let port = self.exchanges[number].port.get().copied().unwrap_or_default();
        [addressed(&self.message(number).raw, number, port), self.marked(number)].concat()
    }

    /// The marked request of an exchange.
    pub(super) fn marked(&self, number: usize) -> Vec<u8> {
        request("GET", number, "m", self.exchanges[number].port.get().copied().unwrap_or_default())
    }
}

/// The exchange that a target is of, and the part of it, with which it begins: `/c12/0`, `/c12/m`.
pub(super) fn tag(target: &[u8]) -> Option<(usize, &str)> {
    let digits = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
    let rest = target.strip_prefix(b"/c")?;
    let (number, rest) = rest.split_at(digits(rest));
    let rest = rest.strip_prefix(b"/")?;
    let part = if rest.first() == Some(&b'm') { 1 } else { digits(rest) };
    let text = |bytes| std::str::from_utf8(bytes).ok().filter(|text: &&str| !text.is_empty());
    Some((text(number)?.parse().ok()?, text(&rest[..part])?))
}

/// A plain request for a part of an exchange.
pub(super) fn request(method: &str, number: usize, part: &str, port: u16) -> Vec<u8> {
    format!("{method} http://{NAME}:{port}/c{number}/{part} HTTP/1.1\r\nHost: {NAME}:{port}\r\n\r\n")
        .into_bytes()
}

/// The origin's name.
pub(super) const NAME: &str = "origin.example.test";

/// The requests in `raw` made ones for a proxy: their targets lead to the origin's port, and all else stays as it is. What
/// follows the first request is changed only where a strict reader finds where that begins.
pub(super) fn addressed(raw: &[u8], number: usize, port: u16) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), raw.to_vec());
    for part in 0.. {
        rest = with_target(&rest, number, part, port);
        let reading = wire::requests(&rest, RELAYED);
        let Some(first) = reading.whole.first().filter(|first| !first.closes && first.length < rest.len())
        else {
            break;
        };
        let later = rest.split_off(first.length);
        out.append(&mut rest);
        rest = later;
    }
    out.append(&mut rest);
    out
}

/// Changes the target in the first line that is not empty.
fn with_target(raw: &[u8], number: usize, part: usize, port: u16) -> Vec<u8> {
    let is_end = |b: &u8| matches!(b, b'\r' | b'\n');
    let start = raw.iter().take_while(|b| is_end(b)).count();
    let end = raw[start..].iter().position(|b| *b == b'\n').map_or(raw.len(), |at| start + at);
    let line = &raw[start..end];
    let to = format!("http://{NAME}:{port}");
    let tagged = format!("{to}/c{number}/{part}");
    let find = |what: &[u8]| line.windows(what.len()).position(|at| at.eq_ignore_ascii_case(what));
    let (from, until, by) = if let Some(at) = find(b" http://") {
        let authority = at + b" http://".len();
        let is_plain = |b: &&u8| b.is_ascii_alphanumeric() || b".-:".contains(b);
        let count = line[authority..].iter().take_while(is_plain).count();
        let behind = line.get(authority + count).copied().unwrap_or(b' ');
        let colons = line[authority..authority + count].iter().filter(|&&b| b == b':').count();
        // Anything else in it, such as a user's name, is what the message is about.
        if count == 0 || colons > 1 || !b"/?# \r".contains(&behind) {
            return raw.to_vec();
        }
        (at + 1, authority + count, tagged)
    } else if line.starts_with(b"OPTIONS * ") {
        (8, 9, to)
    } else if let Some(at) = line.windows(2).position(|at| matches!(at, [b' ' | b'\t', b'/'])) {
        (at + 1, at + 1, tagged)
    } else {
        return raw.to_vec();
    };
    [&raw[..start + from], by.as_bytes(), &raw[start + until..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_addressed_to_the_origin() {
        for (raw, sent) in [
            (
                "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                "GET http://origin.example.test:7/c3/0/ HTTP/1.1\r\nHost: a\r\n\r\n",
            ),
            ("\r\nGET  /x\r\n", "\r\nGET  http://origin.example.test:7/c3/0/x\r\n"),
            ("GET HTTP://a.b:80?q HTTP/1.0\r\n", "GET http://origin.example.test:7/c3/0?q HTTP/1.0\r\n"),
            ("GET http://u@a/ HTTP/1.0\r\n", "GET http://u@a/ HTTP/1.0\r\n"),
            ("OPTIONS * HTTP/1.1\r\n\r\n", "OPTIONS http://origin.example.test:7 HTTP/1.1\r\n\r\n"),
            (
                "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\n",
                "GET http://origin.example.test:7/c3/0/a HTTP/1.1\r\nHost: a\r\n\r\nGET http://origin.example.test:7/c3/1/b HTTP/1.1\r\n",
            ),
            (
                "GET /a HTTP/1.1\r\nHost : a\r\n\r\nGET /b HTTP/1.1\r\n",
                "GET http://origin.example.test:7/c3/0/a HTTP/1.1\r\nHost : a\r\n\r\nGET /b HTTP/1.1\r\n",
            ),
        ] {
            assert_eq!(String::from_utf8_lossy(&addressed(raw.as_bytes(), 3, 7)), sent);
        }
    }

    #[test]
    fn tags_are_found_again() {
        assert_eq!(tag(b"/c12/3/x\xff"), Some((12, "3")));
        assert_eq!(tag(b"/c12/m"), Some((12, "m")));
        assert_eq!(tag(b"/c12/"), None);
        assert_eq!(tag(b"/c/1"), None);
        assert_eq!(tag(b"*"), None);
    }
}
