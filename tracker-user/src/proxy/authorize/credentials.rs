//! What a request's credentials prove, and what the client is told when that is nothing.

use std::sync::Arc;

use http::StatusCode;
use tracing::debug;

use super::evaluation::Evaluation;
use super::{Authorized, Came, ask, bind, remember, session_of};
use crate::audit;
use crate::audit::Ground;
use crate::auth::{
    Context, Credentials, Failure, Fingerprint, NoOffer, Offer, Outcome, Proved, Rejection, Scheme, Schemes,
};
use crate::clock::boot_now;
use crate::proxy::decision_log::DecisionResult;
use crate::proxy::exchange::{Peer, Reply};
use crate::session::table::AdmissionKind;
use crate::session::{self, Admission, Proof};
use crate::tracker::Refusal;
use crate::types::{Factors, Identity, Method};

/// Verifies credentials, unless what they prove is `recalled`: for whom the request is served, or what it is answered, and
/// what is remembered of that.
pub(super) async fn prove(
    peer: &Peer,
    came: Came,
    recalled: Option<Proved>,
    evaluation: &Evaluation,
) -> (Result<Authorized, Reply>, DecisionResult) {
    // The head has just been read. Whatever becomes of the connection from here on comes after the proof; a client that
    // had left before it was read cannot be told from one that left before its proof.
    let arrival = boot_now();
    if peer.connection().is_gone() {
        let why = "the client had left when its credentials were read";
        return (Err(again(peer, evaluation).closing()), DecisionResult::Unavailable(why.into()));
    }
    let shared = Arc::clone(&peer.worker().shared);
    let stats = &shared.stats;
    let Came { credentials, fingerprint } = came;
    let method = credentials.scheme().map(Scheme::method);
    let handshake = peer.conversation().take_handshake();
    let outcome = match recalled {
        Some(proof) => Outcome::Proved(proof),
        None => {
            let context = Context {
                client: peer.address(),
                accepts: evaluation.chances.schemes(),
                handshake,
                channel: peer.channel(),
                arrival,
            };
            shared.verifier.verify(credentials, context).await
        }
    };
    let (page, result) = match outcome {
        Outcome::Proved(proof) => {
            if let Err(rejection) = shared.verifier.suffices(&proof) {
                stats.proofs_refused.inc();
                return insufficient(peer, &proof, rejection, evaluation).await;
            }
            stats.proofs_accepted.inc();
            if let Some(ticket) = &proof.ticket {
                ticket.log(&peer.address());
            }
            return proved(peer, proof, fingerprint, evaluation).await;
        }
        Outcome::Continue { handshake, answer } => {
            stats.proofs_continued.inc();
            // Unless it goes on to prove somebody.
            peer.conduct().fails();
            peer.conversation().goes_on(handshake);
            (Reply::challenge(Schemes::NEGOTIATE, Some(&answer), None), DecisionResult::Continued)
        }
        Outcome::Failed(Failure::Rejected(rejection)) => {
            stats.proofs_refused.inc();
            rejected(peer, rejection, evaluation)
        }
        Outcome::Failed(failure) => {
            let why = failure.to_string();
            if matches!(failure, Failure::Unavailable(_)) {
                stats.proofs_unavailable.inc();
                tell(peer, Ground::Unavailable, method, None, &why);
            } else {
                stats.proofs_busy.inc();
                debug!(client = %peer.address(), problem = %why, "a proof was put off");
            }
            let page = Reply::new(StatusCode::SERVICE_UNAVAILABLE, &failure.user_message()).retry();
            (page, DecisionResult::Unavailable(why))
        }
    };
    (Err(page), result)
}

/// The answer to credentials of a scheme that is not offered, where no session stands: they are as if they were not there.
/// The first of a connection are told as refused, so that whoever wonders finds the reason; a client that has
/// nothing else sends them with each request.
pub(super) fn not_offered(peer: &Peer, credentials: &Credentials, evaluation: Evaluation) -> Reply {
    let offered = {
        let mut conversation = peer.conversation();
        match conversation.offer(&evaluation.chances) {
            Offer::Schemes(schemes) if conversation.tells_scheme() => Some(schemes),
            _ => None,
        }
    };
    let Some(schemes) = offered else { return ask(peer, evaluation) };
    let shared = Arc::clone(&peer.worker().shared);
    let Rejection { cause, mut why, answer } = shared.verifier.refuse(credentials);
    if credentials.scheme() == Some(Scheme::Basic) && !peer.is_private() {
        why.push_str(IN_THE_CLEAR);
    }
    shared.stats.proofs_refused.inc();
    tell(peer, Ground::Credentials(cause.label()), cause.method(), None, &why);
    let reply = evaluation.lead.rejected(peer, cause, schemes, answer.as_deref());
    evaluation.record(peer, DecisionResult::Refused { cause, why });
    reply
}

/// What the operator is told besides of a password where none is looked at.
const IN_THE_CLEAR: &str = "; the password has crossed the network in the clear: give the program the proxy under TLS \
                            (tls.proxy-listen), and have the password changed";

