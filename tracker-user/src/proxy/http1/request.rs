//! Requests: read, and written for the origin.

use std::borrow::Cow;

use super::body::Body;
use super::fields::{BadFraming, Fields, Name, Span, room};
use super::{MAX_HEAD, Version, put};
use crate::outside;

/// A request's method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::proxy) enum Method {
    Connect,
    Delete,
    #[default]
    Get,
    Head,
    Options,
    Patch,
    Post,
    Put,
    Trace,
    /// One that means nothing special to a proxy.
    Other,
}

impl Method {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Connect, "CONNECT"),
        (Self::Delete, "DELETE"),
        (Self::Get, "GET"),
        (Self::Head, "HEAD"),
        (Self::Options, "OPTIONS"),
        (Self::Patch, "PATCH"),
        (Self::Post, "POST"),
        (Self::Put, "PUT"),
        (Self::Trace, "TRACE"),
    ];

    fn of(name: &str) -> Self {
        Self::ALL.iter().find(|(_, own)| *own == name).map_or(Self::Other, |(method, _)| *method)
    }

    /// Its name, if it is one of the known ones.
    pub(in crate::proxy) fn name(self) -> Option<&'static str> {
        Self::ALL.iter().find(|(method, _)| *method == self).map(|(_, name)| *name)
    }

    /// Whether it asks for nothing to be changed (RFC 9110, section 9.2.1).
    pub(in crate::proxy) const fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }
}

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
}

impl BadRequest {
    fn of(error: httparse::Error) -> Self {
        if error == httparse::Error::TooManyHeaders { Self::TooLarge } else { Self::Syntax(error) }
    }
}

/// A request's head, as places in the buffer that it was read into: `head` below is always the unread part of that.
#[derive(Debug)]
pub(in crate::proxy) struct Request {
    pub(in crate::proxy) method: Method,
    pub(in crate::proxy) version: Version,
    /// The bytes that the head takes.
    pub(in crate::proxy) length: usize,
    /// The connection may be used for another request.
    pub(in crate::proxy) keeps_alive: bool,
    /// The client waits for 100 before it sends the content.
    pub(in crate::proxy) expects: bool,
    chunked: bool,
    content: Option<u64>,
    name: Span,
    target: Span,
    fields: Fields,
}

/// How a request goes on to the origin.
pub(in crate::proxy) struct Onward<'a> {
    /// `host`, or `host:port`, as it was asked for.
    pub(in crate::proxy) host: &'a [u8],
    /// What follows it, to the end of the target.
    pub(in crate::proxy) path: &'a [u8],
    /// Our line of `Via`.
    pub(in crate::proxy) via: &'a str,
    /// A new value of `Max-Forwards`.
    pub(in crate::proxy) forwards: Option<u32>,
}

impl Request {
    /// Reads a head from the beginning of `head`; `None` if its end has not come yet.
    pub(in crate::proxy) fn parse(head: &[u8]) -> Result<Option<Self>, BadRequest> {
        let mut room = room();
        let mut parsed = httparse::Request::new(&mut []);
        let length = match parsed.parse_with_uninit_headers(head, &mut room) {
            Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
            Ok(httparse::Status::Complete(_)) => return Err(BadRequest::TooLarge),
            Ok(httparse::Status::Partial) if head.len() < MAX_HEAD => return Ok(None),
            Ok(httparse::Status::Partial) => return Err(BadRequest::TooLarge),
            Err(error) => return Err(BadRequest::of(error)),
        };
        let version = Version::of(parsed.version);
        let (name, target) = (parsed.method.unwrap_or_default(), parsed.path.unwrap_or_default());
        let fields = Fields::of(parsed.headers, head);
        let framing = fields.framing(head).map_err(BadRequest::Framing)?;
        let is_old = version == Version::Http10;
        if is_old && framing.chunked {
            return Err(BadRequest::OldCoding);
        }
        let says = |token| {
            fields.has_token(head, Name::Connection, token)
                || fields.has_token(head, Name::ProxyConnection, token)
        };
        Ok(Some(Self {
            method: Method::of(name),
            version,
            length,
            keeps_alive: !says("close") && (!is_old || says("keep-alive")),
            expects: !is_old && fields.has_token(head, Name::Expect, "100-continue"),
            chunked: framing.chunked,
            content: framing.length,
            name: Span::of(name.as_bytes(), head),
            target: Span::of(target.as_bytes(), head),
            fields,
        }))
    }

