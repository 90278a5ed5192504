//! Who a request is served for: what the tracker knows of its client, or what its credentials prove.

mod credentials;
mod evaluation;
mod lead;

use std::sync::Arc;

use self::evaluation::{Evaluation, takes_passwords};
use super::decision_log::DecisionResult;
use super::exchange::{Peer, Reply};
use super::message::{Name, RequestHead};
use super::options::ProxyOptions;
use crate::audit::{Ground, Refusal};
use crate::auth::{Credentials, Fingerprint, NoOffer, Offer, Proved, Scheme};
use crate::clock::boot_now;
use crate::session::{Admitted, Decision, Denial};
use crate::types::{Factor, Identity, Method, SessionId, UserMessage};

/// A request may be served.
#[derive(Clone, Debug)]
pub(super) struct Authorized {
    /// For whom.
    pub(super) user: Arc<Identity>,
    /// On which session.
    pub(super) session: SessionId,
    /// The gateway's own proof that it is who the credentials were for, as the value of `Proxy-Authenticate` in the answer
    /// (mutual authentication; RFC 4559, section 5).
    pub(super) mutual_auth: Option<String>,
}

/// Credentials that came with a request.
struct Came {
    credentials: Credentials,
    /// Of the field that they came in.
    fingerprint: Fingerprint,
}

/// Decides about one request. An error is the answer that the client gets instead. The credentials in the head are overwritten.
pub(super) async fn authorize(
    peer: &Peer,
    head: &mut RequestHead,
    options: &ProxyOptions,
) -> Result<Authorized, Reply> {
    // Once a connection: nobody is served, or may log in, on one whose end and whose traffic nobody would notice.
    if let Some(denial) = peer.arrival().denial() {
        peer.worker().shared.stats.connections_unseen.inc();
        return Err(Reply::denied(denial));
    }
    if head.repeats(Name::ProxyAuthorization) {
        head.wipe(Name::ProxyAuthorization);
        let text = "The request has more than one Proxy-Authorization field.";
        return Err(Reply::bad_request(&UserMessage::new(text)));
    }
    let verdict = match head.field(Name::ProxyAuthorization) {
        None => match existing_session(peer).await {
            Standing::Valid(authorized) => Ok(authorized),
            // Evaluated only where it matters: a valid session needs no conditions.
            standing => Err(standing.answer(peer, Evaluation::of(peer, head, options))),
        },
        Some(field) => match repeated(peer, field).await {
            Some(authorized) => {
                head.wipe(Name::ProxyAuthorization);
                Ok(authorized)
            }
            None => {
                let came =
                    Came { credentials: Credentials::parse(field), fingerprint: Fingerprint::of(field) };
                head.wipe(Name::ProxyAuthorization);
                with_credentials(peer, head, options, came).await
            }
        },
    };
    if verdict.is_ok() {
        peer.set_proved();
    }
    verdict
}

/// Decides about a request with credentials that say something new on its connection.
async fn with_credentials(
    peer: &Peer,
    head: &mut RequestHead,
    options: &ProxyOptions,
    came: Came,
) -> Result<Authorized, Reply> {
    match came.credentials.scheme() {
        Some(Scheme::Negotiate) => {
            let evaluation = Evaluation::of(peer, head, options);
            if evaluation.chances.schemes().has(Scheme::Negotiate) {
                return prove(peer, came, None, evaluation).await;
            }
            // Where Kerberos is not offered, credentials for it are as if they were not there.
            match existing_session(peer).await {
                Standing::Valid(authorized) => Ok(authorized),
                standing => Err(standing.answer(peer, evaluation)),
            }
        }
        Some(Scheme::Basic) if takes_passwords(peer, options) => {
            let recalled =
                peer.worker().shared.verifier.recall(&came.credentials, peer.address(), boot_now());
            if let Some(proof) = &recalled
                && let Some(authorized) = session_of(peer, &proof.identity).await
            {
                remember(peer, proof.method, came.fingerprint, authorized.session);
                return Ok(authorized);
            }
            let evaluation = Evaluation::of(peer, head, options);
            if evaluation.chances.is_held {
                return Err(ask(peer, evaluation));
            }
            head.settle();
            prove(peer, came, recalled, evaluation).await
        }
        // What nobody asked for and nobody can verify (a password that was left in some setting) says nothing about the
        // user: it is as if it were not there.
        scheme => {
            if scheme == Some(Scheme::Basic) && !peer.is_private() {
                peer.worker().shared.in_the_clear.note(peer.address());
            }
            match existing_session(peer).await {
                Standing::Valid(authorized) => Ok(authorized),
                Standing::Nobody => {
                    let evaluation = Evaluation::of(peer, head, options);
                    Err(credentials::not_offered(peer, &came.credentials, evaluation))
                }
                standing => Err(standing.answer(peer, Evaluation::of(peer, head, options))),
            }
        }
    }
}

