//! The web server behind the proxy: an in-process HTTP origin and a few plain TCP services, in the origin's namespace.
//!
//! | path | what it does |
//! |---|---|
//! | `/` | a line of text |
//! | `/bytes/N` | N bytes, with their length announced |
//! | `/chunked/N` | N bytes in chunks |
//! | `/slow?ms=N` | answers after N ms |
//! | `/drip?n=N&ms=M` | N chunks, one every M ms |
//! | `/echo` | streams the request's body back |
//! | `/count` | reads the whole body, answers with its length and its trailers as JSON |
//! | `/headers` | method, target and headers of the request as JSON, and the number of its connection |
//! | `/html/CONTENT` | a page: its HTML is the path's rest, in base64url |
//! | `/post?bytes=N&ms=M` | a page that sends N bytes to `/count` after M ms, and then asks for `/done` |
//! | `/trailers` | a chunked body and the trailer `X-Checksum: ok` |
//! | `/status/NNN` | that status |
//! | `/close` | announces more than it sends, and closes |
//! | `/upgrade` | 101, then echoes |

mod services;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONNECTION, HeaderValue, TRAILER, UPGRADE};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::ns::Ns;
pub use services::{DRIP_PORT, ECHO_PORT, RESET_PORT, SILENT_PORT, SINK_PORT};

/// The HTTP port.
pub const HTTP_PORT: u16 = 80;

type Body = BoxBody<Bytes, std::io::Error>;

/// What the origin has seen.
#[derive(Debug, Default)]
pub struct Counts {
    /// HTTP connections accepted.
    pub connections: AtomicU64,
    /// HTTP connections open now.
    pub open: AtomicU64,
    /// HTTP requests received.
    pub requests: AtomicU64,
    /// Bytes of request bodies received by `/echo` and `/count`.
    pub received: AtomicU64,
    /// Requests for `/done`.
    pub done: AtomicU64,
}

/// The path of a page that the origin shows: this one.
#[must_use]
pub fn page(content: &str) -> String {
    format!("/html/{}", URL_SAFE_NO_PAD.encode(content))
}

/// The running server; it ends on drop.
#[derive(Debug)]
pub struct Origin {
    counts: Arc<Counts>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Origin {
    /// Starts it in this namespace, for both address families.
    ///
    /// # Errors
    /// When its ports are taken.
    pub fn start(ns: &Ns) -> Result<Self> {
        let counts = Arc::new(Counts::default());
        let (stop, stopped) = oneshot::channel();
        let (ready, started) = std::sync::mpsc::channel();
        let counting = Arc::clone(&counts);
        let thread = ns.thread("origin", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                match listen().await {
                    Ok(listener) => {
                        ready.send(Ok(())).unwrap();
                        tokio::select! { () = serve(listener, counting) => {}, _ = stopped => {} }
                    }
                    Err(error) => ready.send(Err(error)).unwrap(),
                }
            });
        })?;
        started.recv().context("the origin's thread has ended")??;
        Ok(Self { counts, stop: Some(stop), thread: Some(thread) })
    }

    /// HTTP connections accepted so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// HTTP connections open now.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.counts.open.load(Ordering::SeqCst)
    }

    /// HTTP requests received so far.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.counts.requests.load(Ordering::SeqCst)
    }

    /// Bytes of request bodies received so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.counts.received.load(Ordering::SeqCst)
    }

    /// How often a page of `/post` has said that its content was counted.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.counts.done.load(Ordering::SeqCst)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Opens all ports.
async fn listen() -> Result<TcpListener> {
    services::start().await?;
    Ok(TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, HTTP_PORT))).await?)
}

