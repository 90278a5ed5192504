//! Requests for `http://` addresses: sent on to the origin, and its answer sent back, streaming both ways.

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, MAX_FORWARDS, TE, TRANSFER_ENCODING,
    UPGRADE, VIA,
};
use hyper::http::uri::PathAndQuery;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tracing::debug;

use super::access::{Body, Entry, Progress, RequestBody};
use super::connection::{Client, MAX_HEAD, Reply};
use super::destination::Destination;
use super::dial::{Failure, dial};
use super::options::ProxyOptions;
use super::pages::Page;
use super::pool::{GiveBack, Idle, Sender};
use super::{headers, upgrade};
use crate::clock::boot_now;
use crate::observe::connections::Carries;

/// A connection that has been idle for less was certainly not closed for being idle: no copy of the request is made
/// against that.
const FRESH: Duration = Duration::from_secs(1);

pub(super) async fn forward(
    client: &Arc<Client>,
    mut request: Request<Incoming>,
    destination: &Destination,
    options: &Arc<ProxyOptions>,
    entry: &mut Option<Box<Entry>>,
) -> Reply {
    let carries =
        Carries::Request { method: method_name(request.method()), to: Arc::clone(&destination.key) };
    client.connection.carry(carries);
    if let Some(answer) = last_hop(&mut request) {
        return Reply { response: answer, unread: Some(request.into_body()) };
    }
    let is_head = request.method() == Method::HEAD;
    let progress = entry.as_ref().map(|entry| Arc::clone(&entry.received)).unwrap_or_default();
    let authorises = headers::binds_connection(request.headers(), &AUTHORIZATION);
    let Prepared { request, upgrade } = match prepare(request, &progress, &options.via) {
        Ok(prepared) => prepared,
        Err(page) => return Reply::page(*page, None),
    };

    let exchange = Exchange { client, destination, options, progress: &progress };
    let Exchanged { response, sender, mut pinned } = match exchange.run(request).await {
        Ok(exchanged) => exchanged,
        Err(problem) => return Reply::page(exchange.page(&problem), None),
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return upgrade::switch(client, upgrade, response, entry);
    }
    if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        let text = format!("{} asks for proxy credentials, which only a proxy may do.", destination.key);
        return Reply::page(Page::new(StatusCode::BAD_GATEWAY, text), None);
    }

    let (mut parts, incoming) = response.into_parts();
    if parts.headers.get(TRANSFER_ENCODING).is_some_and(|coding| !is_chunked(coding)) {
        let text = format!("{} answered in a transfer coding that was not asked for.", destination.key);
        return Reply::page(Page::new(StatusCode::BAD_GATEWAY, text), None);
    }
    let origin_asks = headers::binds_connection(&parts.headers, &headers::ORIGIN_CHALLENGE);
    pinned |= authorises || origin_asks;
    headers::strip_response(&mut parts.headers);
    if !is_head && parts.status != StatusCode::NOT_MODIFIED {
        headers::fix_length(&mut parts.headers, incoming.size_hint().exact());
    }
    if let Some(via) = headers::via(&options.via) {
        parts.headers.append(VIA, via);
    }
    if origin_asks {
        // RFC 4559, section 6: the client may go on with its handshake, this connection stays its own.
        let own = HeaderValue::from_static("Session-Based-Authentication");
        parts.headers.insert(headers::PROXY_SUPPORT, own);
    }
    parts.version = Version::HTTP_11;
    let give_back =
        GiveBack { client: Arc::clone(client), key: Arc::clone(&destination.key), sender, pinned };
    Response::from_parts(parts, Body::origin(incoming, give_back)).into()
}