/// Verifies credentials of a scheme that is offered, unless what they prove is `recalled`.
async fn prove(
    peer: &Peer,
    came: Came,
    recalled: Option<Proved>,
    evaluation: Evaluation,
) -> Result<Authorized, Reply> {
    let (verdict, result) = credentials::prove(peer, came, recalled, &evaluation).await;
    evaluation.record(peer, result);
    verdict
}

/// Who a request is from whose credentials have proved the user of this connection already. They prove nothing anew: it is
/// as if they were not there, for as long as the session stands that they proved. Everywhere else it is for others to say: a ticket
/// is a replay then, and a password is asked for.
async fn repeated(peer: &Peer, field: &[u8]) -> Option<Authorized> {
    let session = peer.conversation().repeats(field)?;
    match existing_session(peer).await {
        Standing::Valid(authorized) if authorized.session == session => Some(authorized),
        _ => None,
    }
}

/// What has proved the user of this connection is known again there; but not an application password: each time it is asked
/// whether there still is such a one.
fn remember(peer: &Peer, method: Method, credentials: Fingerprint, session: SessionId) {
    if method != Method::ApplicationPassword {
        peer.conversation().remember(credentials, session);
    }
}

/// Who a request is from that brings a password which is known to be this user's, where their session stands: it proves
/// nothing anew, as nothing has to be proved.
async fn session_of(peer: &Peer, user: &Identity) -> Option<Authorized> {
    peer.conversation().breaks_off();
    match decision(peer).await {
        Decision::Allow(Admitted { session, identity })
            if *identity == *user && bind(peer, session).await =>
        {
            Some(Authorized { user: identity, session, mutual_auth: None })
        }
        _ => None,
    }
}

/// The answer to a request that has to prove itself: what it is offered to prove it with.
fn ask(peer: &Peer, evaluation: Evaluation) -> Reply {
    let offer = peer.conversation().offer(&evaluation.chances);
    let result = match &offer {
        _ if evaluation.chances.is_held => DecisionResult::Held,
        Offer::Schemes(schemes) => DecisionResult::Challenged(*schemes),
        Offer::Nothing(NoOffer::Conditions(denied)) => {
            peer.worker().shared.stats.not_offered.inc();
            // Who is led on is not refused.
            if !evaluation.lead.leads_on() {
                let why = denied.to_string();
                let refusal = Refusal::of_request(peer.address(), Ground::Conditions, None, &why);
                peer.worker().shared.gate.refused(&refusal);
            }
            DecisionResult::NotOffered(*denied)
        }
        Offer::Nothing(NoOffer::Suppressed(cause)) => DecisionResult::Suppressed(*cause),
        Offer::Nothing(NoOffer::Held) => DecisionResult::Held,
    };
    let reply = evaluation.lead.reply(peer, &offer);
    evaluation.record(peer, result);
    reply
}

/// What is known of who a request without credentials is from.
enum Standing {
    /// Their session stands.
    Valid(Authorized),
    /// It waits for this further factor: credentials would not help.
    Waits(Factor),
    /// Nothing.
    Nobody,
    /// Nobody is served there.
    Denied(Denial),
}

impl Standing {
    /// The answer to a request that is not served. A browser is led to where the factor is proved.
    fn answer(self, peer: &Peer, evaluation: Evaluation) -> Reply {
        match self {
            Self::Waits(factor) => {
                let reply = evaluation.lead.step_up(peer, factor);
                evaluation.record(peer, DecisionResult::Waits(factor));
                reply
            }
            Self::Denied(denial) => Reply::denied(denial),
            Self::Nobody | Self::Valid(_) => ask(peer, evaluation),
        }
    }
}

/// Who a request without credentials is from, if that is known.
async fn existing_session(peer: &Peer) -> Standing {
    peer.conversation().breaks_off();
    match decision(peer).await {
        Decision::Allow(Admitted { session, identity }) if bind(peer, session).await => {
            Standing::Valid(Authorized { user: identity, session, mutual_auth: None })
        }
        Decision::Allow(_) | Decision::Challenge => Standing::Nobody,
        Decision::StepUp(factor) => Standing::Waits(factor),
        Decision::Deny(denial) => Standing::Denied(denial),
    }
}

/// What the tracker says of the client, or of its connection on a shared host, for one that is bound as this one is.
async fn decision(peer: &Peer) -> Decision {
    let (gate, connection) = (&peer.worker().shared.gate, peer.connection().id());
    match gate.decide(peer.address(), connection, peer.session()) {
        Some(decision) => decision,
        None => gate.check(peer.address(), connection).await,
    }
}

/// From now on the connection ends with the session. The session may have ended just before, without this connection:
/// so it is asked for once more. False if it has.
async fn bind(peer: &Peer, session: SessionId) -> bool {
    if peer.is_cleared_for(session) {
        return true;
    }
    peer.bind(session);
    let is_valid = matches!(decision(peer).await, Decision::Allow(admitted) if admitted.session == session);
    // Not before: another exchange would be served meanwhile on what has not been asked yet.
    peer.set_cleared(session, is_valid);
    is_valid
}
