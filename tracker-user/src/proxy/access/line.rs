//! How a line looks: the same as the daemon's other lines, but made without the machinery behind those.

use std::fmt::Debug;
use std::io::Write as _;
use std::net::IpAddr;

use jiff::Timestamp;

use super::Line;
use crate::clock::{boot_now, wall_now};
use crate::links::shown;
use crate::output::Format;
use crate::outside::{self, Outside};
use crate::types::ClientAddr;

/// Makes lines; remembers how the current second is written.
#[derive(Default)]
pub(super) struct Writer {
    second: i64,
    /// `2026-11-21T12:00:00.`
    date: String,
}

impl Writer {
    /// Adds a line to `out`. Writing to memory does not fail.
    pub(super) fn write(&mut self, out: &mut Vec<u8>, format: Format, line: &Line, complete: bool) {
        let now = wall_now();
        self.turn(now);
        let micros = now.subsec_nanosecond() / 1_000;
        let status = line.status.map_or(0, |status| status.as_u16());
        let duration = boot_now().since(line.started).as_millis();
        match format {
            Format::Text => {
                out.extend_from_slice(self.date.as_bytes());
                put_padded(out, micros.unsigned_abs());
                out.extend_from_slice(b"Z  INFO access: client=");
                put_client(out, line.client);
                if let Some(user) = &line.user {
                    let _ = write!(out, " user={user}");
                }
                if !line.method.is_empty() {
                    put(out, &[" method=", &line.method]);
                }
                if let Some(destination) = &line.destination {
                    out.extend_from_slice(b" destination=");
                    put_quoted(out, destination, destination);
                }
                if !line.path.is_empty() {
                    out.extend_from_slice(b" path=");
                    put_quoted(out, &line.path, &path(line));
                }
                let mut number = itoa::Buffer::new();
                put(out, &[" status=", number.format(status)]);
                put(out, &[" bytes_in=", number.format(line.received)]);
                put(out, &[" bytes_out=", number.format(line.sent)]);
                put(out, &[" duration_ms=", number.format(duration)]);
                if line.is_for_own_pages {
                    out.extend_from_slice(b" portal=true");
                }
                if let Some(number) = line.number {
                    let _ = write!(out, " request={number}");
                }
                if !complete {
                    out.extend_from_slice(b" aborted=true");
                }
                if let Some(problem) = &line.problem {
                    let _ = write!(out, " problem={problem:?}");
                }
            }
            Format::Json => {
                let _ = write!(
                    out,
                    r#"{{"timestamp":"{}{micros:06}Z","level":"INFO","fields":{{"client":"{}""#,
                    self.date,
                    shown(line.client)
                );
                let user = line.user.as_ref().map(ToString::to_string);
                let method = Some(&*line.method).filter(|method| !method.is_empty());
                let path = Some(path(line).to_string()).filter(|path| !path.is_empty());
                for (name, value) in [
                    ("user", user.as_deref()),
                    ("method", method),
                    ("destination", line.destination.as_deref()),
                    ("path", path.as_deref()),
                    ("problem", line.problem.as_deref()),
                ] {
                    if let Some(value) = value {
                        let _ = write!(out, r#","{name}":"#);
                        let _ = serde_json::to_writer(&mut *out, value);
                    }
                }
                let (received, sent) = (line.received, line.sent);
                let _ = write!(
                    out,
                    r#","status":{status},"bytes_in":{received},"bytes_out":{sent},"duration_ms":{duration}"#
                );
                if line.is_for_own_pages {
                    out.extend_from_slice(br#","portal":true"#);
                }
                if let Some(number) = line.number {
                    let _ = write!(out, r#","request":"{number}""#);
                }
                if !complete {
                    out.extend_from_slice(br#","aborted":true"#);
                }
                out.extend_from_slice(br#"},"target":"access"}"#);
            }
        }
        out.push(b'\n');
    }

    fn turn(&mut self, now: Timestamp) {
        if now.as_second() != self.second || self.date.is_empty() {
            self.second = now.as_second();
            self.date = now.strftime("%Y-%m-%dT%H:%M:%S.").to_string();
        }
    }
}

fn put(out: &mut Vec<u8>, parts: &[&str]) {
    parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
}

/// Six digits.
fn put_padded(out: &mut Vec<u8>, micros: u32) {
    let mut number = itoa::Buffer::new();
    let digits = number.format(micros);
    put(out, &["000000".get(digits.len()..).unwrap_or_default(), digits]);
}

/// The client, as [`shown`] writes it.
fn put_client(out: &mut Vec<u8>, client: ClientAddr) {
    let IpAddr::V4(address) = client.ip() else {
        let _ = write!(out, "{}", shown(client));
        return;
    };
    let mut number = itoa::Buffer::new();
    for (index, octet) in address.octets().into_iter().enumerate() {
        put(out, &[if index == 0 { "" } else { "." }, number.format(octet)]);
    }
}

/// The text in quotes, as `written` writes it where there is anything to escape or to cut. That is seldom so.
fn put_quoted(out: &mut Vec<u8>, text: &str, written: &dyn Debug) {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if text.len() <= outside::PATH && text.bytes().all(is_plain) {
        put(out, &["\"", text, "\""]);
    } else {
        let _ = write!(out, "{written:?}");
    }
}

/// The path as it is shown.
fn path(line: &Line) -> Outside<'_> {
    Outside::new(&line.path, outside::PATH)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::sync::Arc;

    use http::StatusCode;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::proxy::access::RequestNumber;
    use crate::types::Identity;

    fn lines(line: &Line, complete: bool) -> (String, Value) {
        let (mut writer, mut text, mut json) = (Writer::default(), Vec::new(), Vec::new());
        writer.write(&mut text, Format::Text, line, complete);
        writer.write(&mut json, Format::Json, line, complete);
        (String::from_utf8(text).unwrap(), serde_json::from_slice(&json).unwrap())
    }

    proptest! {
        /// The short ways write what the long ones do.
        #[test]
        fn addresses_numbers_and_quotes_are_written_as_elsewhere(
            v4: [u8; 4], v6: [u8; 16], micros in 0..1_000_000_u32, text in "[ -~é\u{7f}\n\"\\\\]{0,40}", times in 1..60_usize,
        ) {
            let (mut out, mut other) = (Vec::new(), String::new());
            for ip in [IpAddr::from(v4), IpAddr::from(v6)] {
                let client = ClientAddr::from(ip);
                put_client(&mut out, client);
                other.push_str(&shown(client).to_string());
            }
            put_padded(&mut out, micros);
            let text = text.repeat(times);
            put_quoted(&mut out, &text, &Outside::new(&text, outside::PATH));
            other.push_str(&format!("{micros:06}{:?}", Outside::new(&text, outside::PATH)));
            prop_assert_eq!(String::from_utf8(out).unwrap(), other);
        }
    }

    #[test]
    fn a_request_and_one_that_could_not_be_read() {
        let mut line = Line {
            client: "10.0.0.1".parse().unwrap(),
            started: boot_now(),
            method: Cow::Borrowed("GET"),
            destination: Some("a.test:80".into()),
            path: "/a \"b\"\n".into(),
            user: Some(Arc::new(Identity::new("alice", "R.TEST", "R.TEST"))),
            status: Some(StatusCode::OK),
            received: 1,
            sent: 2,
            number: None,
            is_for_own_pages: false,
            problem: None,
        };
        let (text, json) = lines(&line, true);
        let (time, rest) = text.split_once("  INFO access: ").unwrap();
        assert!(
            time.parse::<Timestamp>().is_ok() && time.len() == "2026-11-21T12:00:00.000000Z".len(),
            "{time}"
        );
        assert!(rest.starts_with(
            r#"client=10.0.0.1 user=alice@R.TEST method=GET destination="a.test:80" path="/a \"b\"\n" status=200 bytes_in=1 bytes_out=2 duration_ms="#
        ), "{rest}");
        assert!(text.ends_with('\n') && text.lines().count() == 1);
        assert_eq!((&json["target"], &json["level"]), (&json!("access"), &json!("INFO")));
        assert_eq!(json["fields"]["path"], "/a \"b\"\\n");
        assert_eq!((&json["fields"]["status"], json["fields"].get("aborted")), (&json!(200), None));

        line = Line {
            method: Cow::Borrowed(""),
            destination: None,
            path: String::new(),
            user: None,
            status: None,
            number: Some(RequestNumber::new(crate::types::ConnectionId::new(10.try_into().unwrap()), 3)),
            is_for_own_pages: true,
            problem: Some("no HTTP".into()),
            ..line
        };
        let (text, json) = lines(&line, false);
        assert!(
            text.contains("client=10.0.0.1 status=0 ")
                && text.ends_with(" portal=true request=ca-3 aborted=true problem=\"no HTTP\"\n"),
            "{text}"
        );
        assert_eq!((&json["fields"]["portal"], &json["fields"]["request"]), (&json!(true), &json!("ca-3")));
        assert_eq!((&json["fields"]["aborted"], json["fields"].get("method")), (&json!(true), None));
    }
}
