//! Requests: read, and written for the origin.

use super::framing::{BadFraming, fields, framing, room};
use super::{Body, MAX_HEAD, put};
use crate::net::proxy_protocol::is_header;
use crate::proxy::buffer::Buffer;
use crate::proxy::message::{Content, Method, Name, RequestHead, RequestLine, Span, Target, Version};
use crate::types::UserMessage;

/// Why a request cannot be served, whatever it is for. The connection ends with it: nobody knows where it would go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::proxy) enum BadRequest {
    #[error("the request is not HTTP/1 ({0})")]
    Syntax(httparse::Error),
    #[error("the head of the request is larger than {} KiB, or has too many fields", MAX_HEAD / 1024)]
    TooLarge,
    #[error("{0}")]
    Framing(BadFraming),
    #[error("HTTP/1.0 knows no Transfer-Encoding")]
    OldCoding,
    #[error("a PROXY header from whom none is believed (proxy.proxy-protocol), or a second one")]
    ProxyHeader,
}

impl BadRequest {
    fn of(error: httparse::Error, head: &[u8]) -> Self {
        if is_header(head) {
            return Self::ProxyHeader;
        }
        if error == httparse::Error::TooManyHeaders { Self::TooLarge } else { Self::Syntax(error) }
    }

    /// For the person at the client.
    pub(in crate::proxy) fn user_message(self) -> UserMessage {
        let words = match self {
            Self::TooLarge => {
                let message = UserMessage::new("The head of the request is larger than ");
                return message.number(MAX_HEAD as u64 / 1024).then(" KiB, or has too many fields.");
            }
            Self::Framing(bad) => bad.user_words(),
            Self::OldCoding => "HTTP/1.0 knows no Transfer-Encoding",
            Self::Syntax(_) | Self::ProxyHeader => "it is not HTTP/1",
        };
        UserMessage::new("The request cannot be understood: ").then(words).then(".")
    }
}

/// A request as it came on an HTTP/1 connection.
#[derive(Debug)]
pub(in crate::proxy) struct Request {
    pub(in crate::proxy) head: RequestHead,
    /// The client would use the connection for another request.
    pub(in crate::proxy) keeps_alive: bool,
}

impl Request {
    /// Takes a request's head out of what is unread; `None` if its end has not come yet.
    pub(in crate::proxy) fn take(input: &mut Buffer) -> Result<Option<Self>, BadRequest> {
        let head = input.unread();
        let mut room = room();
        let mut parsed = httparse::Request::new(&mut []);
        let length = match parsed.parse_with_uninit_headers(head, &mut room) {
            Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
            Ok(httparse::Status::Complete(_)) => return Err(BadRequest::TooLarge),
            Ok(httparse::Status::Partial) if head.len() < MAX_HEAD => return Ok(None),
            Ok(httparse::Status::Partial) => return Err(BadRequest::TooLarge),
            Err(error) => return Err(BadRequest::of(error, head)),
        };
        let version = Version::of(parsed.version);
        let (name, target) = (parsed.method.unwrap_or_default(), parsed.path.unwrap_or_default());
        let method = Method::of(name.as_bytes());
        let fields = fields(parsed.headers, head);
        let framing = framing(&fields, head).map_err(BadRequest::Framing)?;
        let is_old = version == Version::Http10;
        if is_old && framing.chunked {
            return Err(BadRequest::OldCoding);
        }
        let says = |token| {
            fields.has_token(head, Name::Connection, token)
                || fields.has_token(head, Name::ProxyConnection, token)
        };
        let keeps_alive = !says("close") && (!is_old || says("keep-alive"));
        let line = RequestLine {
            method,
            name: Span::find(name.as_bytes(), head),
            target: split(method, target.as_bytes(), head),
            version,
            content: match framing.length {
                _ if framing.chunked => Content::Unknown,
                Some(length) => Content::Length(length),
                None => Content::None,
            },
            expects: !is_old && fields.has_token(head, Name::Expect, "100-continue"),
        };
        Ok(Some(Self { head: RequestHead::new(input.split_to(length), line, fields), keeps_alive }))
    }
}

