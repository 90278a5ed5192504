//! The answers that the proxy gives itself: small pages that name what went wrong and whose turn it is.

use std::borrow::Cow;
use std::fmt::Write as _;

use hyper::StatusCode;

use super::http1::{BadFraming, Method, Version, connection};
use crate::auth::{Cause, Offer, Scheme, Schemes};
use crate::clock::wall_now;
use crate::outside;
use crate::session::Denial;
use crate::types::{Factor, UserMessage};

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
    /// What the client may prove its user with.
    schemes: Schemes,
    /// A message of Negotiate for the client.
    message: Option<String>,
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
    /// A page for the person at the client. It takes nothing but a [`UserMessage`], so that no words of an operator's get onto it.
    pub(super) fn new(status: StatusCode, message: &UserMessage) -> Self {
        let heading = UserMessage::new(status.canonical_reason().unwrap_or("Error"));
        Self::headed(status, &heading, message, None)
    }

    /// With a heading of its own; `label` is what the person may tell the operator.
    fn headed(
        status: StatusCode,
        heading: &UserMessage,
        message: &UserMessage,
        label: Option<&'static str>,
    ) -> Self {
        let (code, reason) = (status.as_u16(), status.canonical_reason().unwrap_or("Error"));
        let mut html = String::with_capacity(640 + message.as_str().len());
        let _ = write!(
            html,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{code} {reason}</title>{style}</head>\n\
             <body><h1>",
            style = style!(),
        );
        escape(heading.as_str(), &mut html);
        html.push_str("</h1>\n<p>");
        escape(message.as_str(), &mut html);
        let label = label.map(|label| format!(" ({label})")).unwrap_or_default();
        let _ = write!(html, "</p>\n<small>{code} from the proxy{label}</small>\n</body></html>\n");
        Self { html: html.into(), ..Self::empty(status) }
    }

    /// An answer without a text.
    pub(super) const fn empty(status: StatusCode) -> Self {
        Self {
            status,
            closes: false,
            html: Cow::Borrowed(""),
            schemes: Schemes::NONE,
            message: None,
            retry: false,
        }
    }

    /// What a request is answered that has to prove itself: 407, or 403 where it cannot.
    pub(super) fn offer(offer: &Offer) -> Self {
        match offer {
            Offer::Schemes(schemes) => Self::challenge(*schemes, None),
            Offer::Portal(address) => Self::portal(address),
            Offer::Nothing(why) => {
                Self::headed(StatusCode::FORBIDDEN, &why.heading(), &why.user_message(), Some(why.label()))
            }
        }
    }

    /// 403: leads to the page where people log in.
    fn portal(address: &str) -> Self {
        let mut html = String::with_capacity(640 + 2 * address.len());
        let mut link = String::with_capacity(address.len());
        escape(address, &mut link);
        let _ = write!(
            html,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>403 Forbidden</title>{style}</head>\n\
             <body><h1>Log in to use this proxy</h1>\n<p><a href=\"{link}\">{link}</a></p>\n\
             <small>403 from the proxy</small>\n</body></html>\n",
            style = style!(),
        );
        Self { html: html.into(), ..Self::empty(StatusCode::FORBIDDEN) }
    }

    /// 407: asks the client to prove who its user is; with a message where a handshake of Negotiate goes on.
    pub(super) fn challenge(schemes: Schemes, message: Option<&[u8]>) -> Self {
        Self {
            html: Cow::Borrowed(CHALLENGE),
            schemes,
            message: message.map(|message| Scheme::Negotiate.message(message)),
            ..Self::empty(StatusCode::PROXY_AUTHENTICATION_REQUIRED)
        }
    }

    /// 407: the credentials proved nothing, others may; with a message that tells the client's library why.
    pub(super) fn rejected(cause: Cause, schemes: Schemes, message: Option<&[u8]>) -> Self {
        let status = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        Self {
            schemes,
            message: message.map(|message| Scheme::Negotiate.message(message)),
            ..Self::headed(status, &cause.heading(), &cause.user_message(), Some(cause.label()))
        }
    }

    /// 403: the user is known, and has to prove a second factor, for which there is no page yet.
    pub(super) fn step_up(factor: Factor) -> Self {
        let what = match factor {
            Factor::Totp => "a code from your authenticator app",
            Factor::Passkey => "your passkey",
        };
        let message = UserMessage::new("The proxy knows who you are, and needs a second proof: ")
            .then(what)
            .then(". It has no page yet where you could give it: ask its operator.");
        let heading = UserMessage::new("A second factor is needed");
        Self::headed(StatusCode::FORBIDDEN, &heading, &message, Some(factor.as_str()))
    }

    /// 503: nobody is served on this connection.
    pub(super) fn denied(denial: Denial) -> Self {
        let Denial::Unwatched = denial;
        let text = "The proxy cannot watch over this connection, and serves nobody on a connection that it cannot watch \
                    over. Try again.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, &UserMessage::new(text)).retry().closing()
    }

    /// A request that cannot be understood: what follows on the connection cannot be either.
    pub(super) fn bad_request(message: &UserMessage) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message).closing()
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
        for value in self.schemes.challenges(self.message.as_deref()).chain(proof) {
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

/// What is wrong with a message's framing, for the person at the client.
pub(super) const fn framing(bad: BadFraming) -> &'static str {
    match bad {
        BadFraming::Length => "its Content-Length is not one number",
        BadFraming::Coding => "its transfer coding is not chunked",
        BadFraming::Both => "it has both a Transfer-Encoding and a Content-Length",
    }
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
    fn an_offer_is_a_challenge_a_link_or_a_reason() {
        let write = |offer: &Offer| {
            let to = To { version: Version::Http11, method: Method::Get, kept: true };
            String::from_utf8(Page::offer(offer).write(&to, None)).unwrap()
        };
        let both = Schemes::NEGOTIATE.then(Scheme::Basic);
        let challenge = write(&Offer::Schemes(both));
        assert!(challenge.starts_with("HTTP/1.1 407 "), "{challenge}");
        let first = challenge.find("Proxy-Authenticate: Negotiate\r\n").unwrap();
        assert!(
            challenge.find("Proxy-Authenticate: Basic realm=\"proxy\", charset=\"UTF-8\"\r\n") > Some(first)
        );
        let portal = write(&Offer::Portal("https://proxy.test:4081/login?a=b&c".into()));
        assert!(portal.starts_with("HTTP/1.1 403 ") && !portal.contains("Proxy-Authenticate"), "{portal}");
        assert!(portal.contains("<a href=\"https://proxy.test:4081/login?a=b&amp;c\">"), "{portal}");
    }

    #[test]
    fn a_head_request_gets_the_head_only() {
        let page = Page::new(StatusCode::NOT_FOUND, &UserMessage::new("x")).retry();
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
