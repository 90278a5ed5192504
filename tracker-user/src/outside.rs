//! Text that strangers have written: names, paths, what a peer answered. Where such text goes to a log, a table in
//! memory, the audit trail or a terminal, it goes through here: cut to a length, and with every character that has no
//! picture of its own (controls, marks of direction, what is unseen or unassigned) written as its number.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

/// The most bytes of a single word, as a request's method.
pub const WORD: usize = 64;
/// Of a name, or a field of a request.
pub const NAME: usize = 256;
/// Of a path in the access log.
pub const PATH: usize = 1024;
/// Of a sentence, with names in it.
pub const SENTENCE: usize = 1024;

const CUT: char = '…';

/// Text from outside, as it is shown: at most `most` bytes and [`CUT`]. `Debug` puts it in quotes.
#[derive(Clone, Copy)]
pub struct Outside<'a> {
    text: &'a str,
    most: usize,
}

impl<'a> Outside<'a> {
    /// At most `most` bytes of `text`.
    #[must_use]
    pub const fn new(text: &'a str, most: usize) -> Self {
        Self { text, most }
    }

    fn write(self, f: &mut fmt::Formatter<'_>, quoted: bool) -> fmt::Result {
        let mut left = self.most;
        for c in self.text.chars() {
            let plain = shows(c) && !(quoted && matches!(c, '"' | '\\'));
            let length = if plain { c.len_utf8() } else { escaped(c).len() };
            if length > left {
                return f.write_char(CUT);
            }
            left -= length;
            if plain { f.write_char(c)? } else { write!(f, "{}", escaped(c))? }
        }
        Ok(())
    }
}

impl fmt::Display for Outside<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, false)
    }
}

impl fmt::Debug for Outside<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        self.write(f, true)?;
        f.write_char('"')
    }
}

/// The text as it is shown, at most `most` bytes of it.
#[must_use]
pub fn shown(text: &str, most: usize) -> Cow<'_, str> {
    if text.len() <= most && text.chars().all(shows) {
        return Cow::Borrowed(text);
    }
    let mut shown = Outside::new(text, most).to_string();
    shown.shrink_to_fit();
    Cow::Owned(shown)
}

/// The same of bytes that ought to be text.
#[must_use]
pub fn shown_bytes(bytes: &[u8], most: usize) -> String {
    // One byte more than fits tells that something was left out; a character is never cut in two that would have fitted.
    let some = bytes.get(..most.saturating_add(4)).unwrap_or(bytes);
    shown(&String::from_utf8_lossy(some), most).into_owned()
}

/// The same of a sentence whose end matters as much as its beginning, as where a library puts what a client has sent
/// between its own words. Line ends and other white space become a space.
#[must_use]
pub fn shown_ends(text: &str, most: usize) -> String {
    let half = most / 2;
    let words = |part: &str| part.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.len() <= most {
        return shown(&words(text), most).into_owned();
    }
    let begin = words(text.get(..text.floor_char_boundary(half)).unwrap_or_default());
    let end = words(text.get(text.ceil_char_boundary(text.len() - half)..).unwrap_or_default());
    format!("{} {CUT} {}", Outside::new(&begin, most), Outside::new(&end, most))
}

/// Several lines for a terminal: nothing is cut, and the ends of lines stay.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    replaced(text, |c, out| {
        let _ = write!(out, "{}", escaped(c));
    })
}

/// JSON for a terminal or a log: what has no picture stands in strings only, and may be written as its number there.
#[must_use]
pub fn json(document: &str) -> Cow<'_, str> {
    replaced(document, |c, out| {
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    })
}

fn replaced(text: &str, mut escape: impl FnMut(char, &mut String)) -> Cow<'_, str> {
    let stays = |c| c == '\n' || shows(c);
    if text.chars().all(stays) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if stays(c) { out.push(c) } else { escape(c, &mut out) }
    }
    Cow::Owned(out)
}

fn escaped(c: char) -> std::char::EscapeDefault {
    c.escape_default()
}

/// Whether a character has a picture of its own, and so does nothing but show it.
fn shows(c: char) -> bool {
    if c.is_ascii() {
        return matches!(c, ' '..='~');
    }
    // The standard library's own table, which leaves out the categories Cc, Cf, Cn, Co, Zl, Zp, and white space but for the
    // plain space. It is asked about a character behind another: one that combines is printable there.
    let mut buffer = [b'x'; 5];
    let Some(room) = buffer.get_mut(1..) else { return false };
    let length = c.encode_utf8(room).len();
    let pair = buffer.get(..=length).and_then(|pair| std::str::from_utf8(pair).ok());
    pair.is_some_and(|pair| pair.escape_debug().nth(1) == Some(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_has_no_picture_is_written_as_its_number() {
        for (text, expected) in [
            ("plain text, «ünïcödé» 漢字 e\u{301}", "plain text, «ünïcödé» 漢字 e\u{301}"),
            ("a\u{1b}[31mb", "a\\u{1b}[31mb"),
            ("a\u{9b}31m", "a\\u{9b}31m"),
            ("exe.\u{202e}txt", "exe.\\u{202e}txt"),
            ("\u{2066}x\u{2069}", "\\u{2066}x\\u{2069}"),
            ("a\u{200b}b\u{feff}", "a\\u{200b}b\\u{feff}"),
            ("a\u{2028}b\u{2029}c", "a\\u{2028}b\\u{2029}c"),
            ("\u{e0041}\u{e000}\u{378}", "\\u{e0041}\\u{e000}\\u{378}"),
            ("one\r\ntwo\t", "one\\r\\ntwo\\t"),
        ] {
            assert_eq!(shown(text, NAME), expected);
        }
        assert_eq!(format!("{:?}", Outside::new("a \"b\"\\\n", NAME)), r#""a \"b\"\\\n""#);
        assert_eq!(lines("one\ntwo\u{202e}"), "one\ntwo\\u{202e}");
        let text = "a\u{202e}\u{e0041}\u{7f}b";
        let document = serde_json::to_string(text).unwrap();
        assert!(json(&document).is_ascii());
        assert_eq!(serde_json::from_str::<String>(&json(&document)).unwrap(), text);
    }

    #[test]
    fn a_sentence_keeps_both_ends() {
        let long = format!("server HTTP/{} not\nfound in keytab", "x".repeat(47_000));
        let kept = shown_ends(&long, 512);
        assert!(kept.starts_with("server HTTP/xxx") && kept.ends_with("xxx not found in keytab"), "{kept}");
        assert!(kept.len() < 600);
        assert_eq!(shown_ends("one\n  two", 512), "one two");
    }

    proptest! {
        #[test]
        fn it_is_never_longer_than_it_may_be_and_never_shows_what_does_something(
            text in "\\PC{0,40}|.{0,40}|\\p{Cf}{0,40}", most in 0_usize..60,
        ) {
            for shown in [shown(&text, most).into_owned(), shown_bytes(text.as_bytes(), most)] {
                prop_assert!(shown.len() <= most + CUT.len_utf8(), "{shown:?}");
                prop_assert!(shown.chars().all(shows));
            }
            prop_assert!(shown_ends(&text, most).len() <= 2 * most + 16);
        }

        #[test]
        fn bytes_are_shown_whatever_they_are(bytes in prop::collection::vec(any::<u8>(), 0..80), most in 0_usize..60) {
            prop_assert!(shown_bytes(&bytes, most).len() <= most + CUT.len_utf8());
        }
    }
}
