//! What is worth knowing of an accepted ticket: all that PortalGuard's log says of one, and more.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use tracing::{Level, debug, enabled, info};

use crate::auth::kerberos::ap_req::{TicketPart, flag_names, named};
use crate::auth::kerberos::enctype;
use crate::auth::kerberos::token::Kind;

/// What is worth knowing of an accepted ticket.
#[derive(Clone, Debug)]
pub struct Details {
    /// The principal, before it was mapped.
    pub principal: String,
    /// Whom the ticket is for, as the client has written it: what decides is the key. Empty where it could not be read.
    pub service: String,
    /// How the handshake began.
    pub kind: Kind,
    /// The size of the client's tokens.
    pub token_bytes: usize,
    /// The size of the gateway's own proof.
    pub answer_bytes: usize,
    /// The encryption type of the service's key, by which the ticket is encrypted (RFC 3961).
    pub enctype: i32,
    /// The version of that key.
    pub key_version: Option<u32>,
    /// How long the ticket is still accepted: to its end, and as long as the clock skew allows for.
    pub lifetime: Duration,
    /// The context's flags, as in RFC 2744.
    pub flags: u32,
    /// What the ticket says inside; looked at only where [`super::Options::debugging`] is set.
    pub inside: Option<Inside>,
}

/// What the ticket says inside.
#[derive(Clone, Debug)]
pub struct Inside {
    /// TicketFlags, by name.
    pub flags: String,
    /// The session key's encryption type.
    pub session_enctype: i32,
    /// The session key's size.
    pub session_key_bits: usize,
    /// When the user proved themselves to the KDC.
    pub authenticated: Option<Timestamp>,
    /// From when the ticket is valid.
    pub starts: Option<Timestamp>,
    /// Until when.
    pub ends: Option<Timestamp>,
    /// Until when it can be renewed.
    pub renewable_until: Option<Timestamp>,
}

impl From<&TicketPart> for Inside {
    fn from(part: &TicketPart) -> Self {
        Self {
            flags: flag_names(part.flags),
            session_enctype: part.session_enctype,
            session_key_bits: part.session_key.len() * 8,
            authenticated: part.authenticated,
            starts: part.starts.or(part.authenticated),
            ends: part.ends,
            renewable_until: part.renewable_until,
        }
    }
}

impl Details {
    /// One line in the log: always where the operator is debugging, else only where everything is logged.
    pub fn log(&self, client: &dyn fmt::Display) {
        if self.inside.is_none() && !enabled!(target: "kerberos", Level::DEBUG) {
            return;
        }
        let Self { principal, service, kind, token_bytes, answer_bytes, key_version, .. } = self;
        let enctype = enctype::name(self.enctype);
        let (flags, lifetime_s) = (context_flags(self.flags), self.lifetime.as_secs());
        match &self.inside {
            None => debug!(
                target: "kerberos",
                %client, principal, service, mechanism = %kind, token_bytes, answer_bytes, enctype, key_version, lifetime_s,
                flags, "a ticket was accepted"
            ),
            Some(inside) => info!(
                target: "kerberos",
                %client, principal, service, mechanism = %kind, token_bytes, answer_bytes, enctype, key_version, lifetime_s,
                flags,
                ticket_flags = inside.flags,
                session_enctype = enctype::name(inside.session_enctype),
                session_key_bits = inside.session_key_bits,
                authenticated = moment(inside.authenticated),
                starts = moment(inside.starts),
                ends = moment(inside.ends),
                renewable_until = moment(inside.renewable_until),
                "a ticket was accepted"
            ),
        }
    }
}

#[cfg(test)]
impl Details {
    /// For tests of what is not about tickets.
    pub(crate) fn of_nothing() -> Self {
        Self {
            principal: String::new(),
            service: String::new(),
            kind: Kind::Krb5,
            token_bytes: 0,
            answer_bytes: 0,
            enctype: 0,
            key_version: None,
            lifetime: Duration::ZERO,
            flags: 0,
            inside: None,
        }
    }
}

fn moment(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".into(), |at| at.to_string())
}

/// The context's flags by name (RFC 2744, section 5.1; RFC 4121).
#[must_use]
pub fn context_flags(flags: u32) -> String {
    const NAMES: [(u32, &str); 8] = [
        (libgssapi_sys::GSS_C_DELEG_FLAG, "delegation"),
        (libgssapi_sys::GSS_C_MUTUAL_FLAG, "mutual"),
        (libgssapi_sys::GSS_C_REPLAY_FLAG, "replay"),
        (libgssapi_sys::GSS_C_SEQUENCE_FLAG, "sequence"),
        (libgssapi_sys::GSS_C_CONF_FLAG, "confidentiality"),
        (libgssapi_sys::GSS_C_INTEG_FLAG, "integrity"),
        (libgssapi_sys::GSS_C_TRANS_FLAG, "transferable"),
        (libgssapi_sys::GSS_C_CHANNEL_BOUND_FLAG, "channel-bound"),
    ];
    named(flags, &NAMES)
}