/// Good credentials: they begin a session, or confirm or renew the one that stands.
async fn proved(
    peer: &Peer,
    proof: Proved,
    fingerprint: Fingerprint,
    evaluation: &Evaluation,
) -> (Result<Authorized, Reply>, DecisionResult) {
    let Proved { identity, method, factors, at, mutual, ticket } = proof;
    peer.conversation().succeeds();
    let user = identity.to_string();
    let shared = Arc::clone(&peer.worker().shared);
    let gate = &shared.gate;
    let offer = Proof {
        client: peer.address(),
        identity: Arc::new(identity),
        method,
        factors,
        enrolled: Factors::NONE,
        at,
        connection: Some(peer.connection().id()),
        device: None,
    };
    // The session may end, or its time run out, between the proof and the last look at it: then this proof, which is of
    // this very request, begins or renews it. Twice in a row is no coincidence.
    for _ in 0..2 {
        match gate.prove(offer.clone()).await {
            Ok(Admission { kind: AdmissionKind::Waits(factor), .. }) => {
                return (Err(evaluation.lead.step_up(peer, factor)), DecisionResult::Waits(factor));
            }
            Ok(admission) => {
                let session = admission.admitted.session;
                if bind(peer, session).await {
                    remember(peer, method, fingerprint, session);
                    // Its browser has an answer to challenges.
                    shared.targets.forget(peer.address());
                    let user_proved = admission.admitted.identity;
                    let mutual_auth = mutual.as_deref().map(|message| Scheme::Negotiate.message(message));
                    let authorized = Authorized { user: user_proved, session, mutual_auth };
                    return (Ok(authorized), DecisionResult::Accepted { user, method, ticket });
                }
            }
            Err(refusal) => {
                shared.stats.proofs_not_admitted.inc();
                let why = refusal.to_string();
                if let Some(ground) = refusal.ground() {
                    tell(peer, ground, Some(method), Some(&offer.identity), &why);
                }
                return (
                    Err(not_admitted(peer, &refusal, evaluation)),
                    DecisionResult::NotAdmitted { user, why },
                );
            }
        }
    }
    (Err(again(peer, evaluation)), DecisionResult::Challenged(evaluation.chances.schemes()))
}

/// Puts a refusal into the audit trail; by which method it was tried, where it is a known one, and of whom, where that is proved.
fn tell(peer: &Peer, ground: Ground, method: Option<Method>, user: Option<&Identity>, why: &str) {
    let refusal = audit::Refusal { client: peer.address(), ground, why, method, user };
    peer.worker().shared.gate.refused(&refusal);
}

/// Good credentials, but no session. What the operator has to do stands in the log and the audit trail.
fn not_admitted(peer: &Peer, refusal: &Refusal, evaluation: &Evaluation) -> Reply {
    let page = |status| Reply::new(status, &refusal.user_message());
    match refusal {
        // 403, not 407: other credentials of the same user would not help.
        Refusal::Policy(session::Refused::Licences { .. }) => page(StatusCode::FORBIDDEN),
        Refusal::NotKept(_) | Refusal::Untracked(_) | Refusal::Policy(session::Refused::SharedHost) => {
            page(StatusCode::SERVICE_UNAVAILABLE).retry()
        }
        Refusal::Policy(session::Refused::Overtaken) | Refusal::Revoked => again(peer, evaluation),
        Refusal::Held => evaluation.lead.reply(peer, &Offer::Nothing(NoOffer::Held)),
        Refusal::AnotherDevice => again(peer, evaluation).closing(),
        Refusal::Stopping => page(StatusCode::SERVICE_UNAVAILABLE).closing(),
    }
}

/// What was sent is right, and not enough. Nothing is done in the user's name, no session is touched; where theirs stands, as they
/// have proved more elsewhere, it is as if nothing had come. Nobody guesses: it counts neither against the connection nor the client.
async fn insufficient(
    peer: &Peer,
    proof: &Proved,
    rejection: Rejection,
    evaluation: &Evaluation,
) -> (Result<Authorized, Reply>, DecisionResult) {
    if let Some(authorized) = session_of(peer, &proof.identity).await {
        let user = proof.identity.to_string();
        let result = DecisionResult::Accepted { user, method: proof.method, ticket: None };
        return (Ok(authorized), result);
    }
    peer.worker().shared.verifier.tell_insufficient(proof, peer.address());
    let Rejection { cause, why, .. } = rejection;
    let reply = evaluation.lead.insufficient(peer, cause, evaluation.chances.schemes());
    (Err(reply), DecisionResult::Refused { cause, why })
}

/// Credentials that prove nothing: the client is asked again, for what may still help.
fn rejected(peer: &Peer, rejection: Rejection, evaluation: &Evaluation) -> (Reply, DecisionResult) {
    let Rejection { cause, why, answer } = rejection;
    tell(peer, Ground::Credentials(cause.label()), cause.method(), None, &why);
    peer.conduct().fails();
    let (closes, offer) = {
        let mut conversation = peer.conversation();
        (conversation.fails(cause), conversation.offer(&evaluation.chances))
    };
    let page = match offer {
        Offer::Schemes(schemes) => evaluation.lead.rejected(peer, cause, schemes, answer.as_deref()),
        nothing => evaluation.lead.reply(peer, &nothing),
    };
    let page = if closes { page.closing() } else { page };
    (page, DecisionResult::Refused { cause, why })
}

/// Asks for what may be offered, as if nothing had come.
fn again(peer: &Peer, evaluation: &Evaluation) -> Reply {
    let offer = peer.conversation().offer(&evaluation.chances);
    evaluation.lead.reply(peer, &offer)
}
