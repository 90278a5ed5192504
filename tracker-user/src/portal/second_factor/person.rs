//! Whoever looks after what they have set up.

use std::sync::Arc;

use crate::audit::Actor;
use crate::portal::visit::Visit;
use crate::portal::web_sessions::{Purpose, WebSession};
use crate::types::Identity;

/// Somebody who is logged in to the pages: the operator where one is logged in to the administration, else the user.
#[derive(Clone, Debug)]
pub(in crate::portal) struct Person {
    /// What they are logged in for.
    pub(in crate::portal) purpose: Purpose,
    /// Their login.
    pub(in crate::portal) session: Arc<WebSession>,
}

impl Person {
    /// Whose visit it is.
    pub(in crate::portal) fn of(visit: &Visit) -> Option<Self> {
        [Purpose::Admin, Purpose::User].into_iter().find_map(|purpose| {
            let session = Arc::clone(visit.web_session(purpose)?);
            Some(Self { purpose, session })
        })
    }

    /// Who they are.
    pub(in crate::portal) fn identity(&self) -> &Arc<Identity> {
        &self.session.identity
    }

    /// Whether they are logged in to the administration.
    pub(in crate::portal) const fn is_operator(&self) -> bool {
        matches!(self.purpose, Purpose::Admin)
    }

    /// By whose order something is done that they do on this visit.
    pub(in crate::portal) fn actor(&self, visit: &Visit) -> Actor {
        Actor::on_portal(self.identity(), visit.client())
    }
}
