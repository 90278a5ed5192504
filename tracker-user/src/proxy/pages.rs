//! The answers that the proxy gives itself: small pages that name what went wrong and whose turn it is.

use std::borrow::Cow;
use std::fmt::Write as _;

use hyper::StatusCode;

use super::http1::{Method, Version, connection};
use crate::auth::conditions::Denied;
use crate::auth::negotiate::Cause;
use crate::auth::token;
use crate::clock::wall_now;
use crate::outside;
use crate::session::Denial;
use crate::types::Factor;

/// One column that is pleasant to read on any screen, in light and dark.
macro_rules! style {
    () => {
        "<meta name=\"viewport\" content=\"width=device-width\"><style>:root{color-scheme:light dark}\
         body{font:1rem/1.5 system-ui,sans-serif;max-width:38rem;margin:4rem auto;padding:0 1rem}\
         h1{font-size:1.4rem}small{opacity:.7}</style>"
    };
}

const CHALLENGE: &str = concat!(
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>407 Proxy Authentication Required</title>",
    style!(),
    "</head>\n<body><h1>Log in to use this proxy</h1>\n<p>It asks who you are by Kerberos (Negotiate), and your browser had no \
     answer.</p>\n<ul><li>Log in to your domain, or run <code>kinit</code>, where its servers can be reached.</li>\n\
     <li>Use the proxy by its full name, not by its address.</li></ul>\n\
     <small>407 from the proxy</small>\n</body></html>\n"
);

/// A page. Never says who the user is: whoever sits at the client may be somebody else.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) status: StatusCode,
    /// The connection ends with it.
    pub(super) closes: bool,
    html: Cow<'static, str>,
    /// The value of `Proxy-Authenticate`.
    challenge: Option<Cow<'static, str>>,
    retry: bool,
}

/// What an answer to one request depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct To {
    pub(super) version: Version,
    pub(super) method: Method,
    /// The connection goes on.
    pub(super) kept: bool,
}

impl Page {
    /// `text` is plain: it is escaped here.
    pub(super) fn new(status: StatusCode, text: impl AsRef<str>) -> Self {
        Self::headed(status, status.canonical_reason().unwrap_or("Error"), text.as_ref(), None)
    }

    /// With a heading of its own; `word` is what the person may tell the operator.
    fn headed(status: StatusCode, heading: &str, text: &str, word: Option<&str>) -> Self {
        let (code, reason) = (status.as_u16(), status.canonical_reason().unwrap_or("Error"));
        let mut html = String::with_capacity(640 + text.len());
        let _ = write!(
            html,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{code} {reason}</title>{style}</head>\n\
             <body><h1>{heading}</h1>\n<p>",
            style = style!(),
        );
        escape(text, &mut html);
        let word = word.map(|word| format!(" ({word})")).unwrap_or_default();
        let _ = write!(html, "</p>\n<small>{code} from the proxy{word}</small>\n</body></html>\n");
        Self { html: html.into(), ..Self::empty(status) }
    }

    /// An answer without a text.
    pub(super) const fn empty(status: StatusCode) -> Self {
        Self { status, closes: false, html: Cow::Borrowed(""), challenge: None, retry: false }
    }

    /// 407: asks the client to prove who its user is; with a token where a handshake goes on or was refused with one.
    pub(super) fn challenge(answer: Option<&[u8]>) -> Self {
        Self {
            html: Cow::Borrowed(CHALLENGE),
            challenge: Some(answer.map_or(Cow::Borrowed("Negotiate"), |answer| proof(answer).into())),
            ..Self::empty(StatusCode::PROXY_AUTHENTICATION_REQUIRED)
        }
    }

    /// 407: the credentials proved nothing, others may; with a token that tells the client's library why.
    pub(super) fn refused(cause: Cause, answer: Option<&[u8]>) -> Self {
        let challenge = Self::challenge(answer).challenge;
        let status = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        Self { challenge, ..Self::headed(status, cause.heading(), cause.for_people(), Some(cause.label())) }
    }

