//! What a mail server answers (RFC 5321, section 4.2), bounded: a server that says too much has said nothing.

use crate::outside;

/// No line is longer, in bytes; RFC 5321 has 512,
const LINE: usize = 2_048;
/// and no answer has more of them.
const LINES: usize = 64;
/// A word of so many bytes that is in the mail, too, may be what it is about.
const TELLING: usize = 6;

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    /// Its three digits.
    pub(super) code: u16,
    /// What is behind them, line by line.
    pub(super) lines: Vec<String>,
}

impl Reply {
    /// Whether the server goes on (2xx, 3xx).
    pub(super) const fn is_positive(&self) -> bool {
        matches!(self.code, 200..400)
    }

    /// Whether it has done what it was asked for (2xx).
    pub(super) const fn is_done(&self) -> bool {
        matches!(self.code, 200..300)
    }

    /// As an operator sees it: without its words where they repeat what is in the mail, which nobody else may read.
    pub(super) fn shown(&self, mail: &str) -> String {
        let said = self.lines.join(" ");
        let body = mail.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let is_telling = |word: &str| word.len() >= TELLING && body.contains(word);
        let mut words = said.split(|c: char| !c.is_ascii_alphanumeric());
        if words.any(is_telling) {
            return format!("{} (and repeats what is in the mail)", self.code);
        }
        format!("{} {}", self.code, outside::shown(&said, outside::NAME))
    }
}

/// What has become of what was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// An answer, whole.
    Whole(Reply),
    /// More has to be read.
    Part,
    /// It is no answer.
    Wrong(&'static str),
}

/// Takes an answer out of what was read; `lines` are those of it that were taken before.
pub(super) fn take(read: &mut Vec<u8>, lines: &mut Vec<String>) -> Taken {
    while let Some(end) = read.iter().position(|byte| *byte == b'\n') {
        if end > LINE || lines.len() >= LINES {
            return Taken::Wrong("its answer is too long");
        }
        let line: Vec<u8> = read.drain(..=end).collect();
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches(['\r', '\n']);
        let (digits, rest) = line.split_at_checked(3).unwrap_or_default();
        let code = digits.parse::<u16>().ok().filter(|code| (200..600).contains(code));
        let Some(code) = code else { return Taken::Wrong("its answer is none of SMTP") };
        let (is_last, text) = match rest.split_at_checked(1) {
            Some(("-", text)) => (false, text),
            Some((" ", text)) => (true, text),
            None => (true, ""),
            Some(_) => return Taken::Wrong("its answer is none of SMTP"),
        };
        lines.push(text.to_owned());
        if is_last {
            return Taken::Whole(Reply { code, lines: std::mem::take(lines) });
        }
    }
    if read.len() > LINE { Taken::Wrong("its answer is too long") } else { Taken::Part }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Taken, String) {
        let (mut read, mut lines) = (text.as_bytes().to_vec(), Vec::new());
        let taken = take(&mut read, &mut lines);
        (taken, String::from_utf8(read).unwrap())
    }

    fn whole(code: u16, lines: &[&str]) -> Taken {
        Taken::Whole(Reply { code, lines: lines.iter().map(|line| (*line).to_owned()).collect() })
    }

    #[test]
    fn answers_have_one_line_or_several() {
        for (text, taken, rest) in [
            ("250 ok\r\n", whole(250, &["ok"]), ""),
            ("250\r\n", whole(250, &[""]), ""),
            ("250-a\r\n250-B c\n250 d\r\n220 x", whole(250, &["a", "B c", "d"]), "220 x"),
            ("220 ready\r\n250 injected\r\n", whole(220, &["ready"]), "250 injected\r\n"),
            ("250-a\r\n250", Taken::Part, "250"),
            ("", Taken::Part, ""),
        ] {
            assert_eq!(read(text), (taken, rest.to_owned()), "{text:?}");
        }
        for wrong in
            ["HTTP/1.1 400 Bad\r\n", "25\r\n", "2500 x\r\n", "\r\n", "150 x\r\n", "600 x\r\n", "+50 x\r\n"]
        {
            assert!(matches!(read(wrong).0, Taken::Wrong(_)), "{wrong:?}");
        }
    }

    #[test]
    fn an_endless_answer_ends() {
        assert!(matches!(read(&"x".repeat(LINE + 1)).0, Taken::Wrong(_)));
        assert!(matches!(read(&format!("250 {}\r\n", "x".repeat(LINE))).0, Taken::Wrong(_)));
        assert!(matches!(read(&"250-x\r\n".repeat(LINES + 1)).0, Taken::Wrong(_)));
    }

    #[test]
    fn what_is_in_the_mail_is_not_told() {
        let reply = |text: &str| Reply { code: 554, lines: vec![text.into()] };
        let mail = "Subject: recovery\r\n\r\nCode: ABCD2345\r\n";
        assert_eq!(reply("5.7.1 no: recovery \u{1b}[2J").shown(mail), "554 5.7.1 no: recovery \\u{1b}[2J");
        for telling in ["bad <ABCD2345>", "ABCD2345"] {
            assert_eq!(reply(telling).shown(mail), "554 (and repeats what is in the mail)");
        }
    }
}