async fn serve(listener: TcpListener, counts: Arc<Counts>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let _ = stream.set_nodelay(true);
        let number = counts.connections.fetch_add(1, Ordering::SeqCst);
        counts.open.fetch_add(1, Ordering::SeqCst);
        let counts = Arc::clone(&counts);
        tokio::spawn(async move {
            let inner = Arc::clone(&counts);
            let service = service_fn(move |request| {
                let counts = Arc::clone(&inner);
                async move { Ok::<_, Infallible>(answer(request, number, counts).await) }
            });
            // A client that goes away is its own business.
            let _ = hyper::server::conn::http1::Builder::new()
                .half_close(true)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
            counts.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn answer(request: Request<Incoming>, connection: u64, counts: Arc<Counts>) -> Response<Body> {
    counts.requests.fetch_add(1, Ordering::SeqCst);
    let path = request.uri().path().to_owned();
    let query = parse(request.uri().query().unwrap_or_default());
    let number = |key: &str| query.get(key).copied().unwrap_or(0);
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (first, second) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    match first {
        "" => text("the origin greets you\n"),
        "bytes" => full(vec![b'x'; second.parse().unwrap_or(0)]),
        "chunked" => chunked(second.parse().unwrap_or(0)),
        "slow" => {
            tokio::time::sleep(Duration::from_millis(number("ms"))).await;
            text("slow\n")
        }
        "drip" => drip(number("n"), Duration::from_millis(number("ms"))),
        "echo" => Response::new(counted(request.into_body(), counts)),
        "count" => count(request.into_body(), &counts).await,
        "headers" => headers(&request, connection),
        "html" => html(URL_SAFE_NO_PAD.decode(second).unwrap_or_default()),
        "post" => post(number("bytes"), number("ms")),
        "done" => {
            counts.done.fetch_add(1, Ordering::SeqCst);
            text("done\n")
        }
        "trailers" => trailers(),
        "status" => {
            let mut response = text(second);
            *response.status_mut() = second
                .parse::<u16>()
                .ok()
                .and_then(|code| code.try_into().ok())
                .unwrap_or(StatusCode::BAD_REQUEST);
            response
        }
        "close" => close(),
        "upgrade" => upgrade(request),
        _ => {
            let mut response = text("no such path\n");
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

fn parse(query: &str) -> HashMap<&str, u64> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter_map(|(key, value)| Some((key, value.parse().ok()?))).collect()
}

fn full(content: impl Into<Bytes>) -> Response<Body> {
    Response::new(Full::new(content.into()).map_err(|never: Infallible| match never {}).boxed())
}

fn text(content: &str) -> Response<Body> {
    full(content.to_owned())
}

fn html(content: impl Into<Bytes>) -> Response<Body> {
    let mut response = full(content);
    response.headers_mut().insert("content-type", HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = text(&value.to_string());
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
    response
}

/// A body that `fill` writes, as the client takes it.
fn stream<F>(fill: impl FnOnce(http_body_util::channel::Sender<Bytes, std::io::Error>) -> F) -> Response<Body>
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, body) = Channel::<Bytes, std::io::Error>::new(1);
    tokio::spawn(fill(sender));
    Response::new(body.boxed())
}

fn chunked(total: usize) -> Response<Body> {
    stream(move |mut sender| async move {
        let block = Bytes::from(vec![b'x'; 64 * 1024]);
        let mut left = total;
        while left > 0 {
            let now = left.min(block.len());
            if sender.send_data(block.slice(..now)).await.is_err() {
                return;
            }
            left -= now;
        }
    })
}

fn drip(count: u64, pause: Duration) -> Response<Body> {
    stream(move |mut sender| async move {
        for number in 0..count {
            if sender.send_data(format!("{number}\n").into()).await.is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    })
}

fn trailers() -> Response<Body> {
    let mut response = stream(|mut sender| async move {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", HeaderValue::from_static("ok"));
        let _ = sender.send_data("body with trailers\n".into()).await;
        let _ = sender.send_trailers(trailers).await;
    });
    response.headers_mut().insert(TRAILER, HeaderValue::from_static("x-checksum"));
    response
}

fn close() -> Response<Body> {
    let mut response = stream(|mut sender| async move {
        let _ = sender.send_data("only the beginning".into()).await;
        sender.abort(std::io::Error::other("on purpose"));
    });
    response.headers_mut().insert("content-length", HeaderValue::from_static("1000"));
    response
}

/// The request's body, counted while it passes.
fn counted(body: Incoming, counts: Arc<Counts>) -> Body {
    body.map_frame(move |frame| {
        let length = frame.data_ref().map_or(0, Bytes::len);
        counts.received.fetch_add(length as u64, Ordering::SeqCst);
        frame
    })
    .map_err(std::io::Error::other)
    .boxed()
}

async fn count(body: Incoming, counts: &Arc<Counts>) -> Response<Body> {
    let mut body = counted(body, Arc::clone(counts));
    let (mut length, mut trailers) = (0, serde_json::Map::new());
    while let Some(frame) = body.frame().await {
        match frame.map(Frame::into_data) {
            Ok(Ok(data)) => length += data.len(),
            Ok(Err(frame)) => {
                trailers.extend(frame.into_trailers().ok().as_ref().map(shown).unwrap_or_default());
            }
            Err(_) => return json(&serde_json::json!({ "error": "the body broke off", "length": length })),
        }
    }
    json(&serde_json::json!({ "length": length, "trailers": trailers }))
}

/// Headers as JSON: a name with several values gets them joined by a bar.
fn shown(headers: &HeaderMap) -> serde_json::Map<String, serde_json::Value> {
    let value = |name| {
        let values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        values.collect::<Vec<_>>().join("|").into()
    };
    headers.keys().map(|name| (name.to_string(), value(name))).collect()
}

/// The page counts what the origin has counted.
fn post(bytes: u64, ms: u64) -> Response<Body> {
    html(format!(
        "<!DOCTYPE html><title>post</title><script>setTimeout(async () => {{\
           const answer = await fetch('/count', {{ method: 'POST', body: new Uint8Array({bytes}) }});\
           if ((await answer.json()).length === {bytes}) await fetch('/done');\
         }}, {ms})</script>"
    ))
}

fn headers(request: &Request<Incoming>, connection: u64) -> Response<Body> {
    json(&serde_json::json!({
        "connection": connection,
        "method": request.method().as_str(),
        "target": request.uri().to_string(),
        "version": format!("{:?}", request.version()),
        "headers": shown(request.headers()),
    }))
}

fn upgrade(request: Request<Incoming>) -> Response<Body> {
    let wanted = request.headers().get(UPGRADE).cloned();
    let Some(protocol) = wanted else {
        let mut response = text("this path wants an Upgrade\n");
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        return response;
    };
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            services::echo(TokioIo::new(upgraded)).await;
        }
    });
    let mut response = text("");
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(UPGRADE, protocol);
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response
}
