//! Answers as HTTP/1 has them.

use std::fmt::Write as _;

use crate::clock::wall_now;
use crate::proxy::exchange::{Answer, Reply};
use crate::proxy::http1::{Body, Coding, put};
use crate::proxy::message::{Method, Version};

/// What a head says of how long its content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Nothing: there is none, or it ends with the connection.
    None,
    Length(u64),
    Chunked,
}

impl Framing {
    /// For a body that is sent on in this coding, where the origin announced this length.
    pub(super) const fn of(body: &Body, coding: Coding, length: Option<u64>) -> Self {
        match (body, coding, length) {
            (Body::Chunked(_) | Body::UntilClose, Coding::Same | Coding::Chunked, _) => Self::Chunked,
            (_, _, Some(length)) => Self::Length(length),
            (_, _, None) => Self::None,
        }
    }
}

/// What `Connection` has to say so that the client knows whether it goes on.
const fn connection(kept: bool, version: Version) -> &'static [u8] {
    match (kept, version) {
        (true, Version::Http11) => b"",
        (true, Version::Http10) => b"Connection: keep-alive\r\n",
        (false, _) => b"Connection: close\r\n",
    }
}

/// An answer of our own, to a request with this method.
pub(super) fn reply(reply: &Reply, version: Version, method: Method, kept: bool) -> Vec<u8> {
    let content = reply.content();
    let mut out = String::with_capacity(256 + content.len());
    let (version_text, code) = (version.as_str(), reply.status().as_u16());
    let reason = reply.status().canonical_reason().unwrap_or_default();
    let date = jiff::fmt::rfc2822::DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&wall_now())
        .unwrap_or_default();
    let _ = write!(
        out,
        "{version_text} {code} {reason}\r\nDate: {date}\r\nContent-Length: {}\r\n",
        content.len()
    );
    reply.each_field(|name, value| {
        let _ = write!(out, "{name}: {value}\r\n");
    });
    let mut out = out.into_bytes();
    put(&mut out, &[connection(kept, version), b"\r\n"]);
    if method != Method::Head {
        put(&mut out, &[content.as_bytes()]);
    }
    out
}

/// The head of an origin's final answer.
pub(super) fn answer(answer: &Answer<'_>, version: Version, framing: Framing, kept: bool) -> Vec<u8> {
    let mut out = begin(answer, version);
    match framing {
        Framing::None => {}
        Framing::Chunked => put(&mut out, &[b"Transfer-Encoding: chunked\r\n"]),
        Framing::Length(length) => {
            put(&mut out, &[b"Content-Length: ", length.to_string().as_bytes(), b"\r\n"]);
        }
    }
    put(&mut out, &[connection(kept, version), b"\r\n"]);
    out
}

/// An interim answer.
pub(super) fn interim(answer: &Answer<'_>, version: Version) -> Vec<u8> {
    let mut out = begin(answer, version);
    put(&mut out, &[b"\r\n"]);
    out
}

/// 101, to another protocol.
pub(super) fn switching(answer: &Answer<'_>, version: Version, protocol: &[u8]) -> Vec<u8> {
    let mut out = begin(answer, version);
    put(&mut out, &[b"Upgrade: ", protocol, b"\r\nConnection: upgrade\r\n\r\n"]);
    out
}

/// The answer to CONNECT when the tunnel is there.
pub(super) fn established(version: Version, mutual_auth: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + mutual_auth.map_or(0, |token| token.len() + 32));
    put(&mut out, &[version.as_str().as_bytes(), b" 200 Connection established\r\n"]);
    if let Some(token) = mutual_auth {
        put(&mut out, &[b"Proxy-Authenticate: ", token.as_bytes(), b"\r\n"]);
    }
    put(&mut out, &[b"\r\n"]);
    out
}

