//! What a client may prove its user with.

use super::cause::Cause;
use super::kerberos::conditions::Denied;
use super::kerberos::token;
use crate::types::{Method, UserMessage};

/// An authentication scheme (RFC 9110, section 11) that is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// GSSAPI tokens (RFC 4559).
    Negotiate,
    /// A name and a password (RFC 7617).
    Basic,
}

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 2] = [Self::Negotiate, Self::Basic];

    /// Its registered name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Negotiate => "Negotiate",
            Self::Basic => "Basic",
        }
    }

    /// The method that it proves somebody by.
    #[must_use]
    pub const fn method(self) -> Method {
        match self {
            Self::Negotiate => Method::Kerberos,
            Self::Basic => Method::Password,
        }
    }

    /// The scheme of this name, in any case.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| name.eq_ignore_ascii_case(scheme.name().as_bytes()))
    }

    /// What a client is told that may use it: a challenge without a message.
    const fn challenge(self) -> &'static str {
        match self {
            Self::Negotiate => "Negotiate",
            // The protection space has no name of its own; names and passwords are UTF-8 (RFC 7617, section 2.1).
            Self::Basic => "Basic realm=\"proxy\", charset=\"UTF-8\"",
        }
    }

    /// A message of the scheme as the value of a field: a handshake's next one, or what the gateway proves in turn.
    #[must_use]
    pub fn message(self, message: &[u8]) -> String {
        let mut value = String::with_capacity(self.name().len() + 1 + message.len().div_ceil(3) * 4);
        value.push_str(self.name());
        value.push(' ');
        token::encode_into(message, &mut value);
        value
    }
}

/// Schemes in the order in which they are offered: the one that is liked best comes first, as clients that do not know
/// better take the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Schemes([Option<Scheme>; Scheme::ALL.len()]);

impl Schemes {
    /// None.
    pub const NONE: Self = Self([None, None]);

    /// Negotiate alone.
    pub const NEGOTIATE: Self = Self([Some(Scheme::Negotiate), None]);

    /// Basic alone.
    pub const BASIC: Self = Self([Some(Scheme::Basic), None]);

    /// These, and `scheme` behind them, unless it is one of them.
    #[must_use]
    pub fn then(mut self, scheme: Scheme) -> Self {
        if !self.has(scheme)
            && let Some(free) = self.0.iter_mut().find(|place| place.is_none())
        {
            *free = Some(scheme);
        }
        self
    }

    /// Whether `scheme` is one of these.
    #[must_use]
    pub fn has(self, scheme: Scheme) -> bool {
        self.iter().any(|known| known == scheme)
    }

    /// Each of these, in order.
    pub fn iter(self) -> impl Iterator<Item = Scheme> {
        self.0.into_iter().flatten()
    }

    /// The values of `Proxy-Authenticate`, one a scheme. Where a handshake of Negotiate goes on, or was refused with a message,
    /// that ([`Scheme::message`]) takes the place of the bare name.
    pub fn challenges(self, negotiate: Option<&str>) -> impl Iterator<Item = &str> {
        self.iter().map(move |scheme| match (scheme, negotiate) {
            (Scheme::Negotiate, Some(message)) => message,
            _ => scheme.challenge(),
        })
    }
}

/// What a client may prove its user with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Credentials of one of these schemes (407).
    Schemes(Schemes),
    /// Nothing (403).
    Nothing(NoOffer),
}

/// Why nothing is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoOffer {
    /// The conditions do not offer Kerberos to such a request.
    Conditions(Denied),
    /// Credentials have failed on this connection in a way that others would too.
    Suppressed(Cause),
    /// Somebody has just logged out at the address: nobody is logged in there who has not typed a password in the portal.
    Held,
}

impl NoOffer {
    /// As the page names it, so that its reader can tell it to the operator.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Conditions(denied) => denied.step.label(),
            Self::Suppressed(cause) => cause.page_label(),
            Self::Held => "logout-hold",
        }
    }

    /// What it is, in a few words for the person at the client.
    #[must_use]
    pub const fn heading(self) -> UserMessage {
        match self {
            Self::Conditions(_) => UserMessage::new("You cannot log in here"),
            Self::Suppressed(cause) => cause.heading(),
            Self::Held => UserMessage::new("You are logged out"),
        }
    }

    /// What happened and what to do, for the person at the client.
    #[must_use]
    pub fn user_message(self) -> UserMessage {
        match self {
            Self::Conditions(denied) => denied.step.user_message().then(
                " It has no other way to know who you are: use another browser or computer, or ask its operator.",
            ),
            Self::Suppressed(cause) => cause.user_message(),
            Self::Held => UserMessage::new(
                "Somebody has just logged out at this computer. For a while nobody is logged in here who does not type a \
                 password on the proxy's own page: log in there, or try again later.",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_known_by_their_names_in_any_case() {
        for scheme in Scheme::ALL {
            for name in [scheme.name().to_owned(), scheme.name().to_ascii_uppercase()] {
                assert_eq!(Scheme::named(name.as_bytes()), Some(scheme));
            }
        }
        for other in [&b""[..], b"NTLM", b"Negotiat", b"Negotiate ", b"Basic\0"] {
            assert_eq!(Scheme::named(other), None);
        }
    }

    /// Every order of every set of them.
    #[test]
    fn an_offer_is_rendered_in_its_order_one_value_a_scheme() {
        let render = |schemes: Schemes, message| schemes.challenges(message).collect::<Vec<_>>();
        const BASIC: &str = "Basic realm=\"proxy\", charset=\"UTF-8\"";
        let basic = Schemes::NONE.then(Scheme::Basic);
        assert_eq!(render(Schemes::NONE, Some("Negotiate x")), [""; 0]);
        assert_eq!(render(Schemes::NEGOTIATE, None), ["Negotiate"]);
        assert_eq!(render(Schemes::NEGOTIATE, Some("Negotiate x")), ["Negotiate x"]);
        assert_eq!(render(basic, Some("Negotiate x")), [BASIC]);
        assert_eq!(render(Schemes::NEGOTIATE.then(Scheme::Basic), None), ["Negotiate", BASIC]);
        assert_eq!(render(basic.then(Scheme::Negotiate), Some("Negotiate x")), [BASIC, "Negotiate x"]);
        assert_eq!(basic.then(Scheme::Basic), basic, "each once");
        assert!(basic.has(Scheme::Basic) && !basic.has(Scheme::Negotiate));
        assert_eq!(Scheme::Negotiate.message(b"abcd"), "Negotiate YWJjZA==");
    }
}
