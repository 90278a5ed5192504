//! Answers: read, and written for the client.

use super::framing::{BadFraming, fields, framing, room};
use super::{Body, MAX_HEAD};
use crate::proxy::message::{Fields, Line, Method, Name, Span, Version};

/// Why an answer cannot be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::proxy) enum BadResponse {
    #[error("it is not HTTP/1")]
    Syntax,
    #[error("its head is too large")]
    TooLarge,
    #[error("it sends interim answers without end")]
    Endless,
    #[error("{0}")]
    Framing(BadFraming),
}

/// An answer's head as places in what it was read from; [`ResponseHead`] has both.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Response {
    status: u16,
    /// The bytes that the head takes.
    length: usize,
    version: Version,
    reason: Span,
    fields: Fields,
}

impl Response {
    /// Reads a head from the beginning of `head`; `None` if its end has not come yet.
    pub(in crate::proxy) fn parse(head: &[u8]) -> Result<Option<Self>, BadResponse> {
        let mut room = room();
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let length = match config.parse_response_with_uninit_headers(&mut parsed, head, &mut room) {
            Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
            Ok(httparse::Status::Partial) if head.len() < MAX_HEAD => return Ok(None),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(BadResponse::TooLarge),
            Err(_) => return Err(BadResponse::Syntax),
        };
        Ok(Some(Self {
            status: parsed.code.unwrap_or_default(),
            length,
            version: Version::of(parsed.version),
            reason: Span::find(parsed.reason.unwrap_or_default().as_bytes(), head),
            fields: fields(parsed.headers, head),
        }))
    }

    /// The bytes that it takes.
    pub(in crate::proxy) const fn length(&self) -> usize {
        self.length
    }
}

/// An origin's answer: its head, and the bytes that it lies in.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct ResponseHead<'a> {
    parsed: &'a Response,
    bytes: &'a [u8],
}

/// What follows the head of a final answer.
#[derive(Debug)]
pub(in crate::proxy) struct ResponseContent {
    pub(in crate::proxy) body: Body,
    /// The length that is announced. An answer to HEAD, or 304, tells how long it would have been.
    pub(in crate::proxy) length: Option<u64>,
    /// The origin's connection may be used for another request when all of it has come.
    pub(in crate::proxy) origin_kept: bool,
}

impl<'a> ResponseHead<'a> {
    /// `parsed` was read from the beginning of `bytes`.
    pub(in crate::proxy) const fn new(parsed: &'a Response, bytes: &'a [u8]) -> Self {
        Self { parsed, bytes }
    }

    pub(in crate::proxy) const fn status(self) -> u16 {
        self.parsed.status
    }

    /// The bytes that it takes.
    pub(in crate::proxy) const fn length(self) -> usize {
        self.parsed.length
    }

