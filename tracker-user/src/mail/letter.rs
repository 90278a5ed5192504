//! One mail: what it says and to whom, as it is kept, and as it goes to a server.

use std::time::SystemTime;

use jiff::Timestamp;
use lettre::Address;
use lettre::message::header::{self, HeaderName, HeaderValue, Headers};
use lettre::message::{Mailbox, Mailboxes};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::server::Settings;
use crate::types::Identity;

/// No line of a mail is longer (RFC 2045, section 6.7).
const LINE: usize = 76;

/// A mail. What it says is wiped when it goes.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Letter {
    /// To whom.
    pub to: Zeroizing<String>,
    /// What it is about, in the reader's language.
    pub subject: String,
    /// What it says, in lines. It is kept behind the rest, as it is ([`Letter::kept`]).
    #[serde(skip)]
    pub text: Zeroizing<String>,
    /// When it was written.
    pub written: Timestamp,
    /// Until when it is any use.
    pub until: Timestamp,
    /// Whose account it is about.
    pub about: Option<About>,
}

/// A user, as kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    user: String,
    domain: String,
    key: String,
}

impl From<&Identity> for About {
    fn from(who: &Identity) -> Self {
        Self { user: who.user().to_owned(), domain: who.domain().to_owned(), key: who.key().to_owned() }
    }
}

impl From<&About> for Identity {
    fn from(about: &About) -> Self {
        Self::restore(&about.user, &about.domain, &about.key)
    }
}

impl std::fmt::Debug for Letter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Letter").field("subject", &self.subject).finish_non_exhaustive()
    }
}

impl Letter {
    /// As it is kept: the rest as JSON, how long that is before it, and what it says behind it. Nothing that reads JSON gets to see that,
    /// as it would leave copies of it behind.
    pub(super) fn kept(&self) -> Option<Zeroizing<Vec<u8>>> {
        let rest = serde_json::to_vec(self).ok()?;
        let length = u32::try_from(rest.len()).ok()?.to_be_bytes();
        let mut kept = Zeroizing::new(Vec::with_capacity(length.len() + rest.len() + self.text.len()));
        for part in [&length[..], &rest, self.text.as_bytes()] {
            kept.extend_from_slice(part);
        }
        Some(kept)
    }

    /// What was kept.
    pub(super) fn read(kept: &[u8]) -> Option<Self> {
        let (length, rest) = kept.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (rest, said) = rest.split_at_checked(length)?;
        let said = std::str::from_utf8(said).ok()?;
        let mut text = Zeroizing::new(String::with_capacity(said.len()));
        text.push_str(said);
        Some(Self { text, ..serde_json::from_slice(rest).ok()? })
    }

    /// The whole mail (RFC 5322), for a server; `number` is its own. `None` where an address is none.
    ///
    /// What it says is in lines of ASCII, none of which begins with a dot: it needs no extension of SMTP, and no dot is doubled.
    pub(super) fn render(&self, number: &str, settings: &Settings) -> Option<Zeroizing<String>> {
        let from = settings.from.clone()?;
        let to: Address = self.to.parse().ok()?;
        let plain =
            |text: &str| -> String { text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect() };
        let id = format!("<{number}@{}>", from.domain());
        let name = settings.name.as_deref().map(plain);
        let mut headers = Headers::new();
        headers.set(header::Date::new(SystemTime::from(self.written)));
        headers.set(header::From::from(Mailboxes::from(Mailbox::new(name, from))));
        headers.set(header::To::from(Mailboxes::from(Mailbox::new(None, to))));
        headers.set(header::Subject::from(plain(&self.subject)));
        headers.set(header::MessageId::from(id));
        // So that no program answers it (RFC 3834, section 5).
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        headers.insert_raw(HeaderValue::new(automatic, "auto-generated".to_owned()));
        headers.set(header::MIME_VERSION_1_0);
        headers.set(header::ContentType::TEXT_PLAIN);
        headers.set(header::ContentTransferEncoding::QuotedPrintable);
        let headers = headers.to_string();
        let body = quoted_printable(&self.text);
        let mut whole = Zeroizing::new(String::with_capacity(headers.len() + 2 + body.len()));
        whole.push_str(&headers);
        whole.push_str("\r\n");
        whole.push_str(&body);
        Some(whole)
    }
}

/// Text in lines as RFC 2045, section 6.7 has it.
fn quoted_printable(text: &str) -> Zeroizing<String> {
    // Each byte becomes three at most, and a line's break is put in after 72 at the least.
    let mut encoded = Zeroizing::new(String::with_capacity(text.len() * 4 + 16));
    for line in text.lines() {
        let mut column = 0;
        let mut bytes = line.bytes().peekable();
        while let Some(byte) = bytes.next() {
            let is_last = bytes.peek().is_none();
            let is_plain = match byte {
                b'=' => false,
                b' ' | b'\t' => !is_last,
                // A line that is a dot ends a mail (RFC 5321, section 4.5.2).
                b'.' => column > 0,
                // A line that begins so is changed on the way by some (mbox).
                b'F' => column > 0,
                _ => byte.is_ascii_graphic(),
            };
            let width = if is_plain { 1 } else { 3 };
            if column + width >= LINE {
                encoded.push_str("=\r\n");
                column = 0;
                // What may not stand at the beginning of a line is judged anew.
                if matches!(byte, b'.' | b'F') {
                    push_encoded(&mut encoded, byte);
                    column = 3;
                    continue;
                }
            }
            if is_plain {
                encoded.push(char::from(byte));
            } else {
                push_encoded(&mut encoded, byte);
            }
            column += width;
        }
        encoded.push_str("\r\n");
    }
    encoded
}