/// The parts of a target (RFC 9112, section 3.2): of a URI in absolute form, or an authority where a tunnel is asked for.
/// In any other form it has no scheme.
fn split(method: Method, target: &[u8], head: &[u8]) -> Target {
    if method == Method::Connect {
        return Target { authority: Span::find(target, head), ..Target::default() };
    }
    let colon = position(target, 0, |b| matches!(b, b':' | b'/' | b'?' | b'#'));
    if !target.get(colon..).unwrap_or_default().starts_with(b"://") {
        return Target::default();
    }
    let authority = colon + b"://".len();
    let path = position(target, authority, |b| matches!(b, b'/' | b'?' | b'#'));
    // Nobody should send a fragment; what follows is not for the origin.
    let end = position(target, path, |b| b == b'#');
    let span = |from: usize, to: usize| Span::find(target.get(from..to).unwrap_or_default(), head);
    Target { scheme: span(0, colon), authority: span(authority, path), path: span(path, end) }
}

/// Where the first byte like this is, from there on; else the end.
fn position(target: &[u8], from: usize, is_it: impl Fn(u8) -> bool) -> usize {
    let rest = target.get(from..).unwrap_or_default();
    rest.iter().position(|b| is_it(*b)).map_or(target.len(), |at| from + at)
}

impl Body {
    /// The content that follows a request's head.
    pub(in crate::proxy) const fn of_request(line: &RequestLine) -> Self {
        match line.content {
            Content::None => Self::None,
            Content::Length(length) => Self::of_length(length),
            Content::Unknown => Self::chunked(),
        }
    }
}

/// What a request gets on its way to the origin.
pub(in crate::proxy) struct Onward<'a> {
    /// Our name in `Via`.
    pub(in crate::proxy) via: &'a str,
    /// A new value of `Max-Forwards`.
    pub(in crate::proxy) forwards: Option<u32>,
}

