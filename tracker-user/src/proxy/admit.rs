//! Who a request is served for: what the tracker knows of its client, or what its credentials prove.

use std::sync::Arc;

use super::client::Client;
use super::decision_log::DecisionResult;
use super::destination::Target;
use super::evaluation::Evaluation;
use super::http1::{Name, Request};
use super::options::ProxyOptions;
use super::pages::Page;
use super::proof;
use crate::audit::{Ground, Refusal};
use crate::auth::{Conversation, Credentials, NoOffer, Offer, Scheme};
use crate::session::{Arrival, Decision};
use crate::types::{Identity, SessionId, UserMessage};

/// What a connection remembers of who it is served for.
#[derive(Default)]
pub(super) struct AuthState {
    /// The session that the connection was cleared for.
    pub(super) cleared: Option<SessionId>,
    /// What happens on the connection is seen.
    pub(super) is_seen: bool,
    /// How its client has tried to prove who its user is.
    pub(super) conversation: Conversation,
}

/// A request may be served.
pub(super) struct Cleared {
    /// For whom.
    pub(super) user: Arc<Identity>,
    /// The gateway's own proof, for the answer's head.
    pub(super) proof: Option<String>,
}

/// Decides about one request, whose head is what is unread.
pub(super) async fn admit(
    client: &mut Client,
    request: &Request,
    target: &Target,
    options: &ProxyOptions,
) -> Result<Cleared, Page> {
    // Once a connection: nobody is served, or may log in, on one whose end and whose traffic nobody would notice.
    if !client.auth.is_seen {
        let arrival = Arrival { is_watched: client.io.is_seen(), ..Arrival::NEW };
        if let Some(denial) = arrival.denial() {
            client.worker.shared.stats.connections_unseen.inc();
            return Err(Page::denied(denial));
        }
        client.auth.is_seen = true;
    }
    if request.repeats(Name::ProxyAuthorization) {
        let text = "The request has more than one Proxy-Authorization field.";
        return Err(Page::bad_request(&UserMessage::new(text)));
    }
    let credentials = request.field(client.input.unread(), Name::ProxyAuthorization).map(Credentials::parse);
    let verdict = match credentials {
        None => match existing_session(client).await? {
            Some(cleared) => Ok(cleared),
            // Evaluated only where it matters: a valid session needs no conditions.
            None => Err(ask(client, Evaluation::of(client, request, target, options))),
        },
        Some(credentials) if credentials.scheme() == Some(Scheme::Negotiate) => {
            match repeated(client, &credentials).await {
                Some(cleared) => Ok(cleared),
                None => {
                    let evaluation = Evaluation::of(client, request, target, options);
                    offered(client, credentials, evaluation).await
                }
            }
        }
        // What nobody asked for and nobody can verify (a password that was left in some setting) says nothing about the
        // user: it is as if it were not there.
        Some(credentials) => match existing_session(client).await? {
            Some(cleared) => Ok(cleared),
            None => {
                let evaluation = Evaluation::of(client, request, target, options);
                Err(proof::not_offered(client, credentials, evaluation).await)
            }
        },
    };
    client.is_proved |= verdict.is_ok();
    verdict
}

/// Decides about a request with credentials of a scheme that is offered where the conditions allow.
async fn offered(
    client: &mut Client,
    credentials: Credentials,
    evaluation: Evaluation,
) -> Result<Cleared, Page> {
    if evaluation.offered.is_ok() {
        let (verdict, result) = proof::prove(client, credentials).await;
        evaluation.record(client, result);
        return verdict;
    }
    // Where Kerberos is not offered, credentials for it are as if they were not there.
    match existing_session(client).await? {
        Some(cleared) => Ok(cleared),
        None => Err(ask(client, evaluation)),
    }
}

/// Who a request is from whose credentials have proved the user of this connection already. They prove nothing anew: it is
/// as if they were not there, for as long as the session stands that they proved; and everywhere else it is a replay.
async fn repeated(client: &mut Client, credentials: &Credentials) -> Option<Cleared> {
    let session = client.auth.conversation.repeats(credentials)?;
    let cleared = existing_session(client).await.ok()??;
    (client.auth.cleared == Some(session)).then_some(cleared)
}

/// The answer to a request that has to prove itself: what it is offered to prove it with.
pub(super) fn ask(client: &Client, evaluation: Evaluation) -> Page {
    let offer = client.auth.conversation.offer(evaluation.offered);
    let result = match &offer {
        Offer::Schemes(_) | Offer::Portal(_) => DecisionResult::Challenged,
        Offer::Nothing(NoOffer::Conditions(denied)) => {
            client.worker.shared.stats.not_offered.inc();
            let why = denied.to_string();
            let refusal = Refusal::of_request(client.address, Ground::Conditions, None, &why);
            client.worker.shared.gate.refused(&refusal);
            DecisionResult::NotOffered(*denied)
        }
        Offer::Nothing(NoOffer::Suppressed(cause)) => DecisionResult::Suppressed(*cause),
    };
    evaluation.record(client, result);
    Page::offer(&offer)
}

/// Who a request without credentials is from, if that is known; the answer to it where proving who its user is would not
/// help.
async fn existing_session(client: &mut Client) -> Result<Option<Cleared>, Page> {
    client.auth.conversation.breaks_off();
    match decision(client).await {
        Decision::Allow(admitted) if bind(client, admitted.session).await => {
            Ok(Some(Cleared { user: admitted.identity, proof: None }))
        }
        Decision::Allow(_) | Decision::Challenge => Ok(None),
        Decision::StepUp(factor) => Err(Page::step_up(factor)),
        Decision::Deny(denial) => Err(Page::denied(denial)),
    }
}

/// What the tracker says of the client, or of its connection on a shared host, for one that was cleared as this one is.
async fn decision(client: &Client) -> Decision {
    let (gate, connection) = (&client.worker.shared.gate, client.connection.id());
    match gate.decide(client.address, connection, client.auth.cleared) {
        Some(decision) => decision,
        None => gate.check(client.address, connection).await,
    }
}

/// From now on the connection ends with the session. The session may have ended just before, without this connection:
/// so it is asked for once more. False if it has.
pub(super) async fn bind(client: &mut Client, session: SessionId) -> bool {
    if client.auth.cleared.replace(session) == Some(session) {
        return true;
    }
    client.connection.bind(session);
    matches!(decision(client).await, Decision::Allow(admitted) if admitted.session == session)
}
