//! Who a request is served for: what the tracker knows of its client, or what its credentials prove.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{COOKIE, HeaderValue, PROXY_AUTHORIZATION, USER_AGENT};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, StatusCode};
use tracing::{debug, info};

use super::access::Body;
use super::challenge::{self, MAX_REFUSALS};
use super::connection::Client;
use super::options::ProxyOptions;
use super::pages::Page;
use crate::auth::conditions::{Asked, Denied};
use crate::auth::negotiate::{Details, Outcome, Pending, Refused, VerifyError};
use crate::auth::token;
use crate::session::{Decision, Identity, Method as Proved, Proof, SessionId};
use crate::tracker::Refusal;

/// What a connection remembers of the proofs that were given on it.
#[derive(Default)]
pub(super) struct AuthState {
    /// The session that the connection was cleared for.
    cleared: Option<SessionId>,
    /// A handshake between two legs.
    pending: Option<Pending>,
    /// On shared hosts: who proved themselves on this connection.
    identity: Option<Arc<Identity>>,
    /// How often credentials were refused.
    refusals: u32,
}

/// A request may be served.
pub(super) struct Cleared {
    /// For whom.
    pub(super) user: Arc<Identity>,
    /// The gateway's own proof, for the answer's head.
    pub(super) proof: Option<HeaderValue>,
}

type Verdict = Result<Cleared, Box<Response<Body>>>;

/// Decides about one request.
pub(super) async fn admit(client: &Client, request: &Request<Incoming>, options: &ProxyOptions) -> Verdict {
    let mut fields = request.headers().get_all(PROXY_AUTHORIZATION).iter();
    let (credentials, second) = (fields.next(), fields.next());
    if second.is_some() {
        let page = Page::bad_request("The request has more than one Proxy-Authorization field.");
        return Err(Box::new(page.into_response()));
    }
    // Looked at only where it matters: a valid session needs no conditions.
    let before = credentials.map(|_| offered(client, request, options));
    let verdict = match credentials {
        Some(credentials) if before == Some(Ok(())) => prove(client, credentials.as_bytes()).await,
        // Where Kerberos is not offered, credentials for it are as if they were not there.
        _ => without_credentials(client).await,
    };
    match verdict {
        Ok(cleared) => {
            client.activity.prove();
            Ok(cleared)
        }
        // A challenge must offer something, and there is nothing else yet.
        Err(challenge) if challenge.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            match before.unwrap_or_else(|| offered(client, request, options)) {
                Ok(()) => Err(challenge),
                Err(denied) => {
                    client.shared.stats.not_offered.inc();
                    let text = format!(
                        "This proxy has to know who you are, but does not ask this request by Kerberos ({denied}), and \
                         it has no other way."
                    );
                    Err(Box::new(Page::new(StatusCode::FORBIDDEN, text).into_response()))
                }
            }
        }
        Err(response) => Err(response),
    }
}

/// Whether the conditions offer Kerberos to this request.
fn offered(client: &Client, request: &Request<Incoming>, options: &ProxyOptions) -> Result<(), Denied> {
    let field = |name| request.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let is_tunnel = request.method() == Method::CONNECT;
    let asked = Asked {
        client: Some(client.address.ip()),
        cookie: field(COOKIE),
        // A plain proxy is not told by which name it was reached.
        server_name: None,
        path_and_query: request.uri().path_and_query().filter(|_| !is_tunnel).map(PathAndQuery::as_str),
        user_agent: field(USER_AGENT),
    };
    options.conditions.evaluate(&asked, |finding| {
        if options.debugging {
            info!(
                target: "kerberos",
                client = %client.address,
                step = %finding.step,
                outcome = ?finding.outcome,
                why = finding.why,
                url = asked.path_and_query,
                user_agent = asked.user_agent,
                "is Kerberos offered?"
            );
        }
    })
}

async fn without_credentials(client: &Client) -> Verdict {
    let gate = &client.shared.gate;
    let cleared = {
        let mut auth = client.auth();
        // The client has given a handshake up.
        auth.pending = None;
        if gate.is_shared(client.address) {
            // On a host with many users only the connection tells them apart.
            return match &auth.identity {
                Some(identity) => Ok(Cleared { user: Arc::clone(identity), proof: None }),
                None => Err(challenged(None)),
            };
        }
        auth.cleared
    };
    match gate.authorise(client.address, cleared).await {
        Decision::Allow(admitted) => {
            bind(client, admitted.session).await?;
            Ok(Cleared { user: admitted.identity, proof: None })
        }
        Decision::Challenge => Err(challenged(None)),
    }
}

