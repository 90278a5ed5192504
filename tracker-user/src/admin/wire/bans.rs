//! Bans from sending passwords, as the API says them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A ban, in `GET /v1/bans`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ban {
    /// What it stands on: `address`, `user`, or `pair`: a user from one address.
    pub scope: String,
    /// The address, or the IPv6 network (`/64`), that it names; `null` if none.
    pub client: Option<String>,
    /// The user that it names; `null` where it names none, or where nobody has the name that was typed: that is not shown.
    pub user: Option<String>,
    /// Their domain.
    pub domain: Option<String>,
    /// Their realm, in lower case, where the domain does not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// The wrong passwords that led to it.
    pub tries: u32,
    /// When somebody last tried, refused or not.
    pub last_try: Timestamp,
}

/// `POST /v1/bans/lift`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiftBans {
    /// The address, or the user: bare, `user@realm`, `user@domain` or `domain\\user`.
    pub of: String,
}

/// The bans that were lifted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LiftedBans {
    /// Each of them.
    pub lifted: Vec<Ban>,
    /// What an operator should know: the disk took no note of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}
