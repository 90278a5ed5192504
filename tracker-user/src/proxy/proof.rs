//! What a request's credentials prove, and what the client is told when that is nothing.

use std::sync::Arc;

use hyper::StatusCode;
use tracing::debug;

use super::admit::{Cleared, ask, bind};
use super::client::Client;
use super::decision_log::DecisionResult;
use super::evaluation::Evaluation;
use super::pages::Page;
use crate::audit;
use crate::audit::Ground;
use crate::auth::{
    Context, Credentials, Failure, Fingerprint, NoOffer, Offer, Outcome, Proved, Reaction, Rejection, Scheme,
    Schemes,
};
use crate::clock::boot_now;
use crate::session::table::AdmissionKind;
use crate::session::{self, Admission, Proof};
use crate::tracker::Refusal;
use crate::types::{Factors, Identity, Method};

/// Verifies credentials: for whom the request is served, or what it is answered, and what is remembered of that.
pub(super) async fn prove(
    client: &mut Client,
    credentials: Credentials,
) -> (Result<Cleared, Page>, DecisionResult) {
    // The head has just been read. Whatever becomes of the connection from here on comes after the proof; a client that
    // had left before it was read cannot be told from one that left before its proof.
    let arrival = boot_now();
    if client.io.is_gone() {
        let why = "the client had left when its credentials were read";
        return (Err(challenge(None).closing()), DecisionResult::Unavailable(why.into()));
    }
    let shared = Arc::clone(&client.worker.shared);
    let stats = &shared.stats;
    let fingerprint = credentials.fingerprint();
    let context = Context {
        handshake: client.auth.conversation.take_handshake(),
        // A proxy without TLS has no channel that credentials could be bound to.
        channel_binding: None,
        arrival,
    };
    let (page, result) = match shared.verifier.verify(credentials, context).await {
        Outcome::Proved(proof) => {
            stats.proofs_accepted.inc();
            if let Some(ticket) = &proof.ticket {
                ticket.log(&client.address);
            }
            return proved(client, proof, fingerprint).await;
        }
        Outcome::Continue { handshake, answer } => {
            stats.proofs_continued.inc();
            // Unless it goes on to prove somebody.
            client.conduct.fails();
            client.auth.conversation.goes_on(handshake);
            (challenge(Some(&answer)), DecisionResult::Continued)
        }
        Outcome::Failed(Failure::Rejected(rejection)) => {
            stats.proofs_refused.inc();
            rejected(client, rejection)
        }
        Outcome::Failed(failure) => {
            let why = failure.to_string();
            if matches!(failure, Failure::Unavailable(_)) {
                stats.proofs_unavailable.inc();
                tell(client, Ground::Unavailable, None, &why);
            } else {
                stats.proofs_busy.inc();
                debug!(client = %client.address, problem = %why, "a proof was put off");
            }
            let page = Page::new(StatusCode::SERVICE_UNAVAILABLE, &failure.user_message()).retry();
            (page, DecisionResult::Unavailable(why))
        }
    };
    (Err(page), result)
}

/// The answer to credentials of a scheme that is not offered, where no session stands: they are as if they were not there.
/// The first of a connection are told as refused, so that whoever wonders finds the reason; a client that has
/// nothing else sends them with each request.
pub(super) async fn not_offered(
    client: &mut Client,
    credentials: Credentials,
    evaluation: Evaluation,
) -> Page {
    let conversation = &mut client.auth.conversation;
    let is_offered = matches!(conversation.offer(evaluation.offered), Offer::Schemes(_));
    if !is_offered || !conversation.tells_scheme() {
        return ask(client, evaluation);
    }
    let shared = Arc::clone(&client.worker.shared);
    let context = Context { handshake: None, channel_binding: None, arrival: boot_now() };
    let Outcome::Failed(Failure::Rejected(Rejection { cause, why, answer })) =
        shared.verifier.verify(credentials, context).await
    else {
        return ask(client, evaluation);
    };
    shared.stats.proofs_refused.inc();
    tell(client, Ground::Credentials(cause.label()), None, &why);
    evaluation.record(client, DecisionResult::Refused { cause, why });
    Page::rejected(cause, Schemes::NEGOTIATE, answer.as_deref())
}

