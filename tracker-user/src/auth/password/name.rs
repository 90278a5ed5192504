//! Which account a typed name means.

use super::super::kerberos::NameRules;

/// Which account a typed name means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Account {
    /// The local user of this name, said so: `local\\user`, `user@local`.
    Local(String),
    /// The user of this realm: `user@REALM`, `DOMAIN\\user`.
    Realm {
        /// The user.
        user: String,
        /// The realm, as krb5 spells it.
        realm: String,
    },
    /// A bare name: the local user of that name if there is one, else a user of the default realm.
    Bare(String),
}

/// What was typed names no account.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAccount {
    /// Nothing was typed, or too much.
    #[error("the name has no characters, or too many")]
    Length,
}

impl Account {
    /// Reads a typed name.
    ///
    /// # Errors
    /// Where it names no account.
    pub fn parse(typed: &str, _rules: &NameRules) -> Result<Self, BadAccount> {
        if typed.is_empty() {
            return Err(BadAccount::Length);
        }
        Ok(Self::Bare(typed.to_lowercase()))
    }
}
