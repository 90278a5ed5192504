//! Good credentials become a session of the proxy, and a login to the pages.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use crate::audit;
use crate::auth::Proved;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::portal::web_sessions::Purpose;
use crate::session::Proof;
use crate::session::table::{AdmissionKind, Refused as Policy};
use crate::tracker::Refusal;
use crate::types::{Factors, Method, UserMessage};

/// Somebody is logged in.
#[derive(Debug)]
pub(in crate::portal) struct LoggedIn {
    /// The cookie of the login to the pages; `None`: it could not begin, and the browser is told nothing that it is not told
    /// anyhow.
    pub(super) cookie: Option<HeaderValue>,
    /// What the gateway proves in turn (RFC 4559, section 5).
    pub(super) mutual: Option<Vec<u8>>,
}

/// The credentials were good, but nobody is logged in.
#[derive(Debug)]
pub(in crate::portal) struct NotAdmitted {
    pub(super) status: StatusCode,
    /// For the person.
    pub(super) message: UserMessage,
    /// The same may do a moment later.
    pub(super) retry: bool,
    /// For the operator.
    pub(super) why: String,
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
    match site.parts().tracker.prove(proof).await {
        Ok(admission) => {
            if let AdmissionKind::Waits(factor) = admission.kind {
                let why = format!("a second factor is required ({factor})");
                let message = UserMessage::new(
                    "The proxy knows who you are, and needs a second proof. It has no page yet where you could give it: ask \
                     its operator.",
                );
                return Err(NotAdmitted { status: StatusCode::FORBIDDEN, message, retry: false, why });
            }
        }
        Err(refusal) => {
            let why = refusal.to_string();
            if let Some(ground) = refusal.ground() {
                let (method, user) = (Some(method), Some(&*identity));
                site.parts().tracker.refused(&audit::Refusal { client, ground, why: &why, method, user });
            }
            return Err(NotAdmitted::new(&refusal, why));
        }
    }
    let cookie = site.begin_web_session(visit, &identity, Purpose::User).await.ok();
    Ok(LoggedIn { cookie, mutual })
}

impl NotAdmitted {
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
