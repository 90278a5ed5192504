//! What happens to sessions: the reasons they end for, the audit trail's events, and the effects the world must see.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::BootTime;
use crate::types::{ClientAddr, ConnectionId, Factors, Identity, Method, Scope, SessionId, Traffic};

/// Why a session ended or went stale. One word each, the same in logs, metrics, CLI and API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Mode `absolute`: its time since creation or renewal was up.
    AbsoluteTimeout,
    /// An operator ended it.
    Admin,
    /// Mode `session`: the client's last connection had been closed for the timeout. In every mode: the connection was
    /// closed that the session was of, on a shared host.
    ClosedTimeout,
    /// The hardware address behind the client address changed.
    DeviceChanged,
    /// Another user proved themselves from the same address.
    Kicked,
    /// The cap over all modes.
    Lifetime,
    /// The user logged out.
    Logout,
    /// The gateway stopped for good.
    Shutdown,
    /// Mode `traffic`: no new data had moved for the timeout.
    TrafficTimeout,
}

impl Reason {
    /// Every reason, in the order of their words.
    pub const ALL: [Self; 9] = [
        Self::AbsoluteTimeout,
        Self::Admin,
        Self::ClosedTimeout,
        Self::DeviceChanged,
        Self::Kicked,
        Self::Lifetime,
        Self::Logout,
        Self::Shutdown,
        Self::TrafficTimeout,
    ];

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AbsoluteTimeout => "absolute-timeout",
            Self::Admin => "admin",
            Self::ClosedTimeout => "closed-timeout",
            Self::DeviceChanged => "device-changed",
            Self::Kicked => "kicked",
            Self::Lifetime => "lifetime",
            Self::Logout => "logout",
            Self::Shutdown => "shutdown",
            Self::TrafficTimeout => "traffic-timeout",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No reason has this word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a reason for a session's end")]
pub struct NoReason;

impl FromStr for Reason {
    type Err = NoReason;

    fn from_str(text: &str) -> Result<Self, NoReason> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text).ok_or(NoReason)
    }
}

/// Something happened to a session: what the audit trail, the history and whoever keeps accounts are told.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When it happened, which may be before anybody looked.
    pub at: BootTime,
    /// The client.
    pub client: ClientAddr,
    /// The connection, where the session is of no other.
    pub connection: Option<ConnectionId>,
    /// The session.
    pub session: SessionId,
    /// Whose session it is.
    pub identity: Arc<Identity>,
    /// What happened.
    pub what: What,
}

/// What happened to a session.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A user logged in: the session began.
    Login(Proved),
    /// The user of a stale session proved themselves again: it goes on.
    Renewed(Proved),
    /// Its timeout ran out: nothing is served on it until its user proves themselves again.
    Stale(Reason),
    /// It ended, after this long; `by` is who took the address over in a kick-out.
    Ended {
        /// Why.
        reason: Reason,
        /// From creation to end.
        duration: Duration,
        /// The user who proved themselves, in a kick-out.
        by: Option<Arc<Identity>>,
        /// Whether its timeout had run out before.
        was_stale: bool,
        /// What had been counted for its client, or its connection, when it began; `None` where that is not known. What
        /// moved during the session is the difference to what is counted at its end.
        traffic_before: Option<Traffic>,
    },
}

/// How a user proved themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proved {
    /// By this method.
    pub method: Method,
    /// And by these further factors.
    pub factors: Factors,
}

impl What {
    /// How the user proved themselves, where they did.
    #[must_use]
    pub const fn proved(&self) -> Option<Proved> {
        match self {
            Self::Login(proved) | Self::Renewed(proved) => Some(*proved),
            Self::Stale(_) | Self::Ended { .. } => None,
        }
    }

    /// The reason, where there is one.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        match self {
            Self::Stale(reason) | Self::Ended { reason, .. } => Some(*reason),
            Self::Login(_) | Self::Renewed(_) => None,
        }
    }
}

/// What the world must be made to see, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Close what is still open for this session, except the connection that carries the new proof.
    Destroy {
        /// What the session is of.
        scope: Scope,
        /// The session whose connections are meant.
        session: SessionId,
        /// The connection to spare.
        except: Option<ConnectionId>,
    },
    /// Write this into the audit trail.
    Audit(Event),
    /// Keep the client's session as the table has it now, or that there is none any more. Sessions of single connections
    /// end with these, and are not kept.
    Keep(ClientAddr),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_read_back() {
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
        }
        assert_eq!("Kicked".parse::<Reason>(), Err(NoReason));
    }
}
