//! Who is logged in from one address, as whoever is there may ask.

use std::sync::Arc;

use super::{Ops, OpsError, SessionView, Standing};
use crate::proxy::decision_log::DecisionRecord;
use crate::session::Timeouts;
use crate::types::ClientAddr;

/// See the module.
#[derive(Clone, Debug)]
pub struct Presence {
    /// Many users share the address: nobody is logged in for it as a whole.
    pub is_shared: bool,
    /// The address's own session.
    pub session: Option<SessionView>,
    /// What it is judged by.
    pub timeouts: Timeouts,
}

impl Presence {
    /// Whether requests from the address are served on its session.
    #[must_use]
    pub fn is_somebody(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.standing == Standing::Active)
    }
}

impl Ops {
    /// Who is logged in from there.
    ///
    /// # Errors
    /// When the gateway is stopping, or the record cannot be read.
    pub async fn presence(&self, client: ClientAddr) -> Result<Presence, OpsError> {
        self.look(async move |ops| {
            let known = ops
                .parts()
                .tracker
                .ask(move |view| (view.table.session(client).cloned(), view.table.policy().clone()));
            let (session, policy) = known.await.ok_or(OpsError::Stopping)?;
            let policy = Arc::new(policy);
            let views = ops.describe_all(session.into_iter().collect(), &policy).await?;
            Ok(Presence {
                is_shared: policy.timeouts.is_shared(client),
                session: views.into_iter().next(),
                timeouts: policy.timeouts.clone(),
            })
        })
        .await
    }

    /// Keeps what was decided about a request that had to prove itself, for [`Self::explain`].
    pub fn note_decision(&self, client: ClientAddr, record: DecisionRecord) {
        self.parts().recent.keep(client, record);
    }
}