    /// The content that follows the head.
    pub(in crate::proxy) fn body(&self) -> Body {
        if self.chunked { Body::chunked() } else { Body::of_length(self.content.unwrap_or(0)) }
    }

    /// Whether content follows the head.
    pub(in crate::proxy) const fn has_content(&self) -> bool {
        self.chunked || matches!(self.content, Some(1..))
    }

    /// The method's name.
    pub(in crate::proxy) fn method_name(&self, head: &[u8]) -> Cow<'static, str> {
        match self.method.name() {
            Some(known) => Cow::Borrowed(known),
            None => Cow::Owned(outside::shown_bytes(self.name.in_(head), outside::WORD)),
        }
    }

    /// What is asked for.
    pub(in crate::proxy) fn target<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        self.target.in_(head)
    }

    /// The value of a field, if there is exactly one; the first, if there are more.
    pub(in crate::proxy) fn field<'a>(&'a self, head: &'a [u8], name: Name) -> Option<&'a [u8]> {
        self.fields.all(head, name).next()
    }

    /// Whether a field is there more than once.
    pub(in crate::proxy) fn repeats(&self, name: Name) -> bool {
        self.fields.all(&[], name).nth(1).is_some()
    }

    /// Whether the proxy that calls itself `own` has seen the request before.
    pub(in crate::proxy) fn is_loop(&self, head: &[u8], own: &str) -> bool {
        // Via: 1.1 name (comment)
        self.fields.tokens(head, Name::Via).any(|hop| {
            let mut words = hop.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            words.nth(1).is_some_and(|name| name.eq_ignore_ascii_case(own.as_bytes()))
        })
    }

    /// Whether the client may be authenticating the connection to the origin, not the request alone.
    pub(in crate::proxy) fn binds_connection(&self, head: &[u8]) -> bool {
        self.fields.credentials_bind(head)
    }

    /// Whether the client wants to change the protocol, to one that may pass.
    pub(in crate::proxy) fn upgrades(&self, head: &[u8]) -> bool {
        self.version == Version::Http11 && self.fields.upgrade(head).is_some()
    }

    /// `Max-Forwards`, where it counts: OPTIONS and TRACE can be addressed to a proxy on the way (RFC 9110, 7.6.2).
    pub(in crate::proxy) fn max_forwards(&self, head: &[u8]) -> Option<u32> {
        if !matches!(self.method, Method::Options | Method::Trace) {
            return None;
        }
        std::str::from_utf8(self.field(head, Name::MaxForwards)?).ok()?.parse().ok()
    }

    /// The head as the origin gets it.
    pub(in crate::proxy) fn write(&self, head: &[u8], onward: &Onward<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.length + 128);
        let mut put = |parts: &[&[u8]]| put(&mut out, parts);
        let path = match (onward.path, self.method) {
            // What the whole server is asked for (RFC 9112, section 3.2.4).
            (b"", Method::Options) => &b"*"[..],
            (path, _) => path,
        };
        let is_old = self.version == Version::Http10;
        let slash: &[u8] = if matches!(path.first(), Some(b'/' | b'*')) { b"" } else { b"/" };
        put(&[self.name.in_(head), b" ", slash, path, b" HTTP/1.1\r\nHost: ", onward.host, b"\r\n"]);
        for line in self.fields.iter(head) {
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
            if !own && !self.fields.is_named(head, &line) {
                put(&[line.name, b": ", line.value, b"\r\n"]);
            }
        }
        put(&[b"Via: ", self.version.number(), b" "]);
        put(&[onward.via.as_bytes(), b"\r\n"]);
        if let Some(left) = onward.forwards {
            put(&[b"Max-Forwards: ", left.to_string().as_bytes(), b"\r\n"]);
        }
        let upgrade = self.fields.upgrade(head).filter(|_| self.version == Version::Http11);
        let trailers = self.fields.has_token(head, Name::Te, "trailers");
        match (trailers, upgrade) {
            (false, None) => {}
            (true, None) => put(&[b"TE: trailers\r\nConnection: TE\r\n"]),
            (false, Some(to)) => put(&[b"Upgrade: ", to, b"\r\nConnection: upgrade\r\n"]),
            (true, Some(to)) => put(&[b"TE: trailers\r\nUpgrade: ", to, b"\r\nConnection: TE, upgrade\r\n"]),
        }
        match self.content {
            _ if self.chunked => put(&[b"Transfer-Encoding: chunked\r\n"]),
            Some(length) => put(&[b"Content-Length: ", length.to_string().as_bytes(), b"\r\n"]),
            None => {}
        }
        put(&[b"\r\n"]);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(head: &str) -> Request {
        Request::parse(head.as_bytes()).unwrap().unwrap()
    }

    fn onward<'a>(host: &'a str, path: &'a str) -> Onward<'a> {
        Onward { host: host.as_bytes(), path: path.as_bytes(), via: "gw", forwards: None }
    }

    #[test]
    fn the_origin_gets_only_what_is_for_it() {
        let head = "POST http://a.test/x HTTP/1.1\r\nhost: wrong\r\nConnection: close, X-Own\r\n\
                    Connection: keep-alive, content-length, Host\r\nKeep-Alive: 5\r\nX-Own: 1\r\nX-Other:  2 \r\n\
                    Content-Length: 03\r\nProxy-Connection: close\r\nProxy-Authorization: Negotiate YQ==\r\n\
                    TE: gzip, Trailers\r\nExpect: 100-Continue\r\nTrailer: x-sum\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\nabc";
        let request = request(head);
        assert!(!request.keeps_alive && request.expects && request.has_content());
        assert_eq!(request.length, head.len() - 3);
        let written = String::from_utf8(request.write(head.as_bytes(), &onward("a.test", "/x"))).unwrap();
        assert_eq!(
            written,
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
            let request = request(&head);
            assert_eq!(request.expects, waits, "{version} {expects}");
            let written = String::from_utf8(request.write(head.as_bytes(), &onward("a.test", "/"))).unwrap();
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
            let head = format!("{method} http://a.test HTTP/1.0\r\n\r\n");
            let written = request(&head).write(head.as_bytes(), &onward("a.test", path));
            let written = String::from_utf8(written).unwrap();
            assert_eq!(written, format!("{start}\r\nHost: a.test\r\nVia: 1.0 gw\r\n\r\n"));
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
        let request = request(head);
        let is_loop = |own| request.is_loop(head.as_bytes(), own);
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
            assert_eq!(Request::parse(head.as_bytes()).err(), Some(why), "{head:?}");
        }
        let many = format!("GET http://a/ HTTP/1.1\r\n{}\r\n", "X: 1\r\n".repeat(200));
        assert_eq!(Request::parse(many.as_bytes()).err(), Some(BadRequest::TooLarge));
        let long = format!("GET http://a/ HTTP/1.1\r\nX: {}", "x".repeat(MAX_HEAD));
        assert_eq!(Request::parse(long.as_bytes()).err(), Some(BadRequest::TooLarge));
        assert!(Request::parse(b"\r\nGET http://a/ HTTP/1.1\r\nX: 1\r\n").unwrap().is_none());
    }
}
