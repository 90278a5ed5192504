//! Who a request is served for: what the tracker knows of its client, or what its credentials prove.

use std::sync::Arc;

use super::asked::Look;
use super::client::Client;
use super::destination::Target;
use super::http1::{Name, Request};
use super::options::ProxyOptions;
use super::pages::Page;
use super::proof;
use crate::audit::{Ground, Refusal};
use crate::auth::negotiate::{Cause, Pending};
use crate::auth::recent::Came;
use crate::auth::token;
use crate::auth::token::{BadToken, Fingerprint};
use crate::session::{Arrival, Decision};
use crate::types::{Identity, SessionId};

/// What a connection remembers of the proofs that were given on it.
#[derive(Default)]
pub(super) struct AuthState {
    /// The session that the connection was cleared for.
    pub(super) cleared: Option<SessionId>,
    /// The token that proved the connection's user last, and the session it proved them for.
    pub(super) proved: Option<(Fingerprint, Option<SessionId>)>,
    /// Credentials of a scheme that is not offered have been refused here, and that was told.
    pub(super) scheme_told: bool,
    /// A handshake between two legs.
    pub(super) pending: Option<Pending>,
    /// How often credentials were refused in a row.
    pub(super) refusals: u32,
    /// What happens on the connection is seen.
    pub(super) is_seen: bool,
    /// Why Negotiate is not offered on this connection any more: a browser would go on asking its user for a password that
    /// cannot help.
    pub(super) given_up: Option<Cause>,
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
        return Err(Page::bad_request("The request has more than one Proxy-Authorization field."));
    }
    let verdict = match request.field(client.input.unread(), Name::ProxyAuthorization).map(token::parse) {
        None => match standing(client).await? {
            Some(cleared) => Ok(cleared),
            // Looked at only where it matters: a valid session needs no conditions.
            None => Err(ask(client, Look::at(client, request, target, options))),
        },
        // What nobody asked for and nobody can verify (a password that was left in some setting) says nothing about the
        // user: it is as if it were not there.
        Some(Err(bad @ BadToken::NotNegotiate(_))) => match standing(client).await? {
            Some(cleared) => Ok(cleared),
            None => Err(proof::not_offered(client, bad, Look::at(client, request, target, options)).await),
        },
        Some(token) => match repeated(client, &token).await {
            Some(cleared) => Ok(cleared),
            None => offered(client, token, Look::at(client, request, target, options)).await,
        },
    };
    client.is_proved |= verdict.is_ok();
    verdict
}

/// Decides about a request with a token.
async fn offered(client: &mut Client, token: Result<Vec<u8>, BadToken>, look: Look) -> Result<Cleared, Page> {
    if look.offered.is_ok() {
        let (verdict, came) = proof::prove(client, token).await;
        look.came(client, came);
        return verdict;
    }
    // Where Kerberos is not offered, credentials for it are as if they were not there.
    match standing(client).await? {
        Some(cleared) => Ok(cleared),
        None => Err(ask(client, look)),
    }
}

/// Who a request is from whose token has proved the user of this connection already: HTTP libraries that were given a
/// header send it with each request. It proves nothing anew: it is as if it were not there, for as long as the session
/// stands that it proved; and everywhere else it is a replay.
async fn repeated(client: &mut Client, token: &Result<Vec<u8>, BadToken>) -> Option<Cleared> {
    let (known, session) = client.auth.proved?;
    if known != Fingerprint::of(token.as_ref().ok()?) {
        return None;
    }
    let cleared = standing(client).await.ok()??;
    (client.auth.cleared == session).then_some(cleared)
}

/// The answer to a request that has to prove itself: a challenge, unless there is nothing to offer.
pub(super) fn ask(client: &Client, look: Look) -> Page {
    let (page, came) = match (look.offered, client.auth.given_up) {
        (Err(denied), _) => {
            client.worker.shared.stats.not_offered.inc();
            let why = denied.to_string();
            let refusal = Refusal::of_request(client.address, Ground::Conditions, None, &why);
            client.worker.shared.gate.refused(&refusal);
            (Page::not_offered(denied), Came::NotOffered(denied))
        }
        (Ok(()), Some(cause)) => (Page::given_up(cause), Came::GivenUp(cause)),
        (Ok(()), None) => (Page::challenge(None), Came::Challenged),
    };
    look.came(client, came);
    page
}

/// Who a request without credentials is from, if that is known; the answer to it where proving who its user is would not
/// help.
async fn standing(client: &mut Client) -> Result<Option<Cleared>, Page> {
    // The client has given a handshake up.
    client.auth.pending = None;
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
