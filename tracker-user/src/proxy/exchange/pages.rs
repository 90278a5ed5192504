//! The pages that the proxy answers with itself: small, they name what went wrong and whose turn it is, and lead to where
//! people log in. None says who the user is: whoever sits at the client may be somebody else.

use http::StatusCode;

use super::Reply;
use super::page::Page;
use crate::auth::{Cause, NoOffer, Offer, Schemes};
use crate::session::Denial;
use crate::types::{Factor, UserMessage};

/// Over what leads to a login.
const LOG_IN: UserMessage = UserMessage::new("Log in to use this proxy");

impl Reply {
    /// A page for the person at the client. It takes nothing but a [`UserMessage`], so that no words of an operator's get onto it.
    pub(in crate::proxy) fn new(status: StatusCode, message: &UserMessage) -> Self {
        let heading = UserMessage::new(status.canonical_reason().unwrap_or("Error"));
        Self::headed(status, heading, message.clone(), None)
    }

    /// With a heading of its own; `label` is what the person may tell the operator.
    fn headed(
        status: StatusCode,
        heading: UserMessage,
        message: UserMessage,
        label: Option<&'static str>,
    ) -> Self {
        Self::page(
            status,
            Page { heading, message, label, remedies: Schemes::NONE, login: None, leads_on: false },
        )
    }

    /// What a request is answered that has to prove itself: 407, or 403 where it cannot; `login` is the address of a page where
    /// it can.
    pub(in crate::proxy) fn offer(offer: &Offer, login: Option<String>) -> Self {
        let reply = match offer {
            Offer::Schemes(schemes) => return Self::challenge(*schemes, None, login),
            Offer::Nothing(why @ NoOffer::Conditions(_)) if login.is_some() => {
                let message = UserMessage::new("Your browser cannot log in by itself here.");
                Self::headed(StatusCode::FORBIDDEN, LOG_IN, message, Some(why.label()))
            }
            Offer::Nothing(why) => {
                Self::headed(StatusCode::FORBIDDEN, why.heading(), why.user_message(), Some(why.label()))
            }
        };
        reply.with_login(login)
    }

    /// 302: to the page where people log in.
    pub(in crate::proxy) fn led(login: String) -> Self {
        let message = UserMessage::new("Your browser is led to the page where you log in.");
        Self::headed(StatusCode::FOUND, LOG_IN, message, None).with_login(Some(login))
    }

    /// 407: asks the client to prove who its user is; with a message where a handshake of Negotiate goes on. `login`: see
    /// [`Self::offer`].
    pub(in crate::proxy) fn challenge(
        schemes: Schemes,
        message: Option<&[u8]>,
        login: Option<String>,
    ) -> Self {
        use crate::auth::Scheme::{Basic, Negotiate};
        let asks = UserMessage::new(match (schemes.has(Negotiate), schemes.has(Basic)) {
            (true, true) => {
                "It asks who you are by Kerberos (Negotiate), or by your name and password, and your browser had no answer."
            }
            (false, true) => "It asks who you are by your name and password, and your browser had no answer.",
            _ => "It asks who you are by Kerberos (Negotiate), and your browser had no answer.",
        });
        let page =
            Page { heading: LOG_IN, message: asks, label: None, remedies: schemes, login, leads_on: false };
        Self::page(StatusCode::PROXY_AUTHENTICATION_REQUIRED, page).challenging(schemes, message)
    }

    /// 407: the credentials proved nothing, others may; with a message that tells the client's library why. `login`: see
    /// [`Self::offer`].
    pub(in crate::proxy) fn rejected(
        cause: Cause,
        schemes: Schemes,
        message: Option<&[u8]>,
        login: Option<String>,
    ) -> Self {
        let status = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        Self::headed(status, cause.heading(), cause.user_message(), Some(cause.page_label()))
            .with_login(login)
            .challenging(schemes, message)
    }

    /// 403: the user is known, and has to prove a second factor on the portal. `login`: see [`Self::offer`].
    pub(in crate::proxy) fn step_up(factor: Factor, login: Option<String>) -> Self {
        let message = UserMessage::new(
            "The proxy knows who you are, and needs a second proof, as a code from your authenticator app is one. Log in on its \
             own page, and give it there.",
        );
        let heading = UserMessage::new("A second factor is needed");
        Self::headed(StatusCode::FORBIDDEN, heading, message, Some(factor.as_str())).with_login(login)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Scheme;
    use crate::auth::kerberos::conditions::{Denied, Step};

    fn fields(reply: &Reply, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        reply.each_field(|field, value| {
            if field == name {
                found.push(value.to_owned());
            }
        });
        found
    }

    #[test]
    fn an_offer_is_a_challenge_or_a_reason_and_a_way_on() {
        let both = Schemes::NEGOTIATE.then(Scheme::Basic);
        let challenge = Reply::offer(&Offer::Schemes(both), None);
        assert_eq!(challenge.status(), 407);
        let challenges = fields(&challenge, "Proxy-Authenticate");
        assert_eq!(challenges, ["Negotiate", "Basic realm=\"proxy\", charset=\"UTF-8\""]);

        let nothing = Offer::Nothing(NoOffer::Conditions(Denied { step: Step::Browser, why: "" }));
        let login = "https://proxy.test:4081/login?to=a";
        for (reply, status) in [
            (Reply::offer(&nothing, Some(login.to_owned())), 403),
            (Reply::led(login.to_owned()), 302),
            (Reply::offer(&Offer::Schemes(both), Some(login.to_owned())), 407),
        ] {
            let reply = reply.dressed_for_tests();
            assert_eq!(reply.status(), status);
            assert!(reply.content().contains(&format!("<a href=\"{login}\">")), "{}", reply.content());
            let location = if status == 302 { vec![login.to_owned()] } else { vec![] };
            assert_eq!(fields(&reply, "Location"), location);
        }
        let alone = Reply::offer(&nothing, None).dressed_for_tests();
        assert!(
            alone.content().contains("another browser") && !alone.content().contains("<a "),
            "{}",
            alone.content()
        );
    }
}
