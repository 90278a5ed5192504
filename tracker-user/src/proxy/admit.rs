//! Who a request is served for: what the tracker knows of its client, or what its credentials prove.

use std::sync::Arc;

use hyper::StatusCode;
use tracing::{debug, info};

use super::client::Client;
use super::destination::Target;
use super::http1::{Method, Name, Request};
use super::options::ProxyOptions;
use super::pages::{self, Page};
use crate::auth::conditions::{Asked, Denied};
use crate::auth::negotiate::{Details, Outcome, Pending, Refused, VerifyError};
use crate::auth::token::{self, BadToken};
use crate::session::{Decision, Identity, Method as Proved, Proof, SessionId};
use crate::tracker::Refusal;

/// How often credentials may be refused on one connection before it is closed.
const MAX_REFUSALS: u32 = 5;

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
    pub(super) proof: Option<String>,
}

type Verdict = Result<Cleared, Page>;

/// Decides about one request, whose head is what is unread.
pub(super) async fn admit(
    client: &mut Client,
    request: &Request,
    target: &Target,
    options: &ProxyOptions,
) -> Verdict {
    if request.repeats(Name::ProxyAuthorization) {
        return Err(Page::bad_request("The request has more than one Proxy-Authorization field."));
    }
    let credentials = request.field(client.input.unread(), Name::ProxyAuthorization);
    // Looked at only where it matters: a valid session needs no conditions.
    let before = credentials.map(|_| offered(client, request, target, options));
    let token = credentials.filter(|_| before == Some(Ok(()))).map(token::parse);
    let verdict = match token {
        Some(token) => prove(client, token).await,
        // Where Kerberos is not offered, credentials for it are as if they were not there.
        None => without_credentials(client).await,
    };
    match verdict {
        Ok(cleared) => {
            client.is_proved = true;
            Ok(cleared)
        }
        // A challenge must offer something, and there is nothing else yet.
        Err(challenge) if challenge.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            match before.unwrap_or_else(|| offered(client, request, target, options)) {
                Ok(()) => Err(challenge),
                Err(denied) => {
                    client.worker.shared.stats.not_offered.inc();
                    let text = format!(
                        "This proxy has to know who you are, but does not ask this request by Kerberos ({denied}), and \
                         it has no other way."
                    );
                    Err(Page::new(StatusCode::FORBIDDEN, text))
                }
            }
        }
        Err(page) => Err(page),
    }
}

/// Whether the conditions offer Kerberos to this request.
fn offered(
    client: &Client,
    request: &Request,
    target: &Target,
    options: &ProxyOptions,
) -> Result<(), Denied> {
    let head = client.input.unread();
    let field = |name| request.field(head, name).map(String::from_utf8_lossy);
    let (cookie, user_agent) = (field(Name::Cookie), field(Name::UserAgent));
    let path = match target.path(request.target(head)) {
        b"" => "/".into(),
        path => String::from_utf8_lossy(path),
    };
    let asked = Asked {
        client: Some(client.address.ip()),
        cookie: cookie.as_deref(),
        // A plain proxy is not told by which name it was reached.
        server_name: None,
        path_and_query: (request.method != Method::Connect).then_some(&*path),
        user_agent: user_agent.as_deref(),
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

/// What the tracker says of the client, for a connection that was cleared as this one is.
async fn decision(client: &Client) -> Decision {
    let gate = &client.worker.shared.gate;
    match gate.decide(client.address, client.auth.cleared) {
        Some(decision) => decision,
        None => gate.check(client.address).await,
    }
}

async fn without_credentials(client: &mut Client) -> Verdict {
    let shared = Arc::clone(&client.worker.shared);
    let gate = &shared.gate;
    // The client has given a handshake up.
    client.auth.pending = None;
    if gate.is_shared(client.address) {
        // On a host with many users only the connection tells them apart.
        return match &client.auth.identity {
            Some(identity) => Ok(Cleared { user: Arc::clone(identity), proof: None }),
            None => Err(Page::challenge(None)),
        };
    }
    match decision(client).await {
        Decision::Allow(admitted) => {
            bind(client, admitted.session).await?;
            Ok(Cleared { user: admitted.identity, proof: None })
        }
        Decision::Challenge => Err(Page::challenge(None)),
    }
}

async fn prove(client: &mut Client, token: Result<Vec<u8>, BadToken>) -> Verdict {
    let shared = Arc::clone(&client.worker.shared);
    let stats = &shared.stats;
    let pending = client.auth.pending.take();
    let token = match token {
        Ok(token) => token,
        Err(bad) => return Err(refused(client, &bad.to_string(), None)),
    };
    match shared.verifier.verify(pending, token).await {
        Ok(Outcome::Continue { pending, answer }) => {
            stats.proofs_continued.inc();
            client.auth.pending = Some(pending);
            Err(Page::challenge(Some(&answer)))
        }
        Ok(Outcome::Proved { identity, answer, details }) => {
            stats.proofs_accepted.inc();
            log(client, &details);
            let proof = answer.as_deref().map(pages::proof);
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
            Err(page.retry())
        }
        Err(VerifyError::Unavailable(why)) => {
            stats.proofs_unavailable.inc();
            shared.gate.refused(client.address, Proved::Kerberos, &why);
            Err(Page::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "The proxy cannot verify Kerberos tickets at present. Its operator finds the reason in its status and log.",
            ))
        }
    }
}

async fn proved(client: &mut Client, identity: Arc<Identity>, proof: Option<String>) -> Verdict {
    let shared = Arc::clone(&client.worker.shared);
    let gate = &shared.gate;
    if gate.is_shared(client.address) {
        gate.proved_on_shared_host(client.address, &identity, Proved::Kerberos);
        client.auth.identity = Some(Arc::clone(&identity));
        return Ok(Cleared { user: identity, proof });
    }
    let offer = Proof {
        client: client.address,
        identity,
        method: Proved::Kerberos,
        connection: Some(client.connection.id()),
        device: None,
    };
    // The session may end, or its time run out, between the proof and the last look at it: then this proof, which is of
    // this very request, begins or renews it. Twice in a row is no coincidence.
    let mut verdict = Page::challenge(None);
    for _ in 0..2 {
        match gate.prove(offer.clone()).await {
            Ok(admission) => match bind(client, admission.admitted.session).await {
                Ok(()) => return Ok(Cleared { user: admission.admitted.identity, proof }),
                Err(challenge) => verdict = challenge,
            },
            Err(refusal) => {
                shared.stats.proofs_not_admitted.inc();
                return Err(not_admitted(&refusal));
            }
        }
    }
    Err(verdict)
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

/// From now on the connection ends with the session. The session may have ended just before, without this connection:
/// so it is asked for once more.
async fn bind(client: &mut Client, session: SessionId) -> Result<(), Page> {
    if client.auth.cleared.replace(session) == Some(session) {
        return Ok(());
    }
    client.connection.bind(session);
    match decision(client).await {
        Decision::Allow(admitted) if admitted.session == session => Ok(()),
        _ => Err(Page::challenge(None)),
    }
}

fn refused(client: &mut Client, why: &str, answer: Option<&[u8]>) -> Page {
    let shared = &client.worker.shared;
    shared.stats.proofs_refused.inc();
    shared.gate.refused(client.address, Proved::Kerberos, why);
    client.auth.refusals = client.auth.refusals.saturating_add(1);
    let page = Page::challenge(answer);
    if client.auth.refusals > MAX_REFUSALS { page.closing() } else { page }
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
