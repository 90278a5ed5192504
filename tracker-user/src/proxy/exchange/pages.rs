//! The pages that the proxy answers with itself: small, they name what went wrong and whose turn it is. None says who the
//! user is: whoever sits at the client may be somebody else.

use std::borrow::Cow;
use std::fmt::Write as _;

use http::StatusCode;

use super::Reply;
use crate::auth::{Cause, Offer, Scheme, Schemes};
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

/// What may be done for a ticket.
macro_rules! ticket {
    () => {
        "<li>Log in to your domain, or run <code>kinit</code>, where its servers can be reached.</li>\n\
         <li>Use the proxy by its full name, not by its address.</li>"
    };
}

/// And for a password.
macro_rules! password {
    () => {
        "<li>Give your browser or program your name and password for this proxy.</li>"
    };
}

/// The page of a challenge: how it asks, and what its reader can do.
macro_rules! challenge {
    ($by:literal, $($remedy:tt)*) => {
        concat!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>407 Proxy Authentication Required</title>",
            style!(),
            "</head>\n<body><h1>Log in to use this proxy</h1>\n<p>It asks who you are by ",
            $by,
            ", and your browser had no answer.</p>\n<ul>",
            $($remedy)*,
            "</ul>\n<small>407 from the proxy</small>\n</body></html>\n"
        )
    };
}

const BY_TICKET: &str = challenge!("Kerberos (Negotiate)", ticket!());
const BY_PASSWORD: &str = challenge!("your name and password", password!());
const BY_EITHER: &str =
    challenge!("Kerberos (Negotiate), or by your name and password", ticket!(), "\n", password!());

impl Reply {
    /// A page for the person at the client. It takes nothing but a [`UserMessage`], so that no words of an operator's get onto it.
    pub(in crate::proxy) fn new(status: StatusCode, message: &UserMessage) -> Self {
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
        Self::page(status, html.into())
    }

    /// What a request is answered that has to prove itself: 407, or 403 where it cannot.
    pub(in crate::proxy) fn offer(offer: &Offer) -> Self {
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
        Self::page(StatusCode::FORBIDDEN, html.into())
    }

    /// 407: asks the client to prove who its user is; with a message where a handshake of Negotiate goes on.
    pub(in crate::proxy) fn challenge(schemes: Schemes, message: Option<&[u8]>) -> Self {
        let page = match (schemes.has(Scheme::Negotiate), schemes.has(Scheme::Basic)) {
            (true, true) => BY_EITHER,
            (false, true) => BY_PASSWORD,
            _ => BY_TICKET,
        };
        Self::page(StatusCode::PROXY_AUTHENTICATION_REQUIRED, Cow::Borrowed(page))
            .challenging(schemes, message)
    }

    /// 407: the credentials proved nothing, others may; with a message that tells the client's library why.
    pub(in crate::proxy) fn rejected(cause: Cause, schemes: Schemes, message: Option<&[u8]>) -> Self {
        let status = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        Self::headed(status, &cause.heading(), &cause.user_message(), Some(cause.page_label()))
            .challenging(schemes, message)
    }

    /// 403: the user is known, and has to prove a second factor, for which there is no page yet.
    pub(in crate::proxy) fn step_up(factor: Factor) -> Self {
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
    pub(in crate::proxy) fn denied(denial: Denial) -> Self {
        let Denial::Unwatched = denial;
        let text = "The proxy cannot watch over this connection, and serves nobody on a connection that it cannot watch \
                    over. Try again.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, &UserMessage::new(text)).retry().closing()
    }

    /// A request that cannot be understood: what follows on the connection cannot be either.
    pub(in crate::proxy) fn bad_request(message: &UserMessage) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message).closing()
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
        let challenges = |reply: &Reply| {
            let mut found = Vec::new();
            reply.each_field(|name, value| {
                if name == "Proxy-Authenticate" {
                    found.push(value.to_owned());
                }
            });
            found
        };
        let both = Schemes::NEGOTIATE.then(Scheme::Basic);
        let challenge = Reply::offer(&Offer::Schemes(both));
        assert_eq!(challenge.status(), 407);
        assert_eq!(challenges(&challenge), ["Negotiate", "Basic realm=\"proxy\", charset=\"UTF-8\""]);
        let portal = Reply::offer(&Offer::Portal("https://proxy.test:4081/login?a=b&c".into()));
        assert_eq!((portal.status().as_u16(), challenges(&portal).len()), (403, 0));
        let link = "<a href=\"https://proxy.test:4081/login?a=b&amp;c\">";
        assert!(portal.content().contains(link), "{}", portal.content());
    }
}
