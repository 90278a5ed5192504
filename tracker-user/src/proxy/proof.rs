//! What a request's credentials prove, and what the client is told when that is nothing.

use std::sync::Arc;

use hyper::StatusCode;
use tracing::debug;

use super::admit::{Cleared, bind};
use super::client::Client;
use super::pages::{self, Page};
use crate::auth::negotiate::{Cause, Details, Offer, Outcome, Refused, VerifyError};
use crate::auth::recent::Came;
use crate::auth::token::BadToken;
use crate::clock::{BootTime, boot_now};
use crate::session::{Identity, Method, Proof};
use crate::tracker::Refusal;

/// How often credentials may be refused in a row before Negotiate is no longer offered on a connection.
const REFUSALS: u32 = 3;

/// How often before the connection is closed.
const MOST_REFUSALS: u32 = 6;

/// Verifies credentials: for whom the request is served, or what it is answered, and what is remembered of that.
pub(super) async fn prove(
    client: &mut Client,
    token: Result<Vec<u8>, BadToken>,
) -> (Result<Cleared, Page>, Came) {
    // The head has just been read. Whatever becomes of the connection from here on comes after the proof; a client that
    // had left before it was read cannot be told from one that left before its proof.
    let at = boot_now();
    if client.io.is_gone() {
        let why = "the client had left when its credentials were read";
        return (Err(Page::challenge(None).closing()), Came::Unavailable(why.into()));
    }
    let shared = Arc::clone(&client.worker.shared);
    let stats = &shared.stats;
    // A proxy without TLS has no channel that a token could be bound to.
    let offer = Offer { pending: client.auth.pending.take(), token, bindings: None };
    let (page, came) = match shared.verifier.verify(offer).await {
        Ok(Outcome::Proved { identity, answer, details }) => {
            stats.proofs_accepted.inc();
            details.log(&client.address);
            let proof = answer.as_deref().map(pages::proof);
            return proved(client, Arc::new(identity), at, proof, details).await;
        }
        Ok(Outcome::Continue { pending, answer }) => {
            stats.proofs_continued.inc();
            client.auth.pending = Some(pending);
            (Page::challenge(Some(&answer)), Came::Continued)
        }
        Err(VerifyError::Refused(refusal)) => {
            stats.proofs_refused.inc();
            refused(client, refusal)
        }
        Err(problem @ (VerifyError::Busy | VerifyError::TimedOut)) => {
            stats.proofs_busy.inc();
            debug!(client = %client.address, %problem, "a proof was put off");
            let text = "Too many users are logging in at this moment. Try again.";
            let page = Page::new(StatusCode::SERVICE_UNAVAILABLE, text).retry();
            (page, Came::Unavailable(problem.to_string()))
        }
        Err(VerifyError::Unavailable(why)) => {
            stats.proofs_unavailable.inc();
            shared.gate.refused(client.address, Method::Kerberos, &why);
            let text = "The proxy cannot verify Kerberos tickets at present. Its operator finds the reason in its status \
                        and log.";
            (Page::new(StatusCode::SERVICE_UNAVAILABLE, text), Came::Unavailable(why))
        }
    };
    (Err(page), came)
}

async fn proved(
    client: &mut Client,
    identity: Arc<Identity>,
    at: BootTime,
    proof: Option<String>,
    ticket: Box<Details>,
) -> (Result<Cleared, Page>, Came) {
    (client.auth.refusals, client.auth.given_up) = (0, None);
    let user = identity.to_string();
    let shared = Arc::clone(&client.worker.shared);
    let gate = &shared.gate;
    let offer = Proof {
        client: client.address,
        identity,
        method: Method::Kerberos,
        at,
        connection: Some(client.connection.id()),
        device: None,
    };
    // The session may end, or its time run out, between the proof and the last look at it: then this proof, which is of
    // this very request, begins or renews it. Twice in a row is no coincidence.
    for _ in 0..2 {
        match gate.prove(offer.clone()).await {
            Ok(admission) => {
                if bind(client, admission.admitted.session).await {
                    let cleared = Cleared { user: admission.admitted.identity, proof };
                    return (Ok(cleared), Came::Accepted { user, ticket });
                }
            }
            Err(refusal) => {
                shared.stats.proofs_not_admitted.inc();
                let why = refusal.to_string();
                return (Err(not_admitted(&refusal)), Came::NotAdmitted { user, why });
            }
        }
    }
    (Err(Page::challenge(None)), Came::Challenged)
}

/// Good credentials, but no session.
fn not_admitted(refusal: &Refusal) -> Page {
    match refusal {
        // 403, not 407: other credentials of the same user would not help.
        Refusal::Policy(policy) => {
            Page::new(StatusCode::FORBIDDEN, format!("You cannot be logged in: {policy}."))
        }
        Refusal::NotKept(why) | Refusal::Untracked(why) => {
            Page::new(StatusCode::SERVICE_UNAVAILABLE, format!("You cannot be logged in: {why}."))
        }
        Refusal::Stopping => Page::new(StatusCode::SERVICE_UNAVAILABLE, "The proxy is stopping.").closing(),
    }
}

/// Credentials that prove nothing: the client is asked again, unless it has shown that it has nothing better.
fn refused(client: &mut Client, refusal: Refused) -> (Page, Came) {
    let Refused { cause, why, answer } = refusal;
    client.worker.shared.gate.refused(client.address, Method::Kerberos, &why);
    let auth = &mut client.auth;
    auth.refusals = auth.refusals.saturating_add(1);
    // A browser without a ticket falls back to NTLM; asked again, it asks its user for a password, again and again.
    let page = if matches!(cause, Cause::Ntlm | Cause::NoKerberos) || auth.refusals >= REFUSALS {
        auth.given_up = Some(cause);
        Page::given_up(cause)
    } else {
        Page::refused(cause, answer.as_deref())
    };
    let page = if auth.refusals >= MOST_REFUSALS { page.closing() } else { page };
    (page, Came::Refused { cause, why })
}