/// OPTIONS and TRACE can be addressed to a proxy on the way (RFC 9110, section 7.6.2).
fn last_hop(request: &mut Request<Incoming>) -> Option<Response<Body>> {
    if !matches!(*request.method(), Method::OPTIONS | Method::TRACE) {
        return None;
    }
    let left = request.headers().get(MAX_FORWARDS)?.to_str().ok()?.parse::<u32>().ok()?;
    let Some(left) = left.checked_sub(1) else {
        let mut answer = Response::new(Body::empty());
        if request.method() == Method::TRACE {
            *answer.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        }
        return Some(answer);
    };
    request.headers_mut().insert(MAX_FORWARDS, left.into());
    None
}

struct Prepared {
    request: Request<RequestBody>,
    /// The client's connection, if it wants to change the protocol.
    upgrade: Option<OnUpgrade>,
}

/// The request as the origin gets it.
fn prepare(
    mut request: Request<Incoming>,
    progress: &Arc<Progress>,
    via: &str,
) -> Result<Prepared, Box<Page>> {
    let bad = || Box::new(Page::bad_request("The request's target cannot be sent on."));
    let is_current = request.version() == Version::HTTP_11;
    let on_upgrade = hyper::upgrade::on(&mut request);
    let (mut parts, body) = request.into_parts();
    let hop = headers::strip_request(&mut parts.headers);
    let protocol = hop.upgrade.filter(|_| is_current);

    // The URI is what counts; whatever the client wrote into Host is replaced.
    let host = parts.uri.authority().map(|authority| HeaderValue::from_str(authority.as_str()));
    parts.headers.insert(HOST, host.and_then(Result::ok).ok_or_else(bad)?);
    if let Some(via) = headers::via(via) {
        parts.headers.append(VIA, via);
    }
    let connection = match (hop.trailers, &protocol) {
        (false, None) => None,
        (true, None) => Some("TE"),
        (false, Some(_)) => Some("upgrade"),
        (true, Some(_)) => Some("TE, upgrade"),
    };
    if let Some(connection) = connection {
        parts.headers.insert(CONNECTION, HeaderValue::from_static(connection));
    }
    if hop.trailers {
        parts.headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    let upgrade = protocol.map(|protocol| {
        parts.headers.insert(UPGRADE, protocol);
        on_upgrade
    });
    if !body.is_end_stream() && !parts.headers.contains_key(CONTENT_LENGTH) {
        // hyper would leave the content of some methods out.
        parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let path = parts.uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
    parts.uri = Uri::from(path);
    parts.version = Version::HTTP_11;
    let body = RequestBody::new(body, progress);
    Ok(Prepared { request: Request::from_parts(parts, body), upgrade })
}

/// What can go wrong between a request and its answer.
#[derive(Debug)]
enum Problem {
    Dial(Failure),
    Exchange(hyper::Error),
    TimedOut,
    ClientBroke,
}

struct Exchange<'a> {
    client: &'a Arc<Client>,
    destination: &'a Destination,
    options: &'a ProxyOptions,
    progress: &'a Progress,
}

struct Exchanged {
    response: Response<Incoming>,
    sender: Sender,
    pinned: bool,
}

impl Exchange<'_> {
    /// Sends the request on an idle connection or on a new one. An idle one may have been closed by the origin without
    /// our knowing: then the request is sent again, if nothing of it can have been understood, or if that does no harm.
    async fn run(&self, mut request: Request<RequestBody>) -> Result<Exchanged, Problem> {
        loop {
            let (idle, pinned) = self.idle();
            let fresh = idle.is_none();
            let mut copy = None;
            let mut sender = match idle {
                Some(idle) => {
                    if boot_now().since(idle.since) >= FRESH {
                        copy = copy_if_harmless(&request);
                    }
                    self.client.shared.stats.origins_reused.inc();
                    idle.sender
                }
                None => self.connect().await?,
            };
            match self.send(&mut sender, request).await {
                Ok(response) => return Ok(Exchanged { response, sender, pinned }),
                Err(Unsent { problem, unsent }) => {
                    let again = unsent.filter(|_| !fresh).or(match problem {
                        Problem::Exchange(_) => copy,
                        _ => None,
                    });
                    match again {
                        Some(again) => request = again,
                        None => return Err(problem),
                    }
                }
            }
        }
    }

    /// An idle connection, and whether it is this client's own.
    fn idle(&self) -> (Option<Idle>, bool) {
        let key = &self.destination.key;
        if let Some(sender) = self.client.take_pinned(key) {
            return (Some(Idle { sender, since: boot_now() }), true);
        }
        (self.client.shared.pool.take(key, self.options.pool_idle_timeout), false)
    }

    async fn connect(&self) -> Result<Sender, Problem> {
        let stream =
            dial(&self.client.shared, self.destination, self.options).await.map_err(Problem::Dial)?;
        let mut builder = http1::Builder::new();
        builder.max_header_size(MAX_HEAD);
        let (sender, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(Problem::Exchange)?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                debug!(%error, "an origin's connection broke");
            }
        });
        Ok(sender)
    }

    async fn send(
        &self,
        sender: &mut Sender,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, Unsent> {
        let mut sent = pin!(sender.try_send_request(request));
        // The origin's time runs while nothing more is sent to it.
        let mut seen = self.progress.bytes.load(Relaxed);
        loop {
            match timeout(self.options.response_timeout, sent.as_mut()).await {
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(mut error)) => {
                    let unsent = error.take_message();
                    let problem = if self.progress.broken.load(Relaxed) {
                        Problem::ClientBroke
                    } else {
                        Problem::Exchange(error.into_error())
                    };
                    return Err(Unsent { problem, unsent });
                }
                Err(_) => {
                    let now = self.progress.bytes.load(Relaxed);
                    if now == seen {
                        return Err(Unsent { problem: Problem::TimedOut, unsent: None });
                    }
                    seen = now;
                }
            }
        }
    }

    fn page(&self, problem: &Problem) -> Page {
        let origin = &self.destination.key;
        let (status, text) = match problem {
            Problem::Dial(failure) => return failure.page(self.destination),
            Problem::ClientBroke => return Page::bad_request("The request broke off before its end."),
            Problem::TimedOut => {
                (StatusCode::GATEWAY_TIMEOUT, format!("{origin} did not answer the request in time."))
            }
            Problem::Exchange(error) if error.is_parse_too_large() => {
                (StatusCode::BAD_GATEWAY, format!("The head of {origin}'s answer is too large."))
            }
            Problem::Exchange(error) if error.is_parse() => {
                (StatusCode::BAD_GATEWAY, format!("{origin} answered with something that is not HTTP."))
            }
            Problem::Exchange(_) => (
                StatusCode::BAD_GATEWAY,
                format!("{origin} closed the connection before it had answered the request."),
            ),
        };
        Page::new(status, text)
    }
}

/// A request that got no answer.
struct Unsent {
    problem: Problem,
    /// The request, if nothing of it had been sent.
    unsent: Option<Request<RequestBody>>,
}

/// A copy of a request that may be sent twice: it asks for nothing to be changed, and has no content.
fn copy_if_harmless(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let harmless = request.method().is_safe() && request.body().is_end_stream();
    let is_plain = harmless && !request.headers().contains_key(UPGRADE);
    is_plain.then(|| {
        let mut copy = Request::new(RequestBody::empty());
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.headers_mut() = request.headers().clone();
        copy
    })
}

fn is_chunked(coding: &HeaderValue) -> bool {
    coding.as_bytes().eq_ignore_ascii_case(b"chunked")
}

/// Standard methods cost nothing to name.
fn method_name(method: &Method) -> Cow<'static, str> {
    for known in ["GET", "POST", "PUT", "HEAD", "DELETE", "OPTIONS", "PATCH", "TRACE"] {
        if method.as_str() == known {
            return Cow::Borrowed(known);
        }
    }
    Cow::Owned(method.as_str().to_owned())
}
