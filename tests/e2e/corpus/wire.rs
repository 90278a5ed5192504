//! HTTP/1 by the letter of RFC 9112, read a second time: what judges the gateway must not share its parser.
//!
//! A reader is strict, or it mends what the RFC lets a recipient mend, and notes each [`Mend`]. The origin of the lab and its
//! client read what the gateway passes on with the strict one.

mod chunks;
mod head;

use std::collections::BTreeSet;

/// What a recipient may mend, and what it ought to refuse without doubting where the message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mend {
    /// A line ends in a line feed alone (9112, 2.2: MAY).
    BareLf,
    /// A carriage return that ends no line, to be read as a space (9112, 2.2).
    BareCr,
    /// More empty lines than one before a request, or any before an answer (9112, 2.2).
    EmptyLines,
    /// Other white space than one space between the parts of the first line (9112, 3 and 4: MAY).
    LineSpace,
    /// Characters in a target that URIs do not have (9112, 3.2; 3986).
    TargetChars,
    /// HTTP/1.2 and higher is read as HTTP/1.1 (9110, 2.5).
    Minor,
    /// A status outside 100 to 599 (9110, 15).
    Status,
    /// A folded line (9112, 5.2).
    Fold,
    /// White space before a colon; only in answers (9112, 5.1: MUST for a proxy).
    Colon,
    /// NUL in a value, to be read as a space (9110, 5.5).
    Nul,
    /// Another control character in a value (9110, 5.5: MAY).
    Control,
    /// The same length several times (9112, 6.3, 5).
    Length,
    /// An empty member in a list (9110, 5.6.1.2: MUST).
    EmptyMember,
    /// Both framings: the chunks count, and the connection ends (9112, 6.1).
    TwoFramings,
    /// The extension of a chunk does not follow the grammar; it is ignored anyway (9112, 7.1.1).
    Extension,
    /// A control character behind a chunk's size, to be read as a space (9112, 7.1.1: the grammar has none).
    ChunkControl,
    /// No Host in HTTP/1.1, or not one that could be a host (9112, 3.2: MUST be 400).
    Host,
}

/// All that had to be mended.
pub(super) type Mends = BTreeSet<Mend>;

/// Why a reader goes no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// All has been read, and ends with a message.
    End,
    /// The last message says that it is the last one; what follows is nothing.
    Closes,
    /// It ends within a message.
    Incomplete,
    /// It breaks a rule.
    Invalid(&'static str),
}

/// One message.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    /// Method, target and version; or version, status and reason.
    pub(super) line: [Vec<u8>; 3],
    pub(super) fields: List,
    /// The content, without its framing.
    pub(super) body: Vec<u8>,
    /// The bytes from its first to its last one.
    pub(super) length: usize,
    /// No other one follows on the connection.
    pub(super) closes: bool,
    pub(super) mends: Mends,
}

impl Message {
    pub(super) fn field(&self, name: &str) -> Option<&[u8]> {
        let mut fields = self.fields.iter();
        fields.find(|(own, _)| own.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value.as_slice())
    }

    /// Whether a list has this member.
    fn says(&self, name: &str, member: &str) -> bool {
        let of_name = self.fields.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name.as_bytes()));
        let mut members = of_name.flat_map(|(_, value)| value.split(|&b| b == b','));
        members.any(|own| trim(own).eq_ignore_ascii_case(member.as_bytes()))
    }

    /// The status of an answer.
    pub(super) fn status(&self) -> u16 {
        std::str::from_utf8(&self.line[1]).ok().and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// Whether another answer to the same request follows.
    pub(super) fn is_interim(&self) -> bool {
        (100..200).contains(&self.status()) && self.status() != 101
    }
}

/// Messages one after the other.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) whole: Vec<Message>,
    /// One whose head is good, but whose content ends too early or is malformed.
    pub(super) part: Option<Message>,
    pub(super) stop: Stop,
}

impl Reading {
    /// The first answer that is not an interim one, and whether all of it is there.
    pub(super) fn answer(&self) -> Option<(&Message, bool)> {
        let whole = self.whole.iter().find(|answer| !answer.is_interim());
        whole.map(|answer| (answer, true)).or(self.part.as_ref().map(|answer| (answer, false)))
    }
}

/// What a reader lets pass.
pub(super) type Allowed = fn(Mend) -> bool;

/// Nothing.
pub(super) const STRICT: Allowed = |_| false;
/// What a proxy leaves as it is: the target is the origin's affair, and the status the client's.
pub(super) const RELAYED: Allowed = |mend| matches!(mend, Mend::TargetChars | Mend::Status);
/// Everything.
pub(super) const MENDED: Allowed = |_| true;

