//! Answers: read, and written for the client.

use super::body::{Body, Coding};
use super::fields::{BadFraming, Fields, Name, Span, room};
use super::{MAX_HEAD, Method, Version, put};

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

/// An answer's head, as places in the buffer that it was read into.
#[derive(Debug)]
pub(in crate::proxy) struct Response {
    pub(in crate::proxy) status: u16,
    /// The bytes that the head takes.
    pub(in crate::proxy) length: usize,
    version: Version,
    reason: Span,
    fields: Fields,
}

/// Who gets it.
#[derive(Clone, Copy, Debug)]
pub(in crate::proxy) struct Recipient<'a> {
    /// The version of their request.
    pub(in crate::proxy) version: Version,
    /// The method of their request.
    pub(in crate::proxy) method: Method,
    /// Their connection may be used for another request, as far as they and we are concerned.
    pub(in crate::proxy) keeps_alive: bool,
    /// The gateway's own proof, the value of `Proxy-Authenticate`.
    pub(in crate::proxy) proof: Option<&'a str>,
    /// Our name in `Via`.
    pub(in crate::proxy) via: &'a str,
}

/// An answer as it goes on.
#[derive(Debug)]
pub(in crate::proxy) struct Answered {
    pub(in crate::proxy) head: Vec<u8>,
    pub(in crate::proxy) body: Body,
    pub(in crate::proxy) coding: Coding,
    /// The client's connection may be used for another request.
    pub(in crate::proxy) client_kept: bool,
    /// The origin's connection may be used for another request.
    pub(in crate::proxy) origin_kept: bool,
    /// The origin asks the client for what may authenticate the connection.
    pub(in crate::proxy) origin_asks: bool,
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
            reason: Span::of(parsed.reason.unwrap_or_default().as_bytes(), head),
            fields: Fields::of(parsed.headers, head),
        }))
    }

    /// Whether another answer to the same request follows.
    pub(in crate::proxy) const fn is_interim(&self) -> bool {
        matches!(self.status, 100..=199) && self.status != 101
    }

    /// The protocol that the origin changes to.
    pub(in crate::proxy) fn upgrade<'a>(&'a self, head: &'a [u8]) -> Option<&'a [u8]> {
        self.fields.upgrade(head)
    }

    /// A final answer, as the client gets it.
    pub(in crate::proxy) fn answer(
        &self,
        head: &[u8],
        recipient: &Recipient<'_>,
    ) -> Result<Answered, BadResponse> {
        let framing = self.fields.framing(head);
        // With both, the chunks count (RFC 9112, section 6.3), but such a connection is not trusted any further.
        let (chunked, length, is_clear) = match framing {
            Ok(framing) => (framing.chunked, framing.length, true),
            Err(BadFraming::Both) => (true, None, false),
            Err(bad) => return Err(BadResponse::Framing(bad)),
        };
        if chunked && self.version == Version::Http10 {
            return Err(BadResponse::Framing(BadFraming::Coding));
        }
        let has_content = recipient.method != Method::Head && !matches!(self.status, 204 | 304);
        let body = match length {
            _ if !has_content => Body::None,
            _ if chunked => Body::chunked(),
            Some(length) => Body::of_length(length),
            None => Body::UntilClose,
        };
        let coding = match (&body, recipient.version) {
            (Body::Chunked(_) | Body::UntilClose, Version::Http10) => Coding::Plain,
            (Body::UntilClose, Version::Http11) => Coding::Chunked,
            _ => Coding::Same,
        };
        let says = |token| self.fields.has_token(head, Name::Connection, token);
        let origin_kept = is_clear
            && !says("close")
            && (self.version == Version::Http11 || says("keep-alive"))
            && !matches!(body, Body::UntilClose);
        let client_kept = recipient.keeps_alive && coding != Coding::Plain;
        let origin_asks = self.fields.challenge_binds(head);

        let mut out = self.begin(head, recipient);
        let mut put = |parts: &[&[u8]]| put(&mut out, parts);
        match (&body, length) {
            (Body::Chunked(_) | Body::UntilClose, _) if coding != Coding::Plain => {
                put(&[b"Transfer-Encoding: chunked\r\n"]);
            }
            // An answer to HEAD, or 304, tells how long it would have been.
            (_, Some(length)) if self.status != 204 => {
                put(&[b"Content-Length: ", length.to_string().as_bytes(), b"\r\n"]);
            }
            _ => {}
        }
        if origin_asks {
            // RFC 4559, section 6: the client may go on with its handshake, this connection stays its own.
            put(&[b"Proxy-Support: Session-Based-Authentication\r\n"]);
        }
        if let Some(proof) = recipient.proof {
            put(&[b"Proxy-Authenticate: ", proof.as_bytes(), b"\r\n"]);
        }
        put(&[connection(client_kept, recipient.version), b"\r\n"]);
        Ok(Answered { head: out, body, coding, client_kept, origin_kept, origin_asks })
    }

    /// An interim answer, as the client gets it; `None` if it means nothing to them.
    pub(in crate::proxy) fn interim(&self, head: &[u8], recipient: &Recipient<'_>) -> Option<Vec<u8>> {
        if recipient.version == Version::Http10 {
            return None;
        }
        let mut out = self.begin(head, recipient);
        out.extend_from_slice(b"\r\n");
        Some(out)
    }

    /// 101, as the client gets it.
    pub(in crate::proxy) fn switching(&self, head: &[u8], to: &[u8], recipient: &Recipient<'_>) -> Vec<u8> {
        let mut out = self.begin(head, recipient);
        let mut put = |parts: &[&[u8]]| put(&mut out, parts);
        put(&[b"Upgrade: ", to, b"\r\nConnection: upgrade\r\n"]);
        if let Some(proof) = recipient.proof {
            put(&[b"Proxy-Authenticate: ", proof.as_bytes(), b"\r\n"]);
        }
        put(&[b"\r\n"]);
        out
    }

    /// The status line, the fields that are for the client, and our line of `Via`.
    fn begin(&self, head: &[u8], recipient: &Recipient<'_>) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.length + 160);
        let mut put = |parts: &[&[u8]]| put(&mut out, parts);
        let status = self.status.to_string();
        let version = recipient.version.as_str().as_bytes();
        put(&[version, b" ", status.as_bytes(), b" ", self.reason.in_(head), b"\r\n"]);
        for line in self.fields.iter(head) {
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
            if !own && !self.fields.is_named(head, &line) {
                put(&[line.name, b": ", line.value, b"\r\n"]);
            }
        }
        put(&[b"Via: ", self.version.number(), b" "]);
        put(&[recipient.via.as_bytes(), b"\r\n"]);
        out
    }
}

