//! Who a request is served for: what the tracker knows of its client, or what its credentials prove.

use std::sync::Arc;

use super::asked::Look;
use super::exchange::{Peer, Reply};
use super::message::{Name, RequestHead};
use super::options::ProxyOptions;
use super::proof;
use crate::audit::{Ground, Refusal};
use crate::auth::negotiate::{Cause, Pending};
use crate::auth::recent::Came;
use crate::auth::token;
use crate::auth::token::{BadToken, Fingerprint};
use crate::session::Decision;
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
    /// Why Negotiate is not offered on this connection any more: a browser would go on asking its user for a password that
    /// cannot help.
    pub(super) given_up: Option<Cause>,
}

/// A request may be served.
pub(super) struct Authorized {
    /// For whom,
    pub(super) user: Arc<Identity>,
    /// and on which session.
    pub(super) session: SessionId,
    /// The gateway's own proof, for the answer's head.
    pub(super) mutual_auth: Option<String>,
}

/// Decides about one request.
pub(super) async fn admit(
    peer: &Peer,
    head: &RequestHead,
    options: &ProxyOptions,
) -> Result<Authorized, Reply> {
    // Once a connection: nobody is served, or may log in, on one whose end and whose traffic nobody would notice.
    if !peer.is_seen() {
        peer.worker().shared.stats.connections_unseen.inc();
        return Err(Reply::unseen());
    }
    if head.repeats(Name::ProxyAuthorization) {
        return Err(Reply::bad_request("The request has more than one Proxy-Authorization field."));
    }
    let verdict = match head.field(Name::ProxyAuthorization).map(token::parse) {
        None => match standing(peer).await {
            Some(cleared) => Ok(cleared),
            // Looked at only where it matters: a valid session needs no conditions.
            None => Err(ask(peer, Look::at(peer, head, options))),
        },
        // What nobody asked for and nobody can verify (a password that was left in some setting) says nothing about the
        // user: it is as if it were not there.
        Some(Err(bad @ BadToken::NotNegotiate(_))) => match standing(peer).await {
            Some(cleared) => Ok(cleared),
            None => Err(proof::not_offered(peer, bad, Look::at(peer, head, options)).await),
        },
        Some(token) => match repeated(peer, &token).await {
            Some(cleared) => Ok(cleared),
            None => offered(peer, token, Look::at(peer, head, options)).await,
        },
    };
    if verdict.is_ok() {
        peer.set_proved();
    }
    verdict
}

/// Decides about a request with a token.
async fn offered(peer: &Peer, token: Result<Vec<u8>, BadToken>, look: Look) -> Result<Authorized, Reply> {
    if look.offered.is_ok() {
        let (verdict, came) = proof::prove(peer, token).await;
        look.came(peer, came);
        return verdict;
    }
    // Where Kerberos is not offered, credentials for it are as if they were not there.
    match standing(peer).await {
        Some(cleared) => Ok(cleared),
        None => Err(ask(peer, look)),
    }
}

/// Who a request is from whose token has proved the user of this connection already: HTTP libraries that were given a
/// header send it with each request. It proves nothing anew: it is as if it were not there, for as long as the session
/// stands that it proved; and everywhere else it is a replay.
async fn repeated(peer: &Peer, token: &Result<Vec<u8>, BadToken>) -> Option<Authorized> {
    let (known, session) = peer.conversation().proved?;
    if known != Fingerprint::of(token.as_ref().ok()?) {
        return None;
    }
    let cleared = standing(peer).await?;
    (Some(cleared.session) == session).then_some(cleared)
}

/// The answer to a request that has to prove itself: a challenge, unless there is nothing to offer.
pub(super) fn ask(peer: &Peer, look: Look) -> Reply {
    let (page, came) = match (look.offered, peer.conversation().given_up) {
        (Err(denied), _) => {
            peer.worker().shared.stats.not_offered.inc();
            let why = denied.to_string();
            let refusal = Refusal::of_request(peer.address(), Ground::Conditions, None, &why);
            peer.worker().shared.gate.refused(&refusal);
            (Reply::not_offered(denied), Came::NotOffered(denied))
        }
        (Ok(()), Some(cause)) => (Reply::given_up(cause), Came::GivenUp(cause)),
        (Ok(()), None) => (Reply::challenge(None), Came::Challenged),
    };
    look.came(peer, came);
    page
}

/// Who a request without credentials is from, if that is known.
async fn standing(peer: &Peer) -> Option<Authorized> {
    // The client has given a handshake up.
    peer.conversation().pending = None;
    match decision(peer).await {
        Decision::Allow(admitted) if bind(peer, admitted.session).await => {
            Some(Authorized { user: admitted.identity, session: admitted.session, mutual_auth: None })
        }
        _ => None,
    }
}

/// What the tracker says of the client, or of its connection on a shared host, for one that was cleared as this one is.
async fn decision(peer: &Peer) -> Decision {
    let (gate, connection) = (&peer.worker().shared.gate, peer.connection().id());
    let cleared = peer.conversation().cleared;
    match gate.decide(peer.address(), connection, cleared) {
        Some(decision) => decision,
        None => gate.check(peer.address(), connection).await,
    }
}

/// From now on the connection ends with the session. The session may have ended just before, without this connection:
/// so it is asked for once more. False if it has.
pub(super) async fn bind(peer: &Peer, session: SessionId) -> bool {
    if peer.conversation().cleared.replace(session) == Some(session) {
        return true;
    }
    peer.connection().bind(session);
    matches!(decision(peer).await, Decision::Allow(admitted) if admitted.session == session)
}