async fn prove(client: &Client, credentials: &[u8]) -> Verdict {
    let stats = &client.shared.stats;
    let pending = client.auth().pending.take();
    let token = match token::parse(credentials) {
        Ok(token) => token,
        Err(bad) => return Err(refused(client, &bad.to_string(), None)),
    };
    match client.shared.verifier.verify(pending, token).await {
        Ok(Outcome::Continue { pending, answer }) => {
            stats.proofs_continued.inc();
            client.auth().pending = Some(pending);
            Err(challenged(Some(&answer)))
        }
        Ok(Outcome::Proved { identity, answer, details }) => {
            stats.proofs_accepted.inc();
            log(client, &details);
            let proof = answer.as_deref().and_then(challenge::value);
            proved(client, Arc::new(identity), proof).await
        }
        Err(VerifyError::Refused(Refused { why, answer })) => Err(refused(client, &why, answer.as_deref())),
        Err(problem @ (VerifyError::Busy | VerifyError::TimedOut)) => {
            stats.proofs_busy.inc();
            debug!(client = %client.address, %problem, "a proof was put off");
            let page = Page::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many users are logging in at this moment. Try again.",
            );
            Err(Box::new(page.retry().into_response()))
        }
        Err(VerifyError::Unavailable(why)) => {
            stats.proofs_unavailable.inc();
            client.shared.gate.refused(client.address, Proved::Kerberos, &why);
            let page = Page::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "The proxy cannot verify Kerberos tickets at present. Its operator finds the reason in its status and log.",
            );
            Err(Box::new(page.into_response()))
        }
    }
}

async fn proved(client: &Client, identity: Arc<Identity>, proof: Option<HeaderValue>) -> Verdict {
    let gate = &client.shared.gate;
    if gate.is_shared(client.address) {
        gate.proved_on_shared_host(client.address, &identity, Proved::Kerberos);
        client.auth().identity = Some(Arc::clone(&identity));
        return Ok(Cleared { user: identity, proof });
    }
    let offer = Proof {
        client: client.address,
        identity,
        method: Proved::Kerberos,
        connection: Some(client.connection.id()),
        device: None,
    };
    match gate.prove(offer).await {
        Ok(admission) => {
            bind(client, admission.admitted.session).await?;
            Ok(Cleared { user: admission.admitted.identity, proof })
        }
        Err(refusal) => {
            client.shared.stats.proofs_not_admitted.inc();
            let page = match &refusal {
                // 403, not 407: other credentials of the same user would not help.
                Refusal::Policy(policy) => {
                    Page::new(StatusCode::FORBIDDEN, format!("You cannot be logged in: {policy}."))
                }
                Refusal::NotKept(why) | Refusal::Untracked(why) => {
                    Page::new(StatusCode::SERVICE_UNAVAILABLE, format!("You cannot be logged in: {why}."))
                }
                Refusal::Stopping => {
                    Page::new(StatusCode::SERVICE_UNAVAILABLE, "The proxy is stopping.").closing()
                }
            };
            Err(Box::new(page.into_response()))
        }
    }
}

/// From now on the connection ends with the session. The session may have ended just before, without this connection:
/// so it is asked for once more.
async fn bind(client: &Client, session: SessionId) -> Result<(), Box<Response<Body>>> {
    if client.auth().cleared.replace(session) == Some(session) {
        return Ok(());
    }
    client.connection.bind(session);
    match client.shared.gate.authorise(client.address, Some(session)).await {
        Decision::Allow(admitted) if admitted.session == session => Ok(()),
        _ => Err(challenged(None)),
    }
}

fn challenged(answer: Option<&[u8]>) -> Box<Response<Body>> {
    Box::new(challenge::response(answer, false))
}

fn refused(client: &Client, why: &str, answer: Option<&[u8]>) -> Box<Response<Body>> {
    client.shared.stats.proofs_refused.inc();
    client.shared.gate.refused(client.address, Proved::Kerberos, why);
    let refusals = {
        let mut auth = client.auth();
        auth.refusals = auth.refusals.saturating_add(1);
        auth.refusals
    };
    Box::new(challenge::response(answer, refusals > MAX_REFUSALS))
}

fn log(client: &Client, details: &Details) {
    debug!(
        client = %client.address,
        principal = details.principal,
        wrapping = details.wrapping,
        token_bytes = details.token_bytes,
        lifetime_s = details.lifetime.as_secs(),
        flags = format_args!("{:#x}", details.flags),
        "a ticket was accepted",
    );
}
