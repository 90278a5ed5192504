//! HTTP/1 by the letter of RFC 9112, read a second time: what judges the gateway must not share its parser.
//!
//! A reader is strict, or it mends what the RFC lets a recipient mend, and notes each [`Mend`]. The origin of the lab and its
//! client read what the gateway passes on with the strict one.

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
    /// Names as they were written, values trimmed.
    pub(super) fields: Vec<(Vec<u8>, Vec<u8>)>,
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
        let Some(method) = methods.as_slice().first() else { break (None, Stop::Invalid("more answers than requests")) };
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
    fn fields(&mut self, bytes: &[u8], is_answer: bool) -> Result<Option<(Vec<(Vec<u8>, Vec<u8>)>, usize)>, Fault> {
        let (mut fields, mut used) = (Vec::<(Vec<u8>, Vec<u8>)>::new(), 0);
        loop {
            let Some((line, length)) = self.line(&bytes[used..])? else { return Ok(None) };
            used += length;
            if line.is_empty() {
                return Ok(Some((fields, used)));
            }
            if matches!(line[0], b' ' | b'\t') {
                let Some((_, value)) = fields.last_mut() else { return Err("white space before the first field") };
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

    /// HTTP/1.0 is old.
    fn version(&mut self, version: &[u8]) -> Result<bool, Fault> {
        match version {
            b"HTTP/1.0" => Ok(true),
            b"HTTP/1.1" => Ok(false),
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9'] => {
                self.mend(Mend::Minor, "a higher version").map(|()| false)
            }
            _ => Err("not HTTP/1"),
        }
    }

    fn request_head(&mut self, bytes: &[u8]) -> Result<Option<(usize, Framing)>, Fault> {
        let Some((line, start)) = self.first(bytes, 1)? else { return Ok(None) };
        let parts = self.split(line, false)?;
        let [method, target, version] = <[Vec<u8>; 3]>::try_from(parts).map_err(|_| "the first line has not three parts")?;
        if !is_token(&method) {
            return Err("the method is no token");
        }
        let is_old = self.version(&version)?;
        if target.iter().any(u8::is_ascii_control) {
            return Err("a control character in the target");
        }
        if !target.iter().all(|&b| is_uri(b)) {
            self.mend(Mend::TargetChars, "characters in the target that URIs do not have")?;
        }
        self.message.line = [method, target, version];
        let Some((fields, length)) = self.fields(&bytes[start..], false)? else { return Ok(None) };
        self.message.fields = fields;
        self.host(is_old)?;
        let closes = |message: &Message, token| message.says("Connection", token) || message.says("Proxy-Connection", token);
        self.message.closes = closes(&self.message, "close") || (is_old && !closes(&self.message, "keep-alive"));
        let framing = match self.coding()? {
            Some(_) if is_old => return Err("a transfer coding in HTTP/1.0"),
            Some(true) => Framing::Chunks,
            Some(false) => return Err("the last transfer coding is not chunked"),
            None => Framing::Length(self.length()?.unwrap_or(0)),
        };
        Ok(Some((start + length, framing)))
    }

    fn host(&mut self, is_old: bool) -> Result<(), Fault> {
        let of_name = self.message.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"Host"));
        let hosts: Vec<&[u8]> = of_name.map(|(_, value)| value.as_slice()).collect();
        let is_host = |host: &[u8]| {
            let (name, port) = match host.iter().rposition(|&b| b == b':') {
                Some(colon) if host.last() != Some(&b']') => (&host[..colon], &host[colon + 1..]),
                _ => (host, &b""[..]),
            };
            let is_literal = name.starts_with(b"[") && name.ends_with(b"]");
            let is_name = name.iter().all(|&b| is_uri(b) && !b":/?#[]@".contains(&b));
            (is_literal || is_name) && port.iter().all(u8::is_ascii_digit)
        };
        match hosts.as_slice() {
            [] if is_old => Ok(()),
            [] => self.mend(Mend::Host, "no Host"),
            [only] if is_host(only) => Ok(()),
            [_] => self.mend(Mend::Host, "an invalid Host"),
            _ => Err("more than one Host"),
        }
    }

    fn answer_head(&mut self, bytes: &[u8], method: &[u8]) -> Result<Option<(usize, Framing)>, Fault> {
        let Some((line, start)) = self.first(bytes, 0)? else { return Ok(None) };
        let parts = self.split(line, true)?;
        let reason = parts.get(2..).unwrap_or_default().join(&b' ');
        let mut parts = parts.into_iter();
        let (Some(version), Some(code)) = (parts.next(), parts.next()) else { return Err("no status line") };
        let is_old = self.version(&version)?;
        if code.len() != 3 || !code.iter().all(u8::is_ascii_digit) {
            return Err("the status has not three digits");
        }
        let reason = Self::value(&mut self.message.mends, self.allowed, &reason)?;
        self.message.line = [version, code, reason];
        let status = self.message.status();
        if !(100..600).contains(&status) {
            self.mend(Mend::Status, "a status that cannot be")?;
        }
        let Some((fields, length)) = self.fields(&bytes[start..], true)? else { return Ok(None) };
        self.message.fields = fields;
        self.message.closes = self.message.says("Connection", "close")
            || (is_old && !self.message.says("Connection", "keep-alive") && !self.message.is_interim())
            || status == 101;
        let coding = self.coding()?;
        let has_none = method == b"HEAD" || (100..200).contains(&status) || matches!(status, 204 | 304);
        let framing = match coding {
            _ if has_none => Framing::Length(0),
            Some(_) if is_old => return Err("a transfer coding in HTTP/1.0"),
            Some(true) => Framing::Chunks,
            Some(false) => Framing::Close,
            None => self.length()?.map_or(Framing::Close, Framing::Length),
        };
        Ok(Some((start + length, framing)))
    }

    /// The members of all lines of a list.
    fn members(&mut self, name: &str) -> Result<Vec<Vec<u8>>, Fault> {
        let of_name = self.message.fields.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name.as_bytes()));
        let members = of_name.flat_map(|(_, value)| value.split(|&b| b == b','));
        let mut members: Vec<Vec<u8>> = members.map(|member| trim(member).to_vec()).collect();
        let count = members.len();
        members.retain(|member| !member.is_empty());
        if members.len() != count {
            self.mend(Mend::EmptyMember, "an empty member in a list")?;
        }
        Ok(members)
    }

    /// Whether the transfer codings end in chunked; `None` where there are none.
    fn coding(&mut self) -> Result<Option<bool>, Fault> {
        if self.message.field("Transfer-Encoding").is_none() {
            return Ok(None);
        }
        if self.message.field("Content-Length").is_some() {
            self.mend(Mend::TwoFramings, "both framings")?;
            self.message.closes = true;
        }
        let codings = self.members("Transfer-Encoding")?;
        let is_chunked = |coding: &Vec<u8>| coding.eq_ignore_ascii_case(b"chunked");
        let Some((last, before)) = codings.split_last() else { return Err("no transfer coding") };
        if before.iter().any(is_chunked) {
            return Err("chunked is not the last transfer coding");
        }
        if !codings.iter().all(|coding| is_token(coding.split(|&b| b == b';').next().unwrap_or_default())) {
            return Err("a transfer coding is no token");
        }
        Ok(Some(is_chunked(last)))
    }

    fn length(&mut self) -> Result<Option<u64>, Fault> {
        if self.message.field("Content-Length").is_none() {
            return Ok(None);
        }
        let lengths = self.members("Content-Length")?;
        let Some(first) = lengths.first() else { return Err("no length") };
        if !first.iter().all(u8::is_ascii_digit) {
            return Err("the length is no number");
        }
        let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse::<u64>().ok();
        let length = number(first).ok_or("the length is too large")?;
        if lengths.iter().any(|other| !other.iter().all(u8::is_ascii_digit) || number(other) != Some(length)) {
            return Err("different lengths");
        }
        if lengths.len() > 1 {
            self.mend(Mend::Length, "the length several times")?;
        }
        Ok(Some(length))
    }

    /// Reads chunks and trailers into the body; the bytes that they take.
    fn chunks(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let Some(end) = rest.iter().position(|&b| b == b'\n') else { return Ok(None) };
            let line = rest[..end].strip_suffix(b"\r").ok_or("a chunk's line ends in a line feed alone")?;
            let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
            let number = std::str::from_utf8(&line[..digits]).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
            let size = number.and_then(|size| usize::try_from(size).ok()).ok_or("a chunk's size is no number")?;
            self.extension(&line[digits..])?;
            used += end + 1;
            if size == 0 {
                let trailers = self.fields(&bytes[used..], false)?;
                return Ok(trailers.map(|(_, length)| used + length));
            }
            let rest = &bytes[used..];
            self.message.body.extend_from_slice(&rest[..size.min(rest.len())]);
            let Some(behind) = rest.get(size..) else { return Ok(None) };
            match behind {
                [b'\r', b'\n', ..] => used += size + 2,
                [] | [b'\r'] => return Ok(None),
                _ => return Err("no line end behind a chunk"),
            }
        }
    }

    /// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )`
    fn extension(&mut self, text: &[u8]) -> Result<(), Fault> {
        if text.iter().any(|b| b.is_ascii_control() && *b != b'\t') {
            return Err("a control character in a chunk's line");
        }
        let mut rest = text;
        while !rest.is_empty() {
            let Some(after) = trim_start(rest).strip_prefix(b";") else {
                if trim_start(rest).is_empty() {
                    return self.mend(Mend::Extension, "white space behind a chunk's size");
                }
                if rest.len() < text.len() {
                    return self.mend(Mend::Extension, "an extension that is none");
                }
                return Err("something other than an extension behind a chunk's size");
            };
            let after = trim_start(after);
            let name = after.iter().take_while(|b| is_token(&[**b])).count();
            if name == 0 {
                return self.mend(Mend::Extension, "an extension without a name");
            }
            rest = &after[name..];
            if let Some(value) = trim_start(rest).strip_prefix(b"=") {
                let value = trim_start(value);
                let token = value.iter().take_while(|b| is_token(&[**b])).count();
                rest = match (token, value.strip_prefix(b"\"")) {
                    (0, Some(quoted)) => match quoted_end(quoted) {
                        Some(end) => &quoted[end..],
                        None => return self.mend(Mend::Extension, "an unbalanced quote in an extension"),
                    },
                    (0, None) => return self.mend(Mend::Extension, "an extension without a value"),
                    _ => &value[token..],
                };
            }
        }
        Ok(())
    }
}

/// Where a quoted string ends, behind its quote.
fn quoted_end(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
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
