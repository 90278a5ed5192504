//! How requests fared with the conditions and with their credentials.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A request's way through the conditions under which Kerberos is offered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Walk {
    /// Whether it is offered.
    pub offered: bool,
    /// Step by step, up to the one that decides.
    pub steps: Vec<Step>,
}

/// Where a client is asked for a password (the Basic scheme).
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Basic {
    /// On connections under TLS.
    pub tls: bool,
    /// On connections without.
    pub plain: bool,
}

/// One step.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// The keys that it goes by.
    pub step: String,
    /// `passed`, `passed-over` (there is no such condition, or the request lacks what it asks for) or `denied`.
    pub outcome: String,
    /// Why.
    pub why: String,
    /// Whether this is what decided against offering Kerberos.
    pub decides: bool,
}

/// What was decided about a real request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Decision {
    /// When.
    pub at: Timestamp,
    /// The request's method.
    pub method: String,
    /// Where it was to go; without its query, unless `url-deny` looks at that.
    pub url: String,
    /// Its User-Agent field.
    pub user_agent: Option<String>,
    /// Its way through the conditions.
    pub steps: Vec<Step>,
    /// `challenged`, `not-offered`, `given-up`, `continued`, `accepted`, `waits`, `not-admitted`, `refused` or `unavailable`.
    pub result: String,
    /// The user that was proved, as shown.
    pub user: Option<String>,
    /// Why credentials were refused, in a word.
    pub cause: Option<String>,
    /// Why, in a sentence, and what helps.
    pub why: Option<String>,
    /// The ticket that was accepted.
    pub ticket: Option<Ticket>,
    /// The schemes that it was asked for, in their order; empty where it was not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offered: Vec<String>,
    /// The method that has proved the user.
    #[serde(default)]
    pub proved_by: Option<String>,
}

/// An accepted ticket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ticket {
    /// Whose it was, before names were mapped.
    pub principal: String,
    /// Whom it was for, as the client has written it: what decides is the key.
    pub service: String,
    /// How it was wrapped.
    pub mechanism: String,
    /// The encryption type of the service's key.
    pub enctype: String,
    /// The version of that key.
    pub key_version: Option<u32>,
    /// Until when it is accepted: its end, and the clock skew that is allowed for.
    pub accepted_until: Timestamp,
    /// The context's flags (RFC 2744), by name.
    pub flags: String,
    /// The size of the client's tokens.
    pub token_bytes: usize,
    /// The size of the gateway's own proof.
    pub answer_bytes: usize,
}