type Fault = &'static str;

/// Names as they were written, and trimmed values.
type List = Vec<(Vec<u8>, Vec<u8>)>;

/// Reads requests until none is left.
pub(super) fn requests(mut bytes: &[u8], allowed: Allowed) -> Reading {
    let mut whole = Vec::new();
    let (part, stop) = loop {
        if bytes.is_empty() {
            break (None, Stop::End);
        }
        match Reader::new(allowed).request(bytes) {
            Read::Whole(message) => {
                bytes = &bytes[message.length..];
                let closes = message.closes;
                whole.push(*message);
                if closes {
                    break (None, Stop::Closes);
                }
            }
            Read::Part(message, stop) => break (Some(*message), stop),
            Read::Nothing(stop) => break (None, stop),
        }
    };
    Reading { whole, part, stop }
}

/// Reads answers to requests with these methods. `ended`: the connection is closed behind them.
pub(super) fn answers(mut bytes: &[u8], methods: &[&[u8]], ended: bool, allowed: Allowed) -> Reading {
    let (mut whole, mut methods) = (Vec::new(), methods.iter());
    let (part, stop) = loop {
        if bytes.is_empty() {
            break (None, Stop::End);
        }
        let Some(method) = methods.as_slice().first() else {
            break (None, Stop::Invalid("more answers than requests"));
        };
        match Reader::new(allowed).answer(bytes, method, ended) {
            Read::Whole(message) => {
                bytes = &bytes[message.length..];
                let closes = message.closes;
                if !message.is_interim() {
                    methods.next();
                }
                whole.push(*message);
                if closes {
                    break (None, Stop::Closes);
                }
            }
            Read::Part(message, stop) => break (Some(*message), stop),
            Read::Nothing(stop) => break (None, stop),
        }
    };
    Reading { whole, part, stop }
}

/// One message, or why there is none.
enum Read {
    Whole(Box<Message>),
    Part(Box<Message>, Stop),
    Nothing(Stop),
}

/// Where the content ends.
enum Framing {
    Length(u64),
    Chunks,
    Close,
}

struct Reader {
    allowed: Allowed,
    message: Message,
}

impl Reader {
    fn new(allowed: Allowed) -> Self {
        Self { allowed, message: Message::default() }
    }

    fn mend(&mut self, mend: Mend, otherwise: Fault) -> Result<(), Fault> {
        if (self.allowed)(mend) {
            self.message.mends.insert(mend);
            return Ok(());
        }
        Err(otherwise)
    }

    fn request(mut self, bytes: &[u8]) -> Read {
        match self.request_head(bytes) {
            Ok(Some((used, framing))) => self.content(bytes, used, &framing, false),
            Ok(None) => Read::Nothing(Stop::Incomplete),
            Err(fault) => Read::Nothing(Stop::Invalid(fault)),
        }
    }

    fn answer(mut self, bytes: &[u8], method: &[u8], ended: bool) -> Read {
        match self.answer_head(bytes, method) {
            Ok(Some((used, framing))) => self.content(bytes, used, &framing, ended),
            Ok(None) => Read::Nothing(Stop::Incomplete),
            Err(fault) => Read::Nothing(Stop::Invalid(fault)),
        }
    }

    fn content(mut self, bytes: &[u8], used: usize, framing: &Framing, ended: bool) -> Read {
        let rest = bytes.get(used..).unwrap_or_default();
        let read = match framing {
            Framing::Length(length) => {
                let length = usize::try_from(*length).unwrap_or(usize::MAX);
                self.message.body = rest[..length.min(rest.len())].to_vec();
                Ok((rest.len() >= length).then_some(length))
            }
            Framing::Close => {
                self.message.body = rest.to_vec();
                self.message.closes = true;
                Ok(ended.then_some(rest.len()))
            }
            Framing::Chunks => self.chunks(rest),
        };
        match read {
            Ok(Some(length)) => {
                self.message.length = used + length;
                Read::Whole(Box::new(self.message))
            }
            Ok(None) => Read::Part(Box::new(self.message), Stop::Incomplete),
            Err(fault) => Read::Part(Box::new(self.message), Stop::Invalid(fault)),
        }
    }

    /// A line without its end, and the bytes that it takes.
    fn line<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(&'a [u8], usize)>, Fault> {
        let Some(end) = bytes.iter().position(|&b| b == b'\n') else { return Ok(None) };
        match bytes[..end].strip_suffix(b"\r") {
            Some(line) => Ok(Some((line, end + 1))),
            None => {
                self.mend(Mend::BareLf, "a line ends in a line feed alone")?;
                Ok(Some((&bytes[..end], end + 1)))
            }
        }
    }

