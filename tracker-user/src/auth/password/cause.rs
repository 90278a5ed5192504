//! Why a name and a password prove nothing: told apart for operators, one sentence for the person.

use crate::types::{Method, UserMessage};

/// Why a name and a password prove nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The password is not the account's.
    WrongPassword,
    /// Nobody has this name.
    UnknownUser,
    /// The password is right or was not looked at: it has to be changed before it is good for anything.
    Expired,
    /// The password of a local user is right, and has to be changed first.
    MustChange,
    /// The account is disabled or locked.
    Disabled,
    /// The realm in the name is none that can be asked.
    ForeignRealm,
    /// What was sent as a name is no user's.
    Name,
    /// The password is empty, or longer than any.
    Length,
    /// Too many wrong passwords were sent before: nothing was looked at.
    Banned,
    /// The KDC that accepted the password does not have this gateway's keys: it may be anybody's.
    FalseKdc,
    /// There is no such application password, or it is another user's.
    WrongApplicationPassword,
    /// It begins like an application password, and its check letters say that something of it was not typed as it was shown.
    Mistyped,
    /// The application password is right, and has expired.
    ApplicationPasswordExpired,
    /// The application password is right, and may not come from this client.
    ApplicationPasswordNetwork,
    /// An application password was typed on a page: it opens the proxy alone. Nobody has looked whether it is right.
    ApplicationPasswordOnPage,
    /// The account's password is right, and is not enough, since its user has a second factor.
    SecondFactor,
}

impl Cause {
    /// Each of them.
    pub const ALL: [Self; 16] = [
        Self::WrongPassword,
        Self::UnknownUser,
        Self::Expired,
        Self::MustChange,
        Self::Disabled,
        Self::ForeignRealm,
        Self::Name,
        Self::Length,
        Self::Banned,
        Self::FalseKdc,
        Self::WrongApplicationPassword,
        Self::Mistyped,
        Self::ApplicationPasswordExpired,
        Self::ApplicationPasswordNetwork,
        Self::ApplicationPasswordOnPage,
        Self::SecondFactor,
    ];

    /// As logs, metrics and the audit trail name it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::WrongPassword => "wrong-password",
            Self::UnknownUser => "unknown-user",
            Self::Expired => "password-expired",
            Self::MustChange => "must-change",
            Self::Disabled => "account-disabled",
            Self::ForeignRealm => "foreign-realm",
            Self::Name => "bad-name",
            Self::Length => "password-length",
            Self::Banned => "banned",
            Self::FalseKdc => "false-kdc",
            Self::WrongApplicationPassword => "wrong-app-password",
            Self::Mistyped => "app-password-mistyped",
            Self::ApplicationPasswordExpired => "app-password-expired",
            Self::ApplicationPasswordNetwork => "app-password-network",
            Self::ApplicationPasswordOnPage => "app-password-on-page",
            Self::SecondFactor => "account-password",
        }
    }

    /// What probably helps, for operators; empty where nothing is known to.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::WrongPassword | Self::Length | Self::WrongApplicationPassword => "",
            Self::UnknownUser => "the name is not in the directory: see how it was typed",
            Self::Expired => {
                "the user has to change the password, at a workstation of the domain or with kpasswd"
            }
            Self::MustChange => "give the user another password: trackerctl user password",
            Self::Disabled => {
                "enable or unlock the account in the directory; a local one: trackerctl user enable"
            }
            Self::ForeignRealm => "krb5.conf names no KDC for that realm, or no trust leads to it",
            Self::Name => "users are written as user, user@REALM or DOMAIN\\user",
            Self::Banned => "wait, or lift the ban: trackerctl bans lift",
            Self::FalseKdc => {
                "the keytab has no key that this KDC knows: if it is the realm's own, renew the keytab; if not, somebody \
                 answers in its place"
            }
            Self::Mistyped => "the user has to copy it again, or to make a new one",
            Self::ApplicationPasswordExpired => {
                "the user has to make a new one, on the portal's page /app-passwords"
            }
            Self::ApplicationPasswordNetwork => {
                "the user has said from which networks it may come: trackerctl app-password list"
            }
            Self::ApplicationPasswordOnPage => "on the pages the account's own password is asked for",
            Self::SecondFactor => {
                "the user needs a second factor: programs need an application password, which is made on the portal's page \
                 /app-passwords"
            }
        }
    }

    /// Whether it is a try at a secret that has failed, and counts as one. What the directory refused for another reason,
    /// and what nobody looked at, does not.
    #[must_use]
    pub const fn counts_as_try(self) -> bool {
        matches!(
            self,
            Self::WrongPassword
                | Self::UnknownUser
                | Self::Disabled
                | Self::Expired
                | Self::WrongApplicationPassword
        )
    }

    /// Whether the same secret is refused for as long as it counts as one try. Any other reason may be gone in a moment.
    #[must_use]
    pub const fn is_lasting(self) -> bool {
        matches!(self, Self::WrongPassword | Self::WrongApplicationPassword)
    }

    /// Whether the person is told what it is: where that tells nobody anything who could not know it anyhow, by what they typed or
    /// as the secret was right.
    #[must_use]
    pub const fn is_told(self) -> bool {
        matches!(
            self,
            Self::Mistyped
                | Self::ApplicationPasswordExpired
                | Self::ApplicationPasswordNetwork
                | Self::ApplicationPasswordOnPage
                | Self::SecondFactor
        )
    }

    /// By which method it was tried.
    #[must_use]
    pub const fn method(self) -> Method {
        match self {
            Self::WrongApplicationPassword
            | Self::Mistyped
            | Self::ApplicationPasswordExpired
            | Self::ApplicationPasswordNetwork => Method::ApplicationPassword,
            _ => Method::Password,
        }
    }

    /// What happened, in a few words for the person at the client.
    #[must_use]
    pub const fn heading(self) -> UserMessage {
        UserMessage::new(match self {
            Self::Mistyped
            | Self::ApplicationPasswordExpired
            | Self::ApplicationPasswordNetwork
            | Self::ApplicationPasswordOnPage => "This application password was not accepted",
            Self::SecondFactor => "An application password is needed",
            _ => "This name and password were not accepted",
        })
    }

    /// What happened and what to do. Of all that [is not told](Self::is_told) it is the same, so that nobody learns by it which
    /// names there are.
    #[must_use]
    pub const fn user_message(self) -> UserMessage {
        UserMessage::new(match self {
            Self::Mistyped => {
                "Something in this application password was not typed as it was shown. Copy it again, or make a new one on the \
                 proxy's own page."
            }
            Self::ApplicationPasswordExpired => {
                "This application password has expired. Make a new one on the proxy's own page."
            }
            Self::ApplicationPasswordNetwork => {
                "This application password is not good from your computer's address. Make another one on the proxy's own page."
            }
            Self::ApplicationPasswordOnPage => {
                "This is an application password. Such a password is for programs that use the proxy, and opens no page: type \
                 your own password here."
            }
            Self::SecondFactor => {
                "You need a second factor here, so that your password alone is not enough for the proxy. Give the program an \
                 application password, which you make on the proxy's own page; or log in on that page with your browser."
            }
            _ => {
                "Check both and try again. After several wrong passwords nothing is accepted for a while. If they are right, \
                 ask the proxy's operator."
            }
        })
    }
}
