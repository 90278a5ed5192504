//! The one event loop and single writer of sessions; [`Tracker`] is everybody else's handle on it.

use std::sync::Arc;

use tracker_ebpf::abi::ClientAddr;

use crate::session::{Admission, Decision, Method, Proof, SessionId};

/// A handle on the event loop: cheap to clone.
#[derive(Clone, Debug)]
pub struct Tracker {
    inner: Arc<()>,
}

/// A good proof was not admitted.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refusal {
    /// No licence, or the like.
    #[error(transparent)]
    Policy(#[from] crate::session::table::Refused),
    /// The client cannot be tracked, so it cannot be told from the next one.
    #[error("{0}")]
    Untracked(String),
    /// The gateway is stopping.
    #[error("the gateway is stopping")]
    Stopping,
}

impl Tracker {
    /// Is a request of `client` served without credentials? `cleared` is the session for which the connection that
    /// carries it was cleared before, by a proof or by an earlier answer of this function.
    ///
    /// One table read and one comparison while the session is known to be good; otherwise the event loop reads the
    /// kernel's record first.
    pub async fn authorise(&self, _client: ClientAddr, _cleared: Option<SessionId>) -> Decision {
        Decision::Challenge
    }

    /// A verified proof: begins, confirms, renews or takes over the client's session.
    ///
    /// # Errors
    /// When no session may begin.
    pub async fn prove(&self, _proof: Proof) -> Result<Admission, Refusal> {
        Err(Refusal::Stopping)
    }

    /// Credentials were offered and refused: one line in the audit trail, one count.
    pub fn refused(&self, _client: ClientAddr, _method: Method, _why: &str) {}

    /// Whether each connection of this client proves itself (`timeouts.shared-hosts`): then nothing is remembered per
    /// address, and neither `authorise` nor `prove` is asked.
    #[must_use]
    pub fn is_shared(&self, _client: ClientAddr) -> bool {
        false
    }
}
