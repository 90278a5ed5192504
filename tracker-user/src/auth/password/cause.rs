//! Why a name and a password prove nothing: told apart for operators, one sentence for the person.

use crate::types::UserMessage;

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
}

impl Cause {
    /// Each of them.
    pub const ALL: [Self; 10] = [
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
        }
    }

    /// What probably helps, for operators; empty where nothing is known to.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::WrongPassword | Self::Length => "",
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
        }
    }

    /// Whether it is a try at a secret that has failed, and counts as one. What the directory refused for another reason,
    /// and what nobody looked at, does not.
    #[must_use]
    pub const fn counts_as_try(self) -> bool {
        matches!(self, Self::WrongPassword | Self::UnknownUser | Self::Disabled | Self::Expired)
    }

    /// What happened, in a few words for the person at the client.
    #[must_use]
    pub const fn heading(self) -> UserMessage {
        UserMessage::new("This name and password were not accepted")
    }

    /// What happened and what to do: the same for all of them, so that nobody learns by it which names there are.
    #[must_use]
    pub const fn user_message(self) -> UserMessage {
        UserMessage::new(
            "Check both and try again. After several wrong passwords nothing is accepted for a while. If they are right, \
             ask the proxy's operator.",
        )
    }
}
