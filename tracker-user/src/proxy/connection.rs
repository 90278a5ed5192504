//! One client's connection: what is remembered on it, and the loop that serves its requests in turn.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, HeaderValue, PROXY_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tracing::{debug, info};
use tracker_ebpf::abi::ClientAddr;

use super::access::{Body, Entry};
use super::admit::{self, AuthState};
use super::destination::Destination;
use super::leftover::Leftover;
use super::options::ProxyOptions;
use super::pages::Page;
use super::pool::Sender;
use super::stats::Held;
use super::watch::{Activity, Limit, Watched};
use super::{Shared, connect, forward, headers};
use crate::clock::{BootTime, boot_now};
use crate::observe::{ClientStream, Connection};

/// The largest request head: a ticket with many groups, as base64, and room for the rest.
pub(super) const MAX_HEAD: usize = 160 * 1024;

/// What belongs to one connection.
pub(super) struct Client {
    pub(super) shared: Arc<Shared>,
    pub(super) connection: Arc<Connection>,
    pub(super) address: ClientAddr,
    pub(super) activity: Arc<Activity>,
    auth: Mutex<AuthState>,
    pinned: Mutex<Option<(Arc<str>, Sender)>>,
}

impl Client {
    pub(super) fn auth(&self) -> MutexGuard<'_, AuthState> {
        self.auth.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The origin's connection on which this client, and nobody else, has authenticated itself to the origin.
    pub(super) fn take_pinned(&self, key: &str) -> Option<Sender> {
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        pinned.take_if(|(to, _)| **to == *key).map(|(_, sender)| sender).filter(|sender| !sender.is_closed())
    }

    pub(super) fn pin(&self, key: Arc<str>, sender: Sender) {
        *self.pinned.lock().unwrap_or_else(PoisonError::into_inner) = Some((key, sender));
    }
}

/// An answer, and what of the request has not been read.
pub(super) struct Reply {
    pub(super) response: Response<Body>,
    pub(super) unread: Option<Incoming>,
}

impl From<Response<Body>> for Reply {
    fn from(response: Response<Body>) -> Self {
        Self { response, unread: None }
    }
}

impl Reply {
    pub(super) fn page(page: Page, unread: impl Into<Option<Incoming>>) -> Self {
        Self { response: page.into_response(), unread: unread.into() }
    }
}

/// Serves a connection until it ends.
pub(super) async fn run(shared: Arc<Shared>, stream: ClientStream) {
    shared.stats.connections.inc();
    let _open = Held::new(&shared.stats.connections_open);
    let connection = Arc::clone(stream.connection());
    let activity = Arc::new(Activity::new());
    let client = Arc::new(Client {
        address: connection.client(),
        connection: Arc::clone(&connection),
        activity: Arc::clone(&activity),
        auth: Mutex::default(),
        pinned: Mutex::default(),
        shared: Arc::clone(&shared),
    });
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
    let service = service_fn(move |request| {
        let client = Arc::clone(&client);
        async move { Ok::<_, std::convert::Infallible>(serve(client, request).await) }
    });
    let mut http = pin!(builder().serve_connection(io, service).with_upgrades());

    // One task and no channel: the connection, the two ways to end it from outside, and a timer that is set anew only
    // when it rings or when an earlier deadline comes up.
    let mut ended = pin!(connection.ended().cancelled());
    let mut retiring = pin!(connection.retiring().cancelled());
    let (mut registered, mut closing) = (false, false);
    let mut timer = pin!(tokio::time::sleep(shared.options.load().header_timeout));
    let mut rings = boot_now().after(shared.options.load().header_timeout);
    let end = poll_fn(|cx| {
        if !registered || connection.is_signalled() {
            registered = true;
            if ended.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            // The stop may have come before this connection was known to it.
            let stopping = shared.stopping.is_cancelled() || retiring.as_mut().poll(cx).is_ready();
            if stopping && !closing {
                closing = true;
                http.as_mut().graceful_shutdown();
            }
        }
        if let Poll::Ready(end) = http.as_mut().poll(cx) {
            return Poll::Ready(end);
        }
        loop {
            let options = shared.options.load();
            let limit = activity.limit(&options);
            let now = boot_now();
            match limit {
                Some(Limit::Head(at)) if at <= now => return Poll::Ready(Ok(())),
                Some(Limit::Idle(at)) if at <= now => {
                    if closing {
                        return Poll::Ready(Ok(()));
                    }
                    // Gracefully first: the end of the last answer may still be in hyper's buffer.
                    closing = true;
                    activity.idle();
                    http.as_mut().graceful_shutdown();
                    if let Poll::Ready(end) = http.as_mut().poll(cx) {
                        return Poll::Ready(end);
                    }
                    continue;
                }
                _ => {}
            }
            let next = limit.map(Limit::at);
            if next.is_some_and(|at| at < rings) {
                set(timer.as_mut(), &mut rings, next, now, &options);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            set(timer.as_mut(), &mut rings, next, now, &options);
        }
    })
    .await;
    if let Err(error) = end {
        report(&shared, &connection, &error);
    }
}

/// Sets the timer to the next deadline, or to the next look where there is none.
fn set(
    mut timer: std::pin::Pin<&mut tokio::time::Sleep>,
    rings: &mut BootTime,
    next: Option<BootTime>,
    now: BootTime,
    options: &ProxyOptions,
) {
    let span = next.map_or(options.header_timeout, |at| at.since(now));
    *rings = now.after(span);
    timer.set(tokio::time::sleep(span));
}

fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // A client may close its half when it has sent its request, and still gets its answer.
    builder.half_close(true);
    builder.header_read_timeout(None).max_header_size(MAX_HEAD).max_buf_size(MAX_HEAD + 16 * 1024);
    builder
}

