//! What the proxy asks the tracker. A trait, so that the proxy can be tried without one.

use std::future::Future;
use std::pin::Pin;

use tracker_ebpf::abi::ClientAddr;

use crate::observe::ConnectionId;
use crate::session::{Admission, Decision, Method, Proof, SessionId};
use crate::tracker::{Refusal, Tracker};

/// An answer that may have to be waited for.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// See [`Tracker`], whose functions these are.
pub trait Gate: Send + Sync + 'static {
    /// [`Tracker::decide`].
    fn decide(
        &self,
        client: ClientAddr,
        connection: ConnectionId,
        cleared: Option<SessionId>,
    ) -> Option<Decision>;
    /// [`Tracker::check`].
    fn check(&self, client: ClientAddr, connection: ConnectionId) -> Answer<'_, Decision>;
    /// [`Tracker::prove`].
    fn prove(&self, proof: Proof) -> Answer<'_, Result<Admission, Refusal>>;
    /// [`Tracker::refused`].
    fn refused(&self, client: ClientAddr, method: Method, why: &str);
}

impl Gate for Tracker {
    fn decide(
        &self,
        client: ClientAddr,
        connection: ConnectionId,
        cleared: Option<SessionId>,
    ) -> Option<Decision> {
        Self::decide(self, client, connection, cleared)
    }

    fn check(&self, client: ClientAddr, connection: ConnectionId) -> Answer<'_, Decision> {
        Box::pin(Self::check(self, client, connection))
    }

    fn prove(&self, proof: Proof) -> Answer<'_, Result<Admission, Refusal>> {
        Box::pin(Self::prove(self, proof))
    }

    fn refused(&self, client: ClientAddr, method: Method, why: &str) {
        Self::refused(self, client, method, why);
    }
}
