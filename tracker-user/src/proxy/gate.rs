//! What the proxy asks the tracker. A trait, so that the proxy can be tried without one.

use std::future::Future;
use std::pin::Pin;

use crate::audit;
use crate::session::{Admission, Decision, Proof};
use crate::tracker::{Refusal, Tracker};
use crate::types::{ClientAddr, ConnectionId, SessionId};

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
    /// [`Tracker::is_known`].
    fn is_known(&self, client: ClientAddr) -> bool;
    /// [`Tracker::refused`].
    fn refused(&self, refusal: &audit::Refusal<'_>);
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

    fn is_known(&self, client: ClientAddr) -> bool {
        Self::is_known(self, client)
    }

    fn refused(&self, refusal: &audit::Refusal<'_>) {
        Self::refused(self, refusal);
    }
}
