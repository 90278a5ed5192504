//! Who a request is served for: what the tracker knows of its client, or what its credentials prove.

use std::sync::Arc;

use super::asked::Look;
use super::client::Client;
use super::destination::Target;
use super::http1::{Name, Request};
use super::options::ProxyOptions;
use super::pages::Page;
use super::proof;
use crate::auth::negotiate::{Cause, Pending};
use crate::auth::recent::Came;
use crate::auth::token;
use crate::session::{Decision, Identity, SessionId};

/// What a connection remembers of the proofs that were given on it.
#[derive(Default)]
pub(super) struct AuthState {
    /// The session that the connection was cleared for.
    cleared: Option<SessionId>,
    /// A handshake between two legs.
    pub(super) pending: Option<Pending>,
    /// On shared hosts: who proved themselves on this connection.
    pub(super) identity: Option<Arc<Identity>>,
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
        if !client.io.is_seen() {
            client.worker.shared.stats.connections_unseen.inc();
            return Err(Page::unseen());
        }
        client.auth.is_seen = true;
    }
    if request.repeats(Name::ProxyAuthorization) {
        return Err(Page::bad_request("The request has more than one Proxy-Authorization field."));
    }
    let verdict = match request.field(client.input.unread(), Name::ProxyAuthorization).map(token::parse) {
        None => match standing(client).await {
            Some(cleared) => Ok(cleared),
            // Looked at only where it matters: a valid session needs no conditions.
            None => Err(ask(client, Look::at(client, request, target, options))),
        },
        Some(token) => {
            let look = Look::at(client, request, target, options);
            if look.offered.is_ok() {
                let (verdict, came) = proof::prove(client, token).await;
                look.came(client, came);
                verdict
            } else {
                // Where Kerberos is not offered, credentials for it are as if they were not there.
                match standing(client).await {
                    Some(cleared) => Ok(cleared),
                    None => Err(ask(client, look)),
                }
            }
        }
    };
    client.is_proved |= verdict.is_ok();
    verdict
}

/// The answer to a request that has to prove itself: a challenge, unless there is nothing to offer.
fn ask(client: &Client, look: Look) -> Page {
    let (page, came) = match (look.offered, client.auth.given_up) {
        (Err(denied), _) => {
            client.worker.shared.stats.not_offered.inc();
            (Page::not_offered(denied), Came::NotOffered(denied))
        }
        (Ok(()), Some(cause)) => (Page::given_up(cause), Came::GivenUp(cause)),
        (Ok(()), None) => (Page::challenge(None), Came::Challenged),
    };
    look.came(client, came);
    page
}

/// Who a request without credentials is from, if that is known.
async fn standing(client: &mut Client) -> Option<Cleared> {
    // The client has given a handshake up.
    client.auth.pending = None;
    if client.worker.shared.gate.is_shared(client.address) {
        // On a host with many users only the connection tells them apart.
        let identity = client.auth.identity.as_ref()?;
        return Some(Cleared { user: Arc::clone(identity), proof: None });
    }
    match decision(client).await {
        Decision::Allow(admitted) if bind(client, admitted.session).await => {
            Some(Cleared { user: admitted.identity, proof: None })
        }
        _ => None,
    }
}

/// What the tracker says of the client, for a connection that was cleared as this one is.
async fn decision(client: &Client) -> Decision {
    let gate = &client.worker.shared.gate;
    match gate.decide(client.address, client.auth.cleared) {
        Some(decision) => decision,
        None => gate.check(client.address).await,
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
