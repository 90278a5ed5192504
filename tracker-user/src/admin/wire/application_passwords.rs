//! Application passwords, as the API says them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// An application password, in `GET /v1/app-passwords`: all but its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationPassword {
    /// What names it: the eight characters behind `tap_`.
    pub id: String,
    /// Whose it is,
    pub user: String,
    /// their domain,
    pub domain: String,
    /// and their realm, in lower case, where the domain does not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// What its owner calls it.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Until when it is good; `null`: for ever.
    pub expires: Option<Timestamp>,
    /// The networks that it may come from; from everywhere where there are none.
    pub networks: Vec<String>,
    /// When it was last used; `null`: never.
    pub last_used: Option<Timestamp>,
    /// From where.
    pub last_client: Option<String>,
}

/// `POST /v1/app-passwords/revoke`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeApplicationPasswords {
    /// Whose: bare, `user@realm`, `user@domain` or `domain\\user`.
    pub user: String,
    /// Which; all of them where none is named.
    #[serde(default)]
    pub id: Option<String>,
}

/// The application passwords that were revoked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RevokedApplicationPasswords {
    /// Each of them.
    pub revoked: Vec<ApplicationPassword>,
    /// How many sessions ended that stood by one.
    pub sessions_ended: usize,
    /// What an operator should know: the disk took no note of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}
