//! Further factors, as the API says them. Nothing of it is a secret.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a user has set up, in `GET /v1/second-factor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondFactor {
    /// Whose.
    pub user: String,
    /// Their domain.
    pub domain: String,
    /// Their realm, in lower case, where the domain does not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// What is demanded of the user: `off`, `optional` or `required`.
    pub demand: String,
    /// Whether what is kept of it can be read. If not, the user cannot log in where a factor is asked for.
    pub readable: bool,
    /// The app that makes codes; `null`: none.
    pub authenticator: Option<Authenticator>,
    /// Passkeys, in the order in which they were added.
    pub passkeys: Vec<Passkey>,
    /// Where a code is mailed to that resets it, but for most of its name; `null`: nowhere.
    pub recovery_address: Option<String>,
    /// So many recovery codes have not been used.
    pub recovery_codes: usize,
    /// So many codes were wrong since one was right.
    pub wrong: u32,
    /// So many that none is looked at any more.
    pub locked: bool,
}

/// An app that makes codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authenticator {
    /// Since when.
    pub since: Timestamp,
    /// When a code was last right.
    pub used: Timestamp,
    /// By how many steps of 30 s its clock was ahead of the gateway's then.
    pub drift: i64,
}

/// A passkey.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passkey {
    /// What its user calls it.
    pub name: String,
    /// Since when.
    pub since: Timestamp,
    /// When it was last used; `null`: never.
    pub used: Option<Timestamp>,
}

/// `DELETE /v1/second-factor/{user}`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactorsReset {
    /// Whose it was.
    pub user: String,
    /// Their domain.
    pub domain: String,
    /// Their realm, in lower case, where the domain does not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// Whether it was done in the database of a gateway that does not run.
    #[serde(default)]
    pub offline: bool,
    /// What an operator should know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// `POST /v1/second-factor/rotate-key`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRotated {
    /// Which key was in force: a number that says nothing of it,
    pub before: String,
    /// and which one is.
    pub after: String,
    /// Of so many users what is kept can be read under neither.
    pub unreadable: usize,
}