fn push_encoded(encoded: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digit = |half: u8| char::from(DIGITS.get(usize::from(half)).copied().unwrap_or_default());
    encoded.push('=');
    encoded.push(digit(byte >> 4));
    encoded.push(digit(byte & 15));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(subject: &str, text: &str) -> Letter {
        Letter {
            to: Zeroizing::new("alice@example.com".into()),
            subject: subject.into(),
            text: Zeroizing::new(text.into()),
            written: "2026-11-29T12:00:00Z".parse().unwrap(),
            until: "2026-11-30T12:00:00Z".parse().unwrap(),
            about: None,
        }
    }

    fn settings(name: &str) -> Settings {
        Settings {
            from: Some("gateway@example.test".parse().unwrap()),
            name: Some(name.into()),
            ..Settings::default()
        }
    }

    #[test]
    fn a_mail_says_whose_it_is_and_that_a_program_wrote_it() {
        let whole = letter("Your code", "Code: ABCD\nEnd").render("17", &settings("Example Ltd.")).unwrap();
        let (head, body) = whole.split_once("\r\n\r\n").unwrap();
        for line in [
            "Date: Sun, 29 Nov 2026 12:00:00 +0000",
            "From: \"Example Ltd.\" <gateway@example.test>",
            "To: alice@example.com",
            "Subject: Your code",
            "Message-ID: <17@example.test>",
            "Auto-Submitted: auto-generated",
            "MIME-Version: 1.0",
            "Content-Type: text/plain; charset=utf-8",
            "Content-Transfer-Encoding: quoted-printable",
        ] {
            assert!(head.lines().any(|own| own == line), "{line}: {head}");
        }
        assert_eq!(head.lines().count(), 9, "{head}");
        assert_eq!(body, "Code: ABCD\r\nEnd\r\n");
    }

    #[test]
    fn nothing_of_it_becomes_a_header_or_an_end() {
        let evil = "x\r\nBcc: mallory@example.net\r\n\r\n.\r\nQUIT";
        let whole = letter(evil, ".\r\n..\n.x\nFrom me").render("1", &settings(evil)).unwrap();
        let (head, body) = whole.split_once("\r\n\r\n").unwrap();
        let is_header = |line: &str| line.to_lowercase().starts_with("bcc");
        assert!(
            !head.lines().any(is_header) && !whole.contains("\n.") && !whole.contains("\r\nQUIT"),
            "{}",
            *whole
        );
        assert_eq!(body, "=2E\r\n=2E.\r\n=2Ex\r\n=46rom me\r\n");
        assert!(whole.lines().all(|line| line.len() <= 998 && line.is_ascii()), "{}", *whole);
        let mut to = letter("s", "t");
        for wrong in ["a@example.com\r\nBcc: b@example.com", "a@example.com>\r\nRCPT TO:<b@example.com", ""] {
            to.to = Zeroizing::new(wrong.into());
            assert!(to.render("1", &settings("")).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn it_is_kept_whole_and_what_it_says_apart() {
        let own = Letter {
            about: Some((&Identity::local("bob")).into()),
            ..letter("Your code", "Code: \u{e4}\n\"1\"")
        };
        let kept = own.kept().unwrap();
        let read = Letter::read(&kept).unwrap();
        assert_eq!((&*read.to, &*read.subject, &*read.text), (&*own.to, &*own.subject, &*own.text));
        assert_eq!((read.written, read.until), (own.written, own.until));
        assert_eq!(Identity::from(&read.about.unwrap()), Identity::local("bob"));
        for at in 0..kept.len() - own.text.len() {
            assert!(Letter::read(&kept[..at]).is_none(), "{at} bytes");
        }
    }

    /// Python's `quopri` is another implementation; these are its results.
    #[test]
    fn text_comes_out_as_it_went_in() {
        for (text, encoded) in
            [("Gr\u{fc}\u{df}e = x ", "Gr=C3=BC=C3=9Fe =3D x=20\r\n"), ("", ""), ("a\n\nb", "a\r\n\r\nb\r\n")]
        {
            assert_eq!(*quoted_printable(text), encoded, "{text}");
        }
        let long: String = (0..400).map(|at| if at % 7 == 0 { '.' } else { '\u{e4}' }).collect();
        let encoded = quoted_printable(&long);
        assert!(encoded.lines().all(|line| line.len() <= LINE && !line.starts_with('.')), "{}", *encoded);
        let mut bytes = Vec::new();
        let joined = encoded.replace("=\r\n", "").replace("\r\n", "");
        let mut pieces = joined.split('=');
        bytes.extend(pieces.next().unwrap().bytes());
        for piece in pieces {
            bytes.push(u8::from_str_radix(&piece[..2], 16).unwrap());
            bytes.extend(piece[2..].bytes());
        }
        assert_eq!(String::from_utf8(bytes).unwrap(), long);
        assert!(encoded.capacity() >= encoded.len() && encoded.len() <= long.len() * 4 + 16, "it never grew");
    }
}
