//! What a request's credentials prove, and what the client is told when that is nothing.

use std::sync::Arc;

use http::StatusCode;
use tracing::debug;

use super::admit::{Authorized, ask, bind};
use super::asked::Look;
use super::exchange::{Peer, Reply, mutual_auth};
use crate::audit;
use crate::audit::Ground;
use crate::auth::negotiate::{Cause, Details, Offer, Outcome, Refused, VerifyError};
use crate::auth::recent::Came;
use crate::auth::token::{BadToken, Fingerprint};
use crate::clock::{BootTime, boot_now};
use crate::session::{self, Proof};
use crate::tracker::Refusal;
use crate::types::{Identity, Method};

/// How often credentials may be refused in a row before Negotiate is no longer offered on a connection.
const REFUSALS: u32 = 3;

/// How often before the connection is closed.
const MOST_REFUSALS: u32 = 6;

/// Verifies credentials: for whom the request is served, or what it is answered, and what is remembered of that.
pub(super) async fn prove(
    peer: &Peer,
    token: Result<Vec<u8>, BadToken>,
) -> (Result<Authorized, Reply>, Came) {
    // The head has just been read. Whatever becomes of the connection from here on comes after the proof; a client that
    // had left before it was read cannot be told from one that left before its proof.
    let at = boot_now();
    if peer.connection().is_gone() {
        let why = "the client had left when its credentials were read";
        return (Err(Reply::challenge(None).closing()), Came::Unavailable(why.into()));
    }
    let shared = Arc::clone(&peer.worker().shared);
    let stats = &shared.stats;
    // A proxy without TLS has no channel that a token could be bound to.
    let fingerprint = token.as_deref().ok().map(Fingerprint::of);
    let offer = Offer { pending: peer.conversation().pending.take(), token, bindings: None };
    let (page, came) = match shared.verifier.verify(offer).await {
        Ok(Outcome::Proved { identity, answer, details }) => {
            stats.proofs_accepted.inc();
            details.log(&peer.address());
            let mutual_auth = answer.as_deref().map(mutual_auth);
            let (verdict, came) = proved(peer, Arc::new(identity), at, mutual_auth, details).await;
            if let Ok(authorized) = &verdict {
                peer.conversation().proved = fingerprint.map(|token| (token, Some(authorized.session)));
            }
            return (verdict, came);
        }
        Ok(Outcome::Continue { pending, answer }) => {
            stats.proofs_continued.inc();
            // Unless it goes on to prove somebody.
            peer.conduct().fails();
            peer.conversation().pending = Some(pending);
            (Reply::challenge(Some(&answer)), Came::Continued)
        }
        Err(VerifyError::Refused(refusal)) => {
            stats.proofs_refused.inc();
            refused(peer, refusal)
        }
        Err(problem @ (VerifyError::Busy | VerifyError::TimedOut)) => {
            stats.proofs_busy.inc();
            debug!(client = %peer.address(), %problem, "a proof was put off");
            let text = "Too many users are logging in at this moment. Try again.";
            let page = Reply::new(StatusCode::SERVICE_UNAVAILABLE, text).retry();
            (page, Came::Unavailable(problem.to_string()))
        }
        Err(VerifyError::Unavailable(why)) => {
            stats.proofs_unavailable.inc();
            tell(peer, Ground::Unavailable, None, &why);
            let text = "The proxy cannot verify Kerberos tickets at present. Its operator finds the reason in its status \
                        and log.";
            (Reply::new(StatusCode::SERVICE_UNAVAILABLE, text).retry(), Came::Unavailable(why))
        }
    };
    (Err(page), came)
}

/// The answer to credentials of a scheme that is not offered, where no session stands: they are as if they were not there.
/// The first of a connection are told as refused, so that whoever wonders finds the reason; a client that has
/// nothing else sends them with each request.
pub(super) async fn not_offered(peer: &Peer, bad: BadToken, look: Look) -> Reply {
    let is_told = look.offered.is_err() || peer.conversation().given_up.is_some();
    if is_told || std::mem::replace(&mut peer.conversation().scheme_told, true) {
        return ask(peer, look);
    }
    let shared = Arc::clone(&peer.worker().shared);
    let offer = Offer { pending: None, token: Err(bad), bindings: None };
    let Err(VerifyError::Refused(Refused { cause, why, answer })) = shared.verifier.verify(offer).await
    else {
        return ask(peer, look);
    };
    shared.stats.proofs_refused.inc();
    tell(peer, Ground::Credentials(cause), None, &why);
    look.came(peer, Came::Refused { cause, why });
    Reply::refused(cause, answer.as_deref())
}

