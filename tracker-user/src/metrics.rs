//! `/metrics`, `/live` and `/ready`, for Prometheus and whoever supervises the daemon.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::{debug, warn};
use tracker_ebpf::abi::Counter;

use crate::net::Listener;
use crate::net::certificates::Keeper;
use crate::observe::{Kind, Observer};

/// How long a scraper may take to send its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// And to read the answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// So many scrapers are answered at once; others wait. Each takes a descriptor of the reserve.
const CONNECTIONS: usize = 16;

/// Whether the gateway serves clients.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    /// Says so.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What is wrong although clients are served, told by `/ready`.
pub type Notes = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// The server on its listener.
pub struct MetricsServer {
    listener: Listener<TcpListener>,
    registry: Registry,
    readiness: Readiness,
    notes: Notes,
}

impl MetricsServer {
    /// A server on this listener, on the runtime that this is called on.
    ///
    /// # Errors
    /// When the runtime cannot watch the listener.
    pub fn new(
        listener: Listener,
        registry: Registry,
        readiness: Readiness,
        notes: Notes,
    ) -> std::io::Result<Self> {
        Ok(Self { listener: listener.register()?, registry, readiness, notes })
    }

    /// Serves until it is dropped.
    pub async fn run(self) {
        let Self { listener, registry, readiness, notes } = self;
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            // Never closed.
            let slot = Arc::clone(&slots).acquire_owned().await;
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "a scraper's connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (registry, readiness, notes) = (registry.clone(), readiness.clone(), Arc::clone(&notes));
            tokio::spawn(async move {
                let _slot = slot;
                let service = service_fn(|request: Request<Incoming>| {
                    let response = answer(&request, &registry, &readiness, &notes);
                    async move { Ok::<_, Infallible>(response) }
                });
                let serving = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    // None waits for another request: it would keep others out.
                    .keep_alive(false)
                    .serve_connection(TokioIo::new(stream), service);
                match tokio::time::timeout(PATIENCE, serving).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => debug!(%error, "a scraper's connection failed"),
                    Err(_) => debug!("a scraper does not read what it asked for"),
                }
            });
        }
    }
}

fn answer(
    request: &Request<Incoming>,
    registry: &Registry,
    readiness: &Readiness,
    notes: &Notes,
) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".into());
    }
    match request.uri().path() {
        "/metrics" => match TextEncoder::new().encode_to_string(&registry.gather()) {
            Ok(page) => text(StatusCode::OK, page),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        "/live" => text(StatusCode::OK, "live\n".into()),
        // Who is served is served whatever a note says: no balancer ought to take the gateway away for it.
        "/ready" if readiness.get() => {
            let notes = notes().into_iter().map(|note| format!("warning: {note}\n"));
            text(StatusCode::OK, std::iter::once("ready\n".to_owned()).chain(notes).collect())
        }
        "/ready" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready: starting or stopping\n".into()),
        _ => text(StatusCode::NOT_FOUND, "here are /metrics, /live and /ready\n".into()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let value = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, value);
    response
}

/// The kernel's own counters, read when they are asked for.
pub struct ObserverCollector {
    observer: Arc<Observer>,
    errors: IntCounterVec,
    mode: IntGaugeVec,
}

impl ObserverCollector {
    /// A collector for `observer`.
    ///
    /// # Errors
    /// Never with these constant names; passed on.
    pub fn new(observer: Arc<Observer>) -> prometheus::Result<Self> {
        let opts = Opts::new("tracker_observer_errors_total", "What went wrong while observing, by what");
        let errors = IntCounterVec::new(opts, &["what"])?;
        let opts = Opts::new(
            "tracker_observer_mode",
            "1 for the observer that runs: the kernel's, or the proxy's own eyes",
        );
        let mode = IntGaugeVec::new(opts, &["mode"])?;
        let is_kernel = matches!(observer.kind(), Kind::Ebpf { .. });
        mode.with_label_values(&["ebpf"]).set(is_kernel.into());
        mode.with_label_values(&["proxy"]).set((!is_kernel).into());
        Ok(Self { observer, errors, mode })
    }
}

impl Collector for ObserverCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.errors.desc().into_iter().chain(self.mode.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        if let Ok(counters) = self.observer.counters() {
            for (counter, value) in Counter::ALL.iter().zip(counters) {
                let metric = self.errors.with_label_values(&[counter.name()]);
                metric.inc_by(value.saturating_sub(metric.get()));
            }
        }
        self.errors.collect().into_iter().chain(self.mode.collect()).collect()
    }
}

/// What is known of the certificates, asked for when it is scraped.
pub struct CertificateCollector {
    keeper: Arc<Keeper>,
    expiry: IntGaugeVec,
    reloads: IntCounterVec,
}

impl CertificateCollector {
    /// A collector for what `keeper` keeps.
    ///
    /// # Errors
    /// Never with these constant names; passed on.
    pub fn new(keeper: Arc<Keeper>) -> prometheus::Result<Self> {
        let expiry = IntGaugeVec::new(
            Opts::new(
                "tracker_tls_certificate_expiry_timestamp_seconds",
                "When a certificate that clients are shown expires, as a Unix time; position 1 is the default",
            ),
            &["position"],
        )?;
        let reloads = IntCounterVec::new(
            Opts::new(
                "tracker_tls_certificate_reloads_total",
                "Certificates that were exchanged while the gateway ran, and those that could not be used",
            ),
            &["result"],
        )?;
        Ok(Self { keeper, expiry, reloads })
    }
}

impl Collector for CertificateCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.expiry.desc().into_iter().chain(self.reloads.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.expiry.reset();
        for (index, shown) in self.keeper.shown().iter().enumerate() {
            let position = (index + 1).to_string();
            self.expiry.with_label_values(&[&position]).set(shown.facts.not_after.as_second());
        }
        let (exchanged, failed) = self.keeper.counts();
        for (result, count) in [("exchanged", exchanged), ("failed", failed)] {
            let counter = self.reloads.with_label_values(&[result]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        self.expiry.collect().into_iter().chain(self.reloads.collect()).collect()
    }
}
