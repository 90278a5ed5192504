//! Content in chunks (RFC 9112, 7.1).

use super::{Fault, Mend, Reader, is_token, trim_start};

impl Reader {
    /// Reads chunks and trailers into the body; the bytes that they take.
    pub(super) fn chunks(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        let mut used = 0;
        loop {
            let rest = &bytes[used..];
            let Some(end) = rest.iter().position(|&b| b == b'\n') else { return Ok(None) };
            let line = rest[..end].strip_suffix(b"\r").ok_or("a chunk's line ends in a line feed alone")?;
            let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
            let number = std::str::from_utf8(&line[..digits])
                .ok()
                .and_then(|digits| u64::from_str_radix(digits, 16).ok());
            let size =
                number.and_then(|size| usize::try_from(size).ok()).ok_or("a chunk's size is no number")?;
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
        if text.contains(&b'\r') {
            return Err("a bare carriage return in a chunk's line");
        }
        let mut text = text.to_vec();
        for byte in text.iter_mut().filter(|b| b.is_ascii_control() && **b != b'\t') {
            self.mend(Mend::ChunkControl, "a control character in a chunk's line")?;
            *byte = b' ';
        }
        let mut rest = text.as_slice();
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
