//! The pages that the proxy answers with itself: small, they name what went wrong and whose turn it is. None says who the
//! user is: whoever sits at the client may be somebody else.

use std::borrow::Cow;
use std::fmt::Write as _;

use http::StatusCode;

use super::Reply;
use crate::auth::conditions::Denied;
use crate::auth::negotiate::Cause;
use crate::auth::token;
use crate::outside;

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

impl Reply {
    /// `text` is plain: it is escaped here.
    pub(in crate::proxy) fn new(status: StatusCode, text: impl AsRef<str>) -> Self {
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
        Self::page(status, html.into())
    }

    /// 407: asks the client to prove who its user is; with a token where a handshake goes on or was refused with one.
    pub(in crate::proxy) fn challenge(answer: Option<&[u8]>) -> Self {
        Self::page(StatusCode::PROXY_AUTHENTICATION_REQUIRED, Cow::Borrowed(CHALLENGE))
            .authenticate(negotiate(answer))
    }

    /// 407: the credentials proved nothing, others may; with a token that tells the client's library why.
    pub(in crate::proxy) fn refused(cause: Cause, answer: Option<&[u8]>) -> Self {
        let status = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        Self::headed(status, cause.heading(), cause.for_people(), Some(cause.label()))
            .authenticate(negotiate(answer))
    }

    /// 403: nothing is offered, since nothing that the client has would help.
    pub(in crate::proxy) fn given_up(cause: Cause) -> Self {
        Self::headed(StatusCode::FORBIDDEN, cause.heading(), cause.for_people(), Some(cause.label()))
    }

    /// 403: the conditions do not offer Kerberos, and there is nothing else yet.
    pub(in crate::proxy) fn not_offered(denied: Denied) -> Self {
        let text = format!(
            "{} It has no other way to know who you are: use another browser or computer, or ask its operator.",
            denied.step.for_people()
        );
        Self::headed(StatusCode::FORBIDDEN, "You cannot log in here", &text, Some(&denied.to_string()))
    }

    /// 503: what happens on this connection would not be noticed.
    pub(in crate::proxy) fn unseen() -> Self {
        let text = "The proxy cannot watch over this connection, and serves nobody on a connection that it cannot watch \
                    over. Try again.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, text).retry().closing()
    }

    /// A request that cannot be understood: what follows on the connection cannot be either.
    pub(in crate::proxy) fn bad_request(text: impl AsRef<str>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text).closing()
    }
}

/// The gateway's own proof that it is who the client's ticket is for, as the value of `Proxy-Authenticate` in the answer to
/// a request that was admitted (mutual authentication; RFC 4559, section 5).
pub(in crate::proxy) fn mutual_auth(token: &[u8]) -> String {
    format!("Negotiate {}", token::encode(token))
}

/// The challenge, with a token where a handshake goes on.
fn negotiate(token: Option<&[u8]>) -> Cow<'static, str> {
    token.map_or(Cow::Borrowed("Negotiate"), |token| mutual_auth(token).into())
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
}
