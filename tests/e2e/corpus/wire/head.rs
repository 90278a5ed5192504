//! First lines, and what the fields say about the message: where it ends, and whether another one follows.

use super::{Fault, Framing, Mend, Message, Reader, is_token, is_uri, trim};

impl Reader {
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

    pub(super) fn request_head(&mut self, bytes: &[u8]) -> Result<Option<(usize, Framing)>, Fault> {
        let Some((line, start)) = self.first(bytes, 1)? else { return Ok(None) };
        let parts = self.split(line, false)?;
        let [method, target, version] =
            <[Vec<u8>; 3]>::try_from(parts).map_err(|_| "the first line has not three parts")?;
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
        let closes = |message: &Message, token| {
            message.says("Connection", token) || message.says("Proxy-Connection", token)
        };
        self.message.closes =
            closes(&self.message, "close") || (is_old && !closes(&self.message, "keep-alive"));
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

    pub(super) fn answer_head(
        &mut self,
        bytes: &[u8],
        method: &[u8],
    ) -> Result<Option<(usize, Framing)>, Fault> {
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
        if lengths.iter().any(|other| !other.iter().all(u8::is_ascii_digit) || number(other) != Some(length))
        {
            return Err("different lengths");
        }
        if lengths.len() > 1 {
            self.mend(Mend::Length, "the length several times")?;
        }
        Ok(Some(length))
    }
}