/// What hyper answered by itself, and what broke.
fn report(shared: &Shared, connection: &Connection, error: &hyper::Error) {
    if !error.is_parse() {
        debug!(client = %connection.client(), %error, "a client's connection broke");
        return;
    }
    let status = if error.is_parse_too_large() {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    } else {
        StatusCode::BAD_REQUEST
    };
    shared.stats.answered(Some(status));
    info!(target: "access", client = %connection.client(), status = status.as_u16(), problem = %error);
}

async fn serve(client: Arc<Client>, request: Request<Incoming>) -> Response<Body> {
    client.activity.busy();
    let options = client.shared.options.load_full();
    let is_head = request.method() == Method::HEAD;
    let mut close = headers::wants_close(request.headers());
    let mut entry = Some(Entry::new(Arc::clone(&client), request.method().clone()));
    let Reply { mut response, unread } = reply(&client, request, &options, &mut entry).await;

    if let Some(leftover) = unread.and_then(|body| Leftover::new(&client, body)) {
        close |= leftover.is_too_large();
        response.body_mut().leave(leftover);
    }
    if close && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        client.shared.stats.challenges.inc();
    }
    // Tunnels have taken it.
    if let Some(mut entry) = entry {
        entry.status = Some(response.status());
        if is_head {
            entry.complete();
        }
        response.body_mut().log(entry);
    }
    response
}

async fn reply(
    client: &Arc<Client>,
    request: Request<Incoming>,
    options: &Arc<ProxyOptions>,
    entry: &mut Option<Box<Entry>>,
) -> Reply {
    let destination = match destination(request.method(), request.uri()) {
        Ok(destination) => destination,
        Err(page) => return Reply::page(page, request.into_body()),
    };
    if let Some(entry) = entry {
        let path = (request.method() != Method::CONNECT).then(|| request.uri().path());
        entry.to(&destination.key, path);
    }
    if request.headers().get_all(HOST).iter().nth(1).is_some() {
        let page = Page::bad_request("The request has more than one Host field.");
        return Reply::page(page, request.into_body());
    }
    if headers::is_loop(request.headers(), &options.via) {
        let text = format!("This request for {} has come back to the proxy that sent it.", destination.key);
        return Reply::page(Page::new(StatusCode::LOOP_DETECTED, text), request.into_body());
    }

    let cleared = match admit::admit(client, &request, options).await {
        Ok(cleared) => cleared,
        Err(response) => return Reply { response: *response, unread: Some(request.into_body()) },
    };
    if let Some(entry) = entry {
        entry.user = Some(cleared.user);
    }
    let mut reply = if request.method() == Method::CONNECT {
        connect::connect(client, request, &destination, options, entry).await
    } else {
        forward::forward(client, request, &destination, options, entry).await
    };
    if let Some(proof) = cleared.proof {
        reply.response.headers_mut().insert(PROXY_AUTHENTICATE, proof);
    }
    reply
}

/// Where a request wants to go, by its method and target (RFC 9112, section 3.2).
fn destination(method: &Method, uri: &Uri) -> Result<Destination, Page> {
    let bad = |problem| Page::bad_request(format!("The request's target cannot be used: {problem}."));
    let authority = uri.authority().map(hyper::http::uri::Authority::as_str);
    match (method == Method::CONNECT, uri.scheme_str(), authority) {
        (true, None, Some(authority)) if uri.path_and_query().is_none() => {
            Destination::parse(authority, None).map_err(bad)
        }
        (true, ..) => Err(Page::bad_request("A CONNECT request names a host and a port, and nothing else.")),
        (false, Some("http"), Some(authority)) => Destination::parse(authority, Some(80)).map_err(bad),
        (false, Some(scheme), _) => Err(Page::bad_request(format!(
            "This proxy fetches http:// addresses; for {scheme}:// the client has to ask for a tunnel (CONNECT)."
        ))),
        (false, None, _) => Err(Page::bad_request(
            "This is a proxy, not a web server. Set it as the proxy of your browser, and ask for complete addresses (http://...).",
        )),
    }
}