/// Good credentials: they begin a session, or confirm or renew the one that stands.
async fn proved(
    client: &mut Client,
    proof: Proved,
    fingerprint: Option<Fingerprint>,
) -> (Result<Cleared, Page>, DecisionResult) {
    let Proved { identity, method, factors, at, mutual, ticket } = proof;
    client.auth.conversation.succeeds();
    let user = identity.to_string();
    let shared = Arc::clone(&client.worker.shared);
    let gate = &shared.gate;
    let offer = Proof {
        client: client.address,
        identity: Arc::new(identity),
        method,
        factors,
        enrolled: Factors::NONE,
        at,
        connection: Some(client.connection.id()),
        device: None,
    };
    // The session may end, or its time run out, between the proof and the last look at it: then this proof, which is of
    // this very request, begins or renews it. Twice in a row is no coincidence.
    for _ in 0..2 {
        match gate.prove(offer.clone()).await {
            Ok(Admission { kind: AdmissionKind::Waits(factor), .. }) => {
                let why = format!("a second factor is required ({factor})");
                return (Err(Page::step_up(factor)), DecisionResult::NotAdmitted { user, why });
            }
            Ok(admission) => {
                let session = admission.admitted.session;
                if bind(client, session).await {
                    if let Some(fingerprint) = fingerprint {
                        client.auth.conversation.remember(fingerprint, session);
                    }
                    let mutual = mutual.as_deref().map(|message| Scheme::Negotiate.message(message));
                    let cleared = Cleared { user: admission.admitted.identity, proof: mutual };
                    return (Ok(cleared), DecisionResult::Accepted { user, ticket });
                }
            }
            Err(refusal) => {
                shared.stats.proofs_not_admitted.inc();
                let why = refusal.to_string();
                if let Some(ground) = ground(&refusal) {
                    tell(client, ground, Some((&offer.identity, method)), &why);
                }
                return (Err(not_admitted(&refusal)), DecisionResult::NotAdmitted { user, why });
            }
        }
    }
    (Err(challenge(None)), DecisionResult::Challenged)
}

/// Puts a refusal into the audit trail; of whom, and how they have proved it, where they have.
fn tell(client: &Client, ground: Ground, proved: Option<(&Identity, Method)>, why: &str) {
    // Nothing else than Negotiate is looked at.
    let method = proved.map_or(Method::Kerberos, |(_, method)| method);
    let user = proved.map(|(user, _)| user);
    let refusal = audit::Refusal { client: client.address, ground, why, method: Some(method), user };
    client.worker.shared.gate.refused(&refusal);
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
fn not_admitted(refusal: &Refusal) -> Page {
    let page = |status| Page::new(status, &refusal.user_message());
    match refusal {
        // 403, not 407: other credentials of the same user would not help.
        Refusal::Policy(session::Refused::Licences { .. }) => page(StatusCode::FORBIDDEN),
        Refusal::NotKept(_) | Refusal::Untracked(_) | Refusal::Policy(session::Refused::SharedHost) => {
            page(StatusCode::SERVICE_UNAVAILABLE).retry()
        }
        Refusal::Policy(session::Refused::Overtaken) => challenge(None),
        Refusal::AnotherDevice => challenge(None).closing(),
        Refusal::Stopping => page(StatusCode::SERVICE_UNAVAILABLE).closing(),
    }
}

/// Credentials that prove nothing: the client is asked again, unless it has shown that it has nothing better.
fn rejected(client: &mut Client, rejection: Rejection) -> (Page, DecisionResult) {
    let Rejection { cause, why, answer } = rejection;
    tell(client, Ground::Credentials(cause.label()), None, &why);
    client.conduct.fails();
    let Reaction { asks_again, closes } = client.auth.conversation.fails(cause);
    let page = if asks_again {
        Page::rejected(cause, Schemes::NEGOTIATE, answer.as_deref())
    } else {
        Page::offer(&Offer::Nothing(NoOffer::Suppressed(cause)))
    };
    let page = if closes { page.closing() } else { page };
    (page, DecisionResult::Refused { cause, why })
}

/// 407 by Negotiate; with a token where a handshake goes on.
fn challenge(answer: Option<&[u8]>) -> Page {
    Page::challenge(Schemes::NEGOTIATE, answer)
}