/// A request's head as the origin gets it.
pub(in crate::proxy) fn onward(head: &RequestHead, onward: &Onward<'_>) -> Vec<u8> {
    let RequestLine { method, version, content, .. } = *head.line();
    let mut out = Vec::with_capacity(head.length() + 128);
    let mut put = |parts: &[&[u8]]| put(&mut out, parts);
    let path = match (head.path(), method) {
        // What the whole server is asked for (RFC 9112, section 3.2.4).
        (b"", Method::Options) => &b"*"[..],
        (path, _) => path,
    };
    let is_old = version == Version::Http10;
    let slash: &[u8] = if matches!(path.first(), Some(b'/' | b'*')) { b"" } else { b"/" };
    put(&[head.raw_method(), b" ", slash, path, b" HTTP/1.1\r\nHost: ", head.authority(), b"\r\n"]);
    for line in head.fields() {
        let own = match line.known {
            Name::Host
            | Name::Connection
            | Name::KeepAlive
            | Name::ProxyConnection
            | Name::ProxyAuthorization
            | Name::ProxyAuthenticate
            | Name::Te
            | Name::TransferEncoding
            | Name::ContentLength
            | Name::Upgrade
            | Name::Http2Settings => true,
            // HTTP/1.0 does not know it, and could not be told 100 (RFC 9110, section 10.1.1).
            Name::Expect => is_old && line.value.eq_ignore_ascii_case(b"100-continue"),
            Name::MaxForwards => onward.forwards.is_some(),
            _ => false,
        };
        if !own && !head.is_hop_by_hop(&line) {
            put(&[line.name, b": ", line.value, b"\r\n"]);
        }
    }
    put(&[b"Via: ", version.number(), b" "]);
    put(&[onward.via.as_bytes(), b"\r\n"]);
    if let Some(left) = onward.forwards {
        put(&[b"Max-Forwards: ", left.to_string().as_bytes(), b"\r\n"]);
    }
    let trailers = head.has_token(Name::Te, "trailers");
    match (trailers, head.upgrade()) {
        (false, None) => {}
        (true, None) => put(&[b"TE: trailers\r\nConnection: TE\r\n"]),
        (false, Some(to)) => put(&[b"Upgrade: ", to, b"\r\nConnection: upgrade\r\n"]),
        (true, Some(to)) => put(&[b"TE: trailers\r\nUpgrade: ", to, b"\r\nConnection: TE, upgrade\r\n"]),
    }
    match content {
        Content::Unknown => put(&[b"Transfer-Encoding: chunked\r\n"]),
        Content::Length(length) => put(&[b"Content-Length: ", length.to_string().as_bytes(), b"\r\n"]),
        Content::None => {}
    }
    put(&[b"\r\n"]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(head: &str) -> Request {
        Request::take(&mut head.as_bytes().into()).unwrap().unwrap()
    }

    fn written(head: &RequestHead) -> String {
        String::from_utf8(onward(head, &Onward { via: "gw", forwards: None })).unwrap()
    }

    #[test]
    fn targets_have_parts_where_they_are_absolute() {
        for (method, target, parts) in [
            ("GET", "http://a.test", ["http", "a.test", ""]),
            ("GET", "HTTP://A.test:81/x?y=http://b/#z", ["HTTP", "A.test:81", "/x?y=http://b/"]),
            ("GET", "http://a?q", ["http", "a", "?q"]),
            ("GET", "http://a#/b@c/", ["http", "a", ""]),
            ("GET", "http://u@a/", ["http", "u@a", "/"]),
            ("GET", "https://a/", ["https", "a", "/"]),
            ("CONNECT", "a.test:443", ["", "a.test:443", ""]),
            ("CONNECT", "http://a:443/", ["", "http://a:443/", ""]),
            ("GET", "/", ["", "", ""]),
            ("GET", "*", ["", "", ""]),
            ("GET", "a.test:80", ["", "", ""]),
            ("GET", "http:/a", ["", "", ""]),
            ("GET", "/http://a/", ["", "", ""]),
        ] {
            let head = request(&format!("{method} {target} HTTP/1.1\r\n\r\n")).head;
            let found = [head.scheme(), head.authority(), head.path()].map(String::from_utf8_lossy);
            assert_eq!(found, parts, "{method} {target}");
        }
    }

    #[test]
    fn the_origin_gets_only_what_is_for_it() {
        let head = "POST http://a.test/x HTTP/1.1\r\nhost: wrong\r\nConnection: close, X-Own\r\n\
                    Connection: keep-alive, content-length, Host\r\nKeep-Alive: 5\r\nX-Own: 1\r\nX-Other:  2 \r\n\
                    Content-Length: 03\r\nProxy-Connection: close\r\nProxy-Authorization: Negotiate YQ==\r\n\
                    TE: gzip, Trailers\r\nExpect: 100-Continue\r\nTrailer: x-sum\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\nabc";
        let mut input = head.as_bytes().into();
        let request = Request::take(&mut input).unwrap().unwrap();
        assert_eq!(input.unread(), b"abc");
        let line = request.head.line();
        assert!(!request.keeps_alive && line.expects && line.has_content());
        assert_eq!(
            written(&request.head),
            "POST /x HTTP/1.1\r\nHost: a.test\r\nX-Other: 2\r\nExpect: 100-Continue\r\nTrailer: x-sum\r\nVia: 1.1 gw\r\n\
             TE: trailers\r\nConnection: TE\r\nContent-Length: 3\r\n\r\n"
        );
    }

    #[test]
    fn expectations_are_the_origins_to_meet() {
        for (version, expects, waits, passed) in [
            ("1.1", "100-continue", true, true),
            ("1.1", "x-other=1", false, true),
            ("1.1", "x-other, 100-CONTINUE", true, true),
            ("1.0", "100-Continue", false, false),
            ("1.0", "x-other", false, true),
        ] {
            let head = format!(
                "PUT http://a.test/ HTTP/{version}\r\nExpect: {expects}\r\nContent-Length: 3\r\n\r\n"
            );
            let head = request(&head).head;
            assert_eq!(head.line().expects, waits, "{version} {expects}");
            let written = written(&head);
            assert_eq!(written.contains(&format!("Expect: {expects}\r\n")), passed, "{written}");
        }
    }

    #[test]
    fn targets_in_origin_form() {
        for (method, path, start) in [
            ("GET", "", "GET / HTTP/1.1"),
            ("GET", "?q", "GET /?q HTTP/1.1"),
            ("GET", "/a?q", "GET /a?q HTTP/1.1"),
            ("OPTIONS", "", "OPTIONS * HTTP/1.1"),
            ("OPTIONS", "/", "OPTIONS / HTTP/1.1"),
            ("FROB", "/", "FROB / HTTP/1.1"),
        ] {
            let head = request(&format!("{method} http://a.test{path} HTTP/1.0\r\n\r\n")).head;
            assert_eq!(written(&head), format!("{start}\r\nHost: a.test\r\nVia: 1.0 gw\r\n\r\n"));
        }
    }

    #[test]
    fn connections_are_kept_or_not() {
        for (version, lines, kept) in [
            ("1.1", "", true),
            ("1.1", "Connection: close\r\n", false),
            ("1.1", "Proxy-Connection: Close\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: Keep-Alive\r\n", true),
            ("1.0", "Proxy-Connection: keep-alive\r\n", true),
            ("1.0", "Connection: keep-alive, close\r\n", false),
        ] {
            let request = request(&format!("GET http://a/ HTTP/{version}\r\n{lines}\r\n"));
            assert_eq!(request.keeps_alive, kept, "{version} {lines}");
        }
    }

    #[test]
    fn loops_are_seen_by_name_only() {
        let head = "GET http://a/ HTTP/1.1\r\nVia: 1.0 fred, 1.1 tracker-7 (x)\r\nVia: 1.1 other\r\n\r\n";
        let head = request(head).head;
        let is_loop = |own| head.is_loop(own);
        assert!(is_loop("tracker-7") && is_loop("OTHER"));
        assert!(!is_loop("tracker") && !is_loop("1.1") && !is_loop("(x)"));
    }

    #[test]
    fn what_is_refused_and_what_is_not_there_yet() {
        for (head, why) in [
            ("GET http://a/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", BadRequest::OldCoding),
            (
                "GET http://a/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
                BadRequest::Framing(BadFraming::Both),
            ),
            ("GET  http://a/ HTTP/1.1\r\n\r\n", BadRequest::Syntax(httparse::Error::Token)),
            ("GET http://a/ HTTP/2.0\r\n\r\n", BadRequest::Syntax(httparse::Error::Version)),
            ("GET http://a/ HTTP/1.1\r\nX : 1\r\n\r\n", BadRequest::Syntax(httparse::Error::HeaderName)),
        ] {
            assert_eq!(Request::take(&mut head.as_bytes().into()).err(), Some(why), "{head:?}");
        }
        let many = format!("GET http://a/ HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(200));
        assert_eq!(Request::take(&mut many.as_bytes().into()).err(), Some(BadRequest::TooLarge));
        let long = format!("GET http://a/ HTTP/1.1\r\nX: {}", "x".repeat(MAX_HEAD));
        assert_eq!(Request::take(&mut long.as_bytes().into()).err(), Some(BadRequest::TooLarge));
        assert!(Request::take(&mut b"\r\nGET http://a/ HTTP/1.1\r\nX: 1\r\n"[..].into()).unwrap().is_none());
    }
}
