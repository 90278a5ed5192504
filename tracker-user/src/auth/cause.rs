//! Why credentials prove nothing, whatever their method: one word for logs and metrics, a remedy for operators, a sentence
//! for the person at the client.

use super::offer::Scheme;
use super::{kerberos, password};
use crate::types::{Method, UserMessage};

/// Why credentials were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// They are of a scheme that is not offered.
    Scheme,
    /// What is wrong with a Kerberos ticket, or with what came in its place.
    Kerberos(kerberos::Cause),
    /// Why a name and a password prove nothing.
    Password(password::Cause),
}

impl Cause {
    /// The word for [`Self::Scheme`], which is counted with the causes of Kerberos.
    pub(super) const SCHEME: &str = "scheme";

    /// As logs, metrics and the audit trail name it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Scheme => Self::SCHEME,
            Self::Kerberos(cause) => cause.label(),
            Self::Password(cause) => cause.label(),
        }
    }

    /// As a page names it, so that its reader can tell it to the operator. Nobody learns by it which names there are: what is
    /// wrong with a name or a password has one word for all of it.
    #[must_use]
    pub const fn page_label(self) -> &'static str {
        match self {
            Self::Password(cause) if !cause.is_told() => "password",
            Self::Password(cause) => cause.label(),
            Self::Scheme | Self::Kerberos(_) => self.label(),
        }
    }

    /// The scheme of the credentials, where it is one that can be offered.
    #[must_use]
    pub const fn scheme(self) -> Option<Scheme> {
        match self {
            Self::Scheme => None,
            Self::Kerberos(_) => Some(Scheme::Negotiate),
            Self::Password(_) => Some(Scheme::Basic),
        }
    }

    /// The method that was tried; `None` where what came is of none that is known here, as NTLM is.
    #[must_use]
    pub const fn method(self) -> Option<Method> {
        match self {
            Self::Scheme | Self::Kerberos(kerberos::Cause::Ntlm | kerberos::Cause::NoKerberos) => None,
            Self::Kerberos(_) => Some(Method::Kerberos),
            Self::Password(cause) => Some(cause.method()),
        }
    }

    /// What probably helps, for operators; empty where nothing is known to.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Scheme => "the client was set to another scheme: set it to Negotiate",
            Self::Kerberos(cause) => cause.remedy(),
            Self::Password(cause) => cause.remedy(),
        }
    }

    /// What happened, in a few words for the person at the client.
    #[must_use]
    pub const fn heading(self) -> UserMessage {
        match self {
            // What is asked for instead.
            Self::Scheme => kerberos::Cause::NoKerberos.heading(),
            Self::Kerberos(cause) => cause.heading(),
            Self::Password(cause) => cause.heading(),
        }
    }

    /// What happened and what to do, for the person at the client.
    #[must_use]
    pub const fn user_message(self) -> UserMessage {
        match self {
            Self::Scheme => kerberos::Cause::NoKerberos.user_message(),
            Self::Kerberos(cause) => cause.user_message(),
            Self::Password(cause) => cause.user_message(),
        }
    }

    /// The client has shown that it has nothing better of this scheme: asked for it again, it would ask its user for a password
    /// that cannot help.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Kerberos(kerberos::Cause::Ntlm | kerberos::Cause::NoKerberos))
    }
}

impl From<kerberos::Cause> for Cause {
    fn from(cause: kerberos::Cause) -> Self {
        Self::Kerberos(cause)
    }
}

impl From<password::Cause> for Cause {
    fn from(cause: password::Cause) -> Self {
        Self::Password(cause)
    }
}