/// What `Connection` has to say so that the client knows whether it goes on.
pub(in crate::proxy) const fn connection(kept: bool, version: Version) -> &'static [u8] {
    match (kept, version) {
        (true, Version::Http11) => b"",
        (true, Version::Http10) => b"Connection: keep-alive\r\n",
        (false, _) => b"Connection: close\r\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(method: Method, version: Version) -> Recipient<'static> {
        Recipient { version, method, keeps_alive: true, proof: None, via: "gw" }
    }

    fn answer(head: &str, recipient: &Recipient<'_>) -> Result<Answered, BadResponse> {
        let bytes = head.as_bytes();
        Response::parse(bytes).map(|response| response.unwrap())?.answer(bytes, recipient)
    }

    #[test]
    fn the_client_gets_only_what_is_for_it() {
        let head = "HTTP/1.1 299 Fine by me\r\nConnection: x-hop\r\nX-Hop: 1\r\nProxy-Authenticate: Basic\r\n\
                    Server: s\r\nProxy-Support: x\r\nContent-Length: 5, 5\r\n\r\n";
        let recipient = Recipient { proof: Some("Negotiate x"), ..to(Method::Get, Version::Http11) };
        let answered = answer(head, &recipient).unwrap();
        assert_eq!(
            String::from_utf8(answered.head).unwrap(),
            "HTTP/1.1 299 Fine by me\r\nServer: s\r\nVia: 1.1 gw\r\nContent-Length: 5\r\nProxy-Authenticate: Negotiate x\r\n\r\n"
        );
        assert!(answered.client_kept && answered.origin_kept && !answered.origin_asks);
    }

    /// RFC 9112, section 6.3: who ends where, and in what framing it goes on.
    #[test]
    fn the_framing_of_answers() {
        use Method::{Get, Head};
        use Version::{Http10, Http11};
        let chunked = "Transfer-Encoding: chunked\r\n";
        for (start, lines, method, version, coding, kept, says) in [
            (
                "HTTP/1.1 200 ",
                "Content-Length: 3\r\n",
                Get,
                Http11,
                Coding::Same,
                (true, true),
                "Content-Length: 3",
            ),
            ("HTTP/1.1 200 ", chunked, Get, Http11, Coding::Same, (true, true), "chunked"),
            ("HTTP/1.1 200 ", chunked, Get, Http10, Coding::Plain, (false, true), "Connection: close"),
            ("HTTP/1.1 200 ", "", Get, Http11, Coding::Chunked, (true, false), "chunked"),
            ("HTTP/1.0 200 ", "", Get, Http10, Coding::Plain, (false, false), "Connection: close"),
            (
                "HTTP/1.0 200 ",
                "Content-Length: 3\r\n",
                Get,
                Http10,
                Coding::Same,
                (true, false),
                "keep-alive",
            ),
            (
                "HTTP/1.1 200 ",
                "Content-Length: 3\r\n",
                Head,
                Http11,
                Coding::Same,
                (true, true),
                "Content-Length: 3",
            ),
            (
                "HTTP/1.1 304 ",
                "Content-Length: 3\r\n",
                Get,
                Http11,
                Coding::Same,
                (true, true),
                "Content-Length: 3",
            ),
            ("HTTP/1.1 204 ", "Connection: close\r\n", Get, Http11, Coding::Same, (true, false), "204"),
            (
                "HTTP/1.1 200 ",
                "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
                Get,
                Http11,
                Coding::Same,
                (true, false),
                "chunked",
            ),
        ] {
            let answered = answer(&format!("{start}x\r\n{lines}\r\n"), &to(method, version)).unwrap();
            let head = String::from_utf8(answered.head).unwrap();
            let what = format!("{start}{lines} {method:?} {version:?}: {head}");
            assert_eq!(answered.coding, coding, "{what}");
            assert_eq!((answered.client_kept, answered.origin_kept), kept, "{what}");
            assert!(head.contains(says), "{what}");
            assert!(!(head.contains("chunked") && head.contains("Content-Length")), "{what}");
        }
        for lines in ["Content-Length: 3\r\nContent-Length: 4\r\n", "Transfer-Encoding: gzip, chunked\r\n"] {
            assert!(answer(&format!("HTTP/1.1 200 x\r\n{lines}\r\n"), &to(Get, Http11)).is_err(), "{lines}");
        }
        assert!(answer(&format!("HTTP/1.0 200 x\r\n{chunked}\r\n"), &to(Get, Http11)).is_err());
    }

    #[test]
    fn interim_answers() {
        let head = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        let response = Response::parse(head.as_bytes()).unwrap().unwrap();
        assert!(response.is_interim());
        let early = response.interim(head.as_bytes(), &to(Method::Get, Version::Http11)).unwrap();
        assert_eq!(
            String::from_utf8(early).unwrap(),
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nVia: 1.1 gw\r\n\r\n"
        );
        assert!(response.interim(head.as_bytes(), &to(Method::Get, Version::Http10)).is_none());
    }
}
