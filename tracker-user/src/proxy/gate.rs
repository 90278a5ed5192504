//! What the proxy asks the tracker. A trait, so that the proxy can be tried without one.

use std::future::Future;
use std::pin::Pin;

use tracker_ebpf::abi::ClientAddr;

use crate::audit;
use crate::session::{Admission, Decision, Identity, Method, Proof, SessionId};
use crate::tracker::{Refusal, Tracker};

/// An answer that may have to be waited for.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// See [`Tracker`], whose functions these are.
pub trait Gate: Send + Sync + 'static {
    /// [`Tracker::decide`].
    fn decide(&self, client: ClientAddr, cleared: Option<SessionId>) -> Option<Decision>;
    /// [`Tracker::check`].
    fn check(&self, client: ClientAddr) -> Answer<'_, Decision>;
    /// [`Tracker::prove`].
    fn prove(&self, proof: Proof) -> Answer<'_, Result<Admission, Refusal>>;
    /// [`Tracker::refused`].
    fn refused(&self, refusal: &audit::Refusal<'_>);
    /// [`Tracker::proved_on_shared_host`].
    fn proved_on_shared_host(&self, client: ClientAddr, identity: &Identity, method: Method);
    /// [`Tracker::is_shared`].
    fn is_shared(&self, client: ClientAddr) -> bool;
}

impl Gate for Tracker {
    fn decide(&self, client: ClientAddr, cleared: Option<SessionId>) -> Option<Decision> {
        Self::decide(self, client, cleared)
    }

    fn check(&self, client: ClientAddr) -> Answer<'_, Decision> {
        Box::pin(Self::check(self, client))
    }

    fn prove(&self, proof: Proof) -> Answer<'_, Result<Admission, Refusal>> {
        Box::pin(Self::prove(self, proof))
    }

    fn refused(&self, refusal: &audit::Refusal<'_>) {
        Self::refused(self, refusal);
    }

    fn proved_on_shared_host(&self, client: ClientAddr, identity: &Identity, method: Method) {
        Self::proved_on_shared_host(self, client, identity, method);
    }

    fn is_shared(&self, client: ClientAddr) -> bool {
        Self::is_shared(self, client)
    }
}