    /// The first line, and where the fields begin; skips empty lines before it.
    fn first<'a>(&mut self, bytes: &'a [u8], free: usize) -> Result<Option<(&'a [u8], usize)>, Fault> {
        let (mut used, mut skipped) = (0, 0);
        loop {
            let Some((line, length)) = self.line(&bytes[used..])? else { return Ok(None) };
            used += length;
            if !line.is_empty() {
                return Ok(Some((line, used)));
            }
            skipped += 1;
            if skipped > free {
                self.mend(Mend::EmptyLines, "empty lines before the message")?;
            }
        }
    }

    /// Fields up to the empty line; the bytes that they take. In an answer a proxy mends more.
    fn fields(&mut self, bytes: &[u8], is_answer: bool) -> Result<Option<(List, usize)>, Fault> {
        let (mut fields, mut used) = (List::new(), 0);
        loop {
            let Some((line, length)) = self.line(&bytes[used..])? else { return Ok(None) };
            used += length;
            if line.is_empty() {
                return Ok(Some((fields, used)));
            }
            if matches!(line[0], b' ' | b'\t') {
                let Some((_, value)) = fields.last_mut() else {
                    return Err("white space before the first field");
                };
                let more = Self::value(&mut self.message.mends, self.allowed, line)?;
                value.push(b' ');
                value.extend_from_slice(&more);
                *value = trim(value).to_vec();
                self.mend(Mend::Fold, "a folded line")?;
                continue;
            }
            let colon = line.iter().position(|&b| b == b':').ok_or("a field without a colon")?;
            let mut name = &line[..colon];
            if name.last().is_some_and(|b| matches!(b, b' ' | b'\t')) {
                if !is_answer {
                    return Err("white space before a colon");
                }
                self.mend(Mend::Colon, "white space before a colon")?;
                name = trim(name);
            }
            if !is_token(name) {
                return Err("a field name is no token");
            }
            let value = Self::value(&mut self.message.mends, self.allowed, &line[colon + 1..])?;
            fields.push((name.to_vec(), value));
        }
    }

    fn value(mends: &mut Mends, allowed: Allowed, raw: &[u8]) -> Result<Vec<u8>, Fault> {
        let mut value = raw.to_vec();
        for byte in &mut value {
            let (mend, fault) = match *byte {
                b'\r' => (Mend::BareCr, "a bare carriage return"),
                0 => (Mend::Nul, "NUL in a value"),
                b'\t' => continue,
                byte if byte.is_ascii_control() => (Mend::Control, "a control character in a value"),
                _ => continue,
            };
            if !allowed(mend) {
                return Err(fault);
            }
            mends.insert(mend);
            if mend != Mend::Control {
                *byte = b' ';
            }
        }
        Ok(trim(&value).to_vec())
    }

    /// The parts of the first line. The third one of an answer, if it is there, has spaces in it.
    fn split(&mut self, line: &[u8], is_answer: bool) -> Result<Vec<Vec<u8>>, Fault> {
        let is_space = |b: &u8| matches!(b, b' ' | b'\t' | 0x0b | 0x0c | b'\r');
        let is_odd = |part: &&[u8]| part.is_empty() || part.iter().any(is_space);
        let strictly: Vec<&[u8]> = line.splitn(if is_answer { 3 } else { 4 }, |&b| b == b' ').collect();
        let checked = if is_answer { 2 } else { 4 };
        if strictly.len() == 3 && !strictly.iter().take(checked).any(is_odd) {
            return Ok(strictly.into_iter().map(<[u8]>::to_vec).collect());
        }
        self.mend(Mend::LineSpace, "white space in the first line")?;
        Ok(line.split(is_space).filter(|part| !part.is_empty()).map(<[u8]>::to_vec).collect())
    }
}

fn is_ows(b: u8) -> bool {
    matches!(b, b' ' | b'\t')
}

fn trim_start(mut text: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = text
        && is_ows(*first)
    {
        text = rest;
    }
    text
}

/// Without white space around it: spaces and tabs, nothing else.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    let mut text = trim_start(text);
    while let [rest @ .., last] = text
        && is_ows(*last)
    {
        text = rest;
    }
    text
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b))
}

/// Whether a URI may have this byte.
fn is_uri(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-._~%:/?#[]@!$&'()*+,;=".contains(&b)
}

#[cfg(test)]
mod tests;
