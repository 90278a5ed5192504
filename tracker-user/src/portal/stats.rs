//! What the portal counts. No label carries a user or an address.

use http::StatusCode;
use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Counters and gauges; cheap to clone, all clones are the same ones.
#[derive(Clone, Debug)]
pub struct Stats {
    requests: IntCounterVec,
    refused: IntCounterVec,
    /// Connections that are open.
    pub(super) connections: IntGauge,
}

impl Stats {
    /// All at 0.
    ///
    /// # Errors
    /// Never with these names; passed on from the library.
    pub fn new() -> prometheus::Result<Self> {
        let of = |name: &str, help: &str, label: &str| IntCounterVec::new(Opts::new(name, help), &[label]);
        Ok(Self {
            requests: of(
                "tracker_portal_requests_total",
                "Requests to the web pages, by the status of the answer",
                "code",
            )?,
            refused: of(
                "tracker_portal_refused_total",
                "Connections and requests of the web pages that were refused before anybody looked at what they want, by cause",
                "cause",
            )?,
            connections: IntGauge::new(
                "tracker_portal_connections",
                "Connections to the web pages that are open",
            )?,
        })
    }

    /// Has them shown.
    ///
    /// # Errors
    /// When one of the names is taken.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.requests.clone()))?;
        registry.register(Box::new(self.refused.clone()))?;
        registry.register(Box::new(self.connections.clone()))
    }

    /// Counts a request that was answered.
    pub(super) fn answered(&self, status: StatusCode) {
        self.requests.with_label_values(&[status.as_str()]).inc();
    }

    /// What was refused for this cause, in a word of a fixed set.
    pub(super) fn refused(&self, cause: &'static str) -> IntCounter {
        self.refused.with_label_values(&[cause])
    }
}
