//! Good credentials become a session of the proxy, and a login to the pages.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use crate::audit;
use crate::auth::Proved;
use crate::portal::second_factor::known_device;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::portal::web_sessions::Purpose;
use crate::session::Proof;
use crate::session::table::{AdmissionKind, Refused as Policy};
use crate::store::Entry;
use crate::tracker::Refusal;
use crate::types::{Factor, Factors, Identity, Method, UserMessage};

/// The credentials were good.
#[derive(Debug)]
pub(in crate::portal) struct LoggedIn {
    /// What has become of them.
    pub(super) step: Step,
    /// What the gateway proves in turn (RFC 4559, section 5).
    pub(super) mutual: Option<Vec<u8>>,
}

/// What has become of good credentials.
#[derive(Debug)]
pub(in crate::portal) enum Step {
    /// Somebody is logged in. The cookie of the login to the pages; `None`: it could not begin, and the browser is told nothing
    /// that it is not told anyhow.
    In(Option<HeaderValue>),
    /// A further factor is needed first, from this person.
    Waits(Arc<Identity>, Method),
}

/// The credentials were good, but nobody is logged in.
#[derive(Debug)]
pub(in crate::portal) struct NotAdmitted {
    pub(in crate::portal) status: StatusCode,
    /// For the person.
    pub(in crate::portal) message: UserMessage,
    /// The same may do a moment later.
    pub(in crate::portal) retry: bool,
    /// For the operator.
    pub(in crate::portal) why: String,
}

/// Begins a session of the client that the visit comes from, or goes on with it. Whoever else is logged in there is logged out
/// by it. On disk when this returns; a refusal stands in the audit trail then.
///
/// # Errors
/// When nobody may be logged in.
pub(in crate::portal) async fn begin(
    site: &Site,
    visit: &Visit,
    proved: Proved,
) -> Result<LoggedIn, NotAdmitted> {
    let Proved { identity, method, factors, at, mutual, ticket } = proved;
    if let Some(ticket) = &ticket {
        ticket.log(&visit.client());
    }
    let identity = Arc::new(identity);
    let client = visit.client();
    if method == Method::Password {
        // Whoever has typed a password may be logged in: where a hold stands, the tracker begins no session.
        site.parts().holds.release(client);
    }
    let is_asked = site.parts().factors.missing(&identity, method, factors).is_some();
    let device = if is_asked { known_device(site, visit, &identity, method) } else { None };
    let factors = if device.is_some() { factors.with(Factor::RememberedDevice) } else { factors };
    let proof = Proof {
        client,
        identity: Arc::clone(&identity),
        method,
        factors,
        enrolled: Factors::NONE,
        at,
        connection: None,
        device: None,
    };
    let step = match site.prove_on_pages(proof, device.into_iter().collect()).await? {
        AdmissionKind::Waits(_) => Step::Waits(identity, method),
        // The session at the address stands, by a factor that was proved elsewhere or by a program's own password. This browser
        // has proved none.
        _ if site.parts().factors.missing(&identity, method, factors).is_some() => {
            Step::Waits(identity, method)
        }
        _ => Step::In(site.begin_web_session(visit, &identity, Purpose::User, None).await.ok()),
    };
    Ok(LoggedIn { step, mutual })
}

impl Site {
    /// A proof on the pages: begins, goes on with or completes the session at its address. A refusal stands in the audit trail when
    /// this returns. `with` says on disk what was spent for it.
    ///
    /// # Errors
    /// When nobody may be logged in.
    pub(in crate::portal) async fn prove_on_pages(
        &self,
        proof: Proof,
        with: Vec<Entry>,
    ) -> Result<AdmissionKind, NotAdmitted> {
        let (client, method, identity) = (proof.client, proof.method, Arc::clone(&proof.identity));
        match self.parts().tracker.prove_with(proof, with).await {
            Ok(admission) => Ok(admission.kind),
            Err(refusal) => {
                let why = refusal.to_string();
                if let Some(ground) = refusal.ground() {
                    let (method, user) = (Some(method), Some(&*identity));
                    self.parts().tracker.refused(&audit::Refusal { client, ground, why: &why, method, user });
                }
                Err(NotAdmitted::new(&refusal, why))
            }
        }
    }
}

impl NotAdmitted {
    /// The gateway cannot do it now.
    pub(in crate::portal) fn at_this_moment(why: String) -> Self {
        let message = UserMessage::new("You cannot be logged in at this moment. Try again.");
        Self { status: StatusCode::SERVICE_UNAVAILABLE, message, retry: true, why }
    }

    /// What happened and what to do, for the person.
    pub(in crate::portal) fn message(self) -> UserMessage {
        self.message
    }

    fn new(refusal: &Refusal, why: String) -> Self {
        let (status, retry) = match refusal {
            // Other credentials of the same user would not help.
            Refusal::Policy(Policy::Licences { .. } | Policy::SharedHost) => (StatusCode::FORBIDDEN, false),
            Refusal::Policy(Policy::Overtaken)
            | Refusal::Revoked
            | Refusal::AnotherDevice
            | Refusal::Held => (StatusCode::CONFLICT, false),
            Refusal::NotKept(_) | Refusal::Untracked(_) | Refusal::Stopping => {
                (StatusCode::SERVICE_UNAVAILABLE, true)
            }
        };
        Self { status, message: refusal.user_message(), retry, why }
    }
}