/// The status line, and the fields that are for the client whatever its version is.
fn begin(answer: &Answer<'_>, version: Version) -> Vec<u8> {
    let mut out = Vec::with_capacity(answer.head.length() + 160);
    let status = answer.head.status().to_string();
    let version = version.as_str().as_bytes();
    put(&mut out, &[version, b" ", status.as_bytes(), b" ", answer.head.reason(), b"\r\n"]);
    answer.each_field(|name, value| {
        put(&mut out, &[name, b": "]);
        put(&mut out, value);
        put(&mut out, &[b"\r\n"]);
    });
    out
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::proxy::http1::{Response, ResponseHead};
    use crate::types::UserMessage;

    /// Has `write` write an origin's answer down.
    fn written(head: &str, mutual_auth: Option<&str>, write: impl FnOnce(&Answer<'_>) -> Vec<u8>) -> String {
        let parsed = Response::parse(head.as_bytes()).unwrap().unwrap();
        let head = ResponseHead::new(&parsed, head.as_bytes());
        let binds_connection = head.challenge_binds();
        String::from_utf8(write(&Answer { head, via: "gw", binds_connection, mutual_auth })).unwrap()
    }

    #[test]
    fn the_client_gets_only_what_is_for_it() {
        let head = "HTTP/1.1 299 Fine by me\r\nConnection: x-hop\r\nX-Hop: 1\r\nProxy-Authenticate: Basic\r\n\
                    Server: s\r\nProxy-Support: x\r\nContent-Length: 5, 5\r\n\r\n";
        assert_eq!(
            written(head, Some("Negotiate x"), |to| answer(to, Version::Http11, Framing::Length(5), true)),
            "HTTP/1.1 299 Fine by me\r\nServer: s\r\nVia: 1.1 gw\r\nProxy-Authenticate: Negotiate x\r\nContent-Length: 5\r\n\r\n"
        );
    }

    #[test]
    fn a_handshake_with_the_origin_is_told_that_the_connection_stays() {
        let head = "HTTP/1.0 401 x\r\nWWW-Authenticate: NTLM\r\n\r\n";
        assert_eq!(
            written(head, None, |to| answer(to, Version::Http10, Framing::None, false)),
            "HTTP/1.0 401 x\r\nWWW-Authenticate: NTLM\r\nVia: 1.0 gw\r\nProxy-Support: Session-Based-Authentication\r\n\
             Connection: close\r\n\r\n"
        );
    }

    #[test]
    fn the_framing_of_answers() {
        for (body, coding, length, framing) in [
            (Body::chunked(), Coding::Same, None, Framing::Chunked),
            (Body::chunked(), Coding::Plain, None, Framing::None),
            (Body::UntilClose, Coding::Chunked, None, Framing::Chunked),
            (Body::UntilClose, Coding::Plain, None, Framing::None),
            (Body::Length(3), Coding::Same, Some(3), Framing::Length(3)),
            (Body::None, Coding::Same, Some(3), Framing::Length(3)),
            (Body::None, Coding::Same, None, Framing::None),
        ] {
            assert_eq!(Framing::of(&body, coding, length), framing, "{body:?} {coding:?} {length:?}");
        }
        for (version, kept, says) in [
            (Version::Http11, true, ""),
            (Version::Http10, true, "Connection: keep-alive\r\n"),
            (Version::Http11, false, "Connection: close\r\n"),
        ] {
            let head =
                written("HTTP/1.1 200 x\r\n\r\n", None, |to| answer(to, version, Framing::Chunked, kept));
            assert!(head.ends_with(&format!("Transfer-Encoding: chunked\r\n{says}\r\n")), "{head}");
        }
    }

    #[test]
    fn interim_answers() {
        let head = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        assert_eq!(
            written(head, None, |to| interim(to, Version::Http11)),
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nVia: 1.1 gw\r\n\r\n"
        );
    }

    #[test]
    fn a_head_request_gets_the_head_only() {
        let page = Reply::new(StatusCode::NOT_FOUND, &UserMessage::new("x"))
            .retry()
            .proved(Some("Negotiate x".into()));
        let text = String::from_utf8(reply(&page, Version::Http10, Method::Head, true)).unwrap();
        assert!(text.starts_with("HTTP/1.0 404 Not Found\r\nDate: ") && text.ends_with("\r\n\r\n"), "{text}");
        for line in [
            "Content-Length: ",
            "Proxy-Authenticate: Negotiate x\r\n",
            "Connection: keep-alive",
            "Retry-After",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