async fn proved(
    peer: &Peer,
    identity: Arc<Identity>,
    at: BootTime,
    mutual_auth: Option<String>,
    ticket: Box<Details>,
) -> (Result<Authorized, Reply>, Came) {
    {
        let mut conversation = peer.conversation();
        (conversation.refusals, conversation.given_up) = (0, None);
    }
    let user = identity.to_string();
    let shared = Arc::clone(&peer.worker().shared);
    let gate = &shared.gate;
    let offer = Proof {
        client: peer.address(),
        identity,
        method: Method::Kerberos,
        at,
        connection: Some(peer.connection().id()),
        device: None,
    };
    // The session may end, or its time run out, between the proof and the last look at it: then this proof, which is of
    // this very request, begins or renews it. Twice in a row is no coincidence.
    for _ in 0..2 {
        match gate.prove(offer.clone()).await {
            Ok(admission) => {
                let session = admission.admitted.session;
                if bind(peer, session).await {
                    let user_proved = admission.admitted.identity;
                    let authorized = Authorized { user: user_proved, session, mutual_auth };
                    return (Ok(authorized), Came::Accepted { user, ticket });
                }
            }
            Err(refusal) => {
                shared.stats.proofs_not_admitted.inc();
                let why = refusal.to_string();
                if let Some(ground) = ground(&refusal) {
                    tell(peer, ground, Some(&offer.identity), &why);
                }
                return (Err(not_admitted(&refusal)), Came::NotAdmitted { user, why });
            }
        }
    }
    (Err(Reply::challenge(None)), Came::Challenged)
}

/// Puts a refusal into the audit trail.
fn tell(peer: &Peer, ground: Ground, user: Option<&Identity>, why: &str) {
    let refusal =
        audit::Refusal { client: peer.address(), ground, why, method: Some(Method::Kerberos), user };
    peer.worker().shared.gate.refused(&refusal);
}

/// What the audit trail calls it; a proxy that is stopping refuses nobody in particular.
const fn ground(refusal: &Refusal) -> Option<Ground> {
    match refusal {
        Refusal::Policy(session::Refused::Licences { .. }) => Some(Ground::Licences),
        Refusal::NotKept(_) => Some(Ground::NotKept),
        Refusal::Untracked(_) | Refusal::AnotherDevice | Refusal::Policy(session::Refused::SharedHost) => {
            Some(Ground::Untracked)
        }
        // Who has proved themselves since stands in the trail.
        Refusal::Policy(session::Refused::Overtaken) | Refusal::Stopping => None,
    }
}

/// Good credentials, but no session. What the operator has to do stands in the log and the audit trail.
fn not_admitted(refusal: &Refusal) -> Reply {
    match refusal {
        // 403, not 407: other credentials of the same user would not help.
        Refusal::Policy(session::Refused::Licences { .. }) => Reply::new(
            StatusCode::FORBIDDEN,
            "You cannot be logged in: as many users are logged in as this proxy has licences for. Try again later, or ask its \
             operator.",
        ),
        Refusal::NotKept(_) | Refusal::Untracked(_) | Refusal::Policy(session::Refused::SharedHost) => Reply::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "You cannot be logged in at this moment. Try again; if that does not help, the proxy's operator finds the reason in \
             its status and log.",
        )
        .retry(),
        Refusal::Policy(session::Refused::Overtaken) => Reply::challenge(None),
        Refusal::AnotherDevice => Reply::challenge(None).closing(),
        Refusal::Stopping => Reply::new(StatusCode::SERVICE_UNAVAILABLE, "The proxy is stopping.").closing(),
    }
}

/// Credentials that prove nothing: the client is asked again, unless it has shown that it has nothing better.
fn refused(peer: &Peer, refusal: Refused) -> (Reply, Came) {
    let Refused { cause, why, answer } = refusal;
    tell(peer, Ground::Credentials(cause), None, &why);
    peer.conduct().fails();
    let mut auth = peer.conversation();
    auth.refusals = auth.refusals.saturating_add(1);
    // A browser without a ticket falls back to NTLM; asked again, it asks its user for a password, again and again.
    let page = if matches!(cause, Cause::Ntlm | Cause::NoKerberos) || auth.refusals >= REFUSALS {
        auth.given_up = Some(cause);
        Reply::given_up(cause)
    } else {
        Reply::refused(cause, answer.as_deref())
    };
    let page = if auth.refusals >= MOST_REFUSALS { page.closing() } else { page };
    (page, Came::Refused { cause, why })
}