    /// What HTTP/1 says behind the status.
    pub(in crate::proxy) fn reason(self) -> &'a [u8] {
        self.parsed.reason.of(self.bytes)
    }

    pub(in crate::proxy) const fn version(self) -> Version {
        self.parsed.version
    }

    /// Whether another answer to the same request follows.
    pub(in crate::proxy) const fn is_interim(self) -> bool {
        matches!(self.parsed.status, 100..=199) && self.parsed.status != 101
    }

    /// The protocol that the origin changes to.
    pub(in crate::proxy) fn upgrade(self) -> Option<&'a [u8]> {
        self.parsed.fields.upgrade(self.bytes)
    }

    /// Whether the origin asks for something that may authenticate the connection.
    pub(in crate::proxy) fn challenge_binds(self) -> bool {
        self.parsed.fields.challenge_binds(self.bytes)
    }

    /// The fields that are for the client: not those of this connection, of framing, and of proxies.
    pub(in crate::proxy) fn end_to_end(self) -> impl Iterator<Item = Line<'a>> {
        let Self { parsed, bytes } = self;
        parsed.fields.iter(bytes).filter(move |line| {
            let own = matches!(
                line.known,
                Name::Connection
                    | Name::KeepAlive
                    | Name::ProxyConnection
                    // An origin has no business asking for proxy credentials.
                    | Name::ProxyAuthenticate
                    | Name::ProxyAuthenticationInfo
                    | Name::ProxySupport
                    | Name::Te
                    | Name::TransferEncoding
                    | Name::ContentLength
                    | Name::Upgrade
            );
            !own && !parsed.fields.is_named(bytes, line)
        })
    }

    /// What follows a final answer to a request with this method.
    pub(in crate::proxy) fn content(self, method: Method) -> Result<ResponseContent, BadResponse> {
        let Self { parsed: Response { version, status, fields, .. }, bytes } = self;
        // With both, the chunks count (RFC 9112, section 6.3), but such a connection is not trusted any further.
        let (chunked, length, is_clear) = match framing(fields, bytes) {
            Ok(framing) => (framing.chunked, framing.length, true),
            Err(BadFraming::Both) => (true, None, false),
            Err(bad) => return Err(BadResponse::Framing(bad)),
        };
        if chunked && *version == Version::Http10 {
            return Err(BadResponse::Framing(BadFraming::Coding));
        }
        let has_content = method != Method::Head && !matches!(status, 204 | 304);
        let body = match length {
            _ if !has_content => Body::None,
            _ if chunked => Body::chunked(),
            Some(length) => Body::of_length(length),
            None => Body::UntilClose,
        };
        let says = |token| fields.has_token(bytes, Name::Connection, token);
        let origin_kept = is_clear
            && !says("close")
            && (*version == Version::Http11 || says("keep-alive"))
            && !matches!(body, Body::UntilClose);
        Ok(ResponseContent { body, length: length.filter(|_| *status != 204), origin_kept })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(head: &str, method: Method) -> Result<ResponseContent, BadResponse> {
        let parsed = Response::parse(head.as_bytes()).map(Option::unwrap)?;
        ResponseHead::new(&parsed, head.as_bytes()).content(method)
    }

    /// RFC 9112, section 6.3: who ends where.
    #[test]
    fn where_answers_end() {
        let chunked = "Transfer-Encoding: chunked\r\n";
        for (start, lines, method, body, length, kept) in [
            ("HTTP/1.1 200 ", "Content-Length: 3\r\n", Method::Get, "Length(3)", Some(3), true),
            ("HTTP/1.1 200 ", chunked, Method::Get, "Chunked", None, true),
            ("HTTP/1.1 200 ", "", Method::Get, "UntilClose", None, false),
            ("HTTP/1.0 200 ", "Content-Length: 3\r\n", Method::Get, "Length(3)", Some(3), false),
            (
                "HTTP/1.0 200 ",
                "Content-Length: 3\r\nConnection: Keep-Alive\r\n",
                Method::Get,
                "Length(3)",
                Some(3),
                true,
            ),
            ("HTTP/1.1 200 ", "Content-Length: 3\r\n", Method::Head, "None", Some(3), true),
            ("HTTP/1.1 304 ", "Content-Length: 3\r\n", Method::Get, "None", Some(3), true),
            ("HTTP/1.1 204 ", "Content-Length: 3\r\nConnection: close\r\n", Method::Get, "None", None, false),
            (
                "HTTP/1.1 200 ",
                "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
                Method::Get,
                "Chunked",
                None,
                false,
            ),
        ] {
            let what = format!("{start}{lines} {method:?}");
            let content = content(&format!("{start}x\r\n{lines}\r\n"), method).unwrap();
            assert!(format!("{:?}", content.body).starts_with(body), "{what}: {:?}", content.body);
            assert_eq!((content.length, content.origin_kept), (length, kept), "{what}");
        }
        for lines in ["Content-Length: 3\r\nContent-Length: 4\r\n", "Transfer-Encoding: gzip, chunked\r\n"] {
            assert!(content(&format!("HTTP/1.1 200 x\r\n{lines}\r\n"), Method::Get).is_err(), "{lines}");
        }
        assert!(content(&format!("HTTP/1.0 200 x\r\n{chunked}\r\n"), Method::Get).is_err());
    }
}