    /// 403: nothing is offered, since nothing that the client has would help.
    pub(super) fn given_up(cause: Cause) -> Self {
        Self::headed(StatusCode::FORBIDDEN, cause.heading(), cause.for_people(), Some(cause.label()))
    }

    /// 403: the conditions do not offer Kerberos, and there is nothing else yet.
    pub(super) fn not_offered(denied: Denied) -> Self {
        let text = format!(
            "{} It has no other way to know who you are: use another browser or computer, or ask its operator.",
            denied.step.for_people()
        );
        Self::headed(StatusCode::FORBIDDEN, "You cannot log in here", &text, Some(&denied.to_string()))
    }

    /// 403: the user is known, and has to prove a second factor, for which there is no page yet.
    pub(super) fn step_up(factor: Factor) -> Self {
        let what = match factor {
            Factor::Totp => "a code from your authenticator app",
            Factor::Passkey => "your passkey",
        };
        let text = format!(
            "The proxy knows who you are, and needs a second proof: {what}. It has no page yet where you could give it: ask \
             its operator."
        );
        Self::headed(StatusCode::FORBIDDEN, "A second factor is needed", &text, Some(factor.as_str()))
    }

    /// 503: nobody is served on this connection.
    pub(super) fn denied(denial: Denial) -> Self {
        let Denial::Unwatched = denial;
        let text = "The proxy cannot watch over this connection, and serves nobody on a connection that it cannot watch \
                    over. Try again.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text).retry().closing()
    }

    /// A request that cannot be understood: what follows on the connection cannot be either.
    pub(super) fn bad_request(text: impl AsRef<str>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text).closing()
    }

    /// Closes the connection after the page.
    pub(super) const fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// Asks the client to try again in a second.
    pub(super) const fn retry(mut self) -> Self {
        self.retry = true;
        self
    }

    /// How many bytes of content it has for this request.
    pub(super) fn content(&self, to: &To) -> u64 {
        if to.method == Method::Head { 0 } else { self.html.len() as u64 }
    }

    /// As it is sent; `proof` is the gateway's own, where the request brought credentials.
    pub(super) fn write(&self, to: &To, proof: Option<&str>) -> Vec<u8> {
        let mut out = String::with_capacity(256 + self.html.len());
        let (version, code) = (to.version.as_str(), self.status.as_u16());
        let reason = self.status.canonical_reason().unwrap_or_default();
        let _ = write!(
            out,
            "{version} {code} {reason}\r\nDate: {}\r\nContent-Type: text/html; charset=utf-8\r\n\
             Cache-Control: no-store\r\nContent-Length: {}\r\n",
            jiff::fmt::rfc2822::DateTimePrinter::new()
                .timestamp_to_rfc9110_string(&wall_now())
                .unwrap_or_default(),
            self.html.len()
        );
        for value in self.challenge.as_deref().into_iter().chain(proof) {
            let _ = write!(out, "Proxy-Authenticate: {value}\r\n");
        }
        if self.retry {
            out.push_str("Retry-After: 1\r\n");
        }
        let mut out = out.into_bytes();
        out.extend_from_slice(connection(to.kept, to.version));
        out.extend_from_slice(b"\r\n");
        if to.method != Method::Head {
            out.extend_from_slice(self.html.as_bytes());
        }
        out
    }
}

/// A token as the value of `Proxy-Authenticate`; on a success it is the gateway's own proof (RFC 4559, section 5).
pub(super) fn proof(answer: &[u8]) -> String {
    format!("Negotiate {}", token::encode(answer))
}

fn escape(text: &str, html: &mut String) {
    for c in outside::shown(text, outside::SENTENCE).chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_sent_cannot_become_markup() {
        let mut html = String::new();
        escape("<script>alert('a&b')</script>\n", &mut html);
        assert_eq!(html, "&lt;script&gt;alert(&#39;a&amp;b&#39;)&lt;/script&gt;\\n");
    }

    #[test]
    fn a_head_request_gets_the_head_only() {
        let page = Page::new(StatusCode::NOT_FOUND, "x").retry();
        let to = To { version: Version::Http10, method: Method::Head, kept: true };
        let text = String::from_utf8(page.write(&to, Some("Negotiate x"))).unwrap();
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
