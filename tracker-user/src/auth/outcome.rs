//! What became of credentials. A failure has three voices: a label for logs and metrics, a sentence with the remedy for the
//! operator (`Display`), and a [`UserMessage`] for the person at the client.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use super::cause::Cause;
use super::kerberos;
use crate::clock::BootTime;
use crate::types::{Factors, Identity, Method, UserMessage};

/// How long credentials may take to be verified, waiting included.
pub(super) const VERIFY_TIMEOUT: Duration = Duration::from_secs(10);

/// A handshake that waits for the client's next message. It belongs to the connection that it came on.
pub struct Handshake(Box<dyn Any + Send>);

impl Handshake {
    /// Wraps a method's own state.
    pub fn new(state: impl Any + Send) -> Self {
        Self(Box::new(state))
    }

    /// The method's own state, if it is of this type.
    pub(super) fn into<T: Any>(self) -> Option<T> {
        self.0.downcast().ok().map(|state| *state)
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handshake")
    }
}

/// What became of credentials.
#[derive(Debug)]
pub enum Outcome {
    /// They prove somebody.
    Proved(Proved),
    /// The handshake needs another message from the client.
    Continue {
        /// To be passed in with it.
        handshake: Handshake,
        /// What the client needs to make it.
        answer: Vec<u8>,
    },
    /// They were not accepted.
    Failed(Failure),
}

/// What credentials prove.
#[derive(Debug)]
pub struct Proved {
    /// Who.
    pub identity: Identity,
    /// How.
    pub method: Method,
    /// By which further factors.
    pub factors: Factors,
    /// From when the proof counts: see [`super::Context::arrival`].
    pub at: BootTime,
    /// What the gateway proves in turn (mutual authentication; RFC 4559, section 5), for the client.
    pub mutual: Option<Vec<u8>>,
    /// The ticket, for the log, where one proved it.
    pub ticket: Option<Box<kerberos::Details>>,
}

/// Why credentials were not accepted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// They prove nothing.
    #[error("{}", .0.why)]
    Rejected(Rejection),
    /// Too many are being verified: try again in a moment.
    #[error("too many logins wait to be verified")]
    Busy,
    /// It took longer than [`VERIFY_TIMEOUT`].
    #[error("verifying the credentials took longer than {} s", VERIFY_TIMEOUT.as_secs())]
    TimedOut,
    /// None can be verified now; the gateway is to blame, not the client.
    #[error("{0}")]
    Unavailable(String),
}

/// Credentials that prove nothing.
#[derive(Clone, Debug)]
pub struct Rejection {
    /// Why, in a word.
    pub cause: Cause,
    /// Why, and what probably helps, in one line for the operator.
    pub why: String,
    /// A message that tells the client's library why.
    pub answer: Option<Vec<u8>>,
}

impl Failure {
    /// They prove nothing, and there is nothing to tell the client's library.
    pub(super) fn rejected(cause: impl Into<Cause>, why: impl Into<String>) -> Self {
        Self::Rejected(Rejection { cause: cause.into(), why: why.into(), answer: None })
    }

    /// As logs name it.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Rejected(rejection) => rejection.cause.label(),
            Self::Busy => "busy",
            Self::TimedOut => "timed-out",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// What happened and what to do, for the person at the client.
    #[must_use]
    pub const fn user_message(&self) -> UserMessage {
        match self {
            Self::Rejected(rejection) => rejection.cause.user_message(),
            Self::Busy | Self::TimedOut => {
                UserMessage::new("Too many users are logging in at this moment. Try again.")
            }
            Self::Unavailable(_) => UserMessage::new(
                "The proxy cannot verify who you are at present. Its operator finds the reason in its status and log.",
            ),
        }
    }
}
