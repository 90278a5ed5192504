//! What the loop counts and measures.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// What the loop counts and measures.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) active: IntGauge,
    pub(super) stale: IntGauge,
    pub(super) waiting: IntGauge,
    pub(super) users: IntGauge,
    pub(super) licences: IntGauge,
    pub(super) licences_max: IntGauge,
    pub(super) licences_refused: IntCounter,
    pub(super) hints: IntCounter,
    pub(super) closure: Histogram,
    pub(super) deadline: Histogram,
    pub(super) resyncs: IntCounter,
    pub(super) resync: Histogram,
    pub(super) repaired: IntCounter,
    pub(super) clients: IntGauge,
    pub(super) connections: IntGauge,
    pub(super) unreadable: IntCounter,
    pub(super) blind: IntGauge,
    pub(super) destroyed_own: IntCounter,
    pub(super) destroyed_foreign: IntCounter,
    pub(super) shared_suspected: IntCounter,
}

impl Metrics {
    /// All of them, registered.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let histogram = |name: &str, help: &str| -> prometheus::Result<Histogram> {
            let buckets = vec![5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 0.1, 1.0, 10.0];
            let histogram = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))?;
            registry.register(Box::new(histogram.clone()))?;
            Ok(histogram)
        };
        let opts = Opts::new(
            "tracker_connections_destroyed_total",
            "Connections that were ended with their session, by what ended them",
        );
        let destroyed = IntCounterVec::new(opts, &["by"])?;
        registry.register(Box::new(destroyed.clone()))?;
        Ok(Self {
            blind: gauge("tracker_observer_blind", "1 while the records cannot be relied upon")?,
            destroyed_own: destroyed.with_label_values(&["proxy"]),
            destroyed_foreign: destroyed.with_label_values(&["netlink"]),
            active: gauge("tracker_sessions_active", "Sessions on which requests are served")?,
            stale: gauge(
                "tracker_sessions_stale",
                "Sessions whose timeout ran out and which wait for their user",
            )?,
            waiting: gauge(
                "tracker_sessions_waiting",
                "Sessions whose user proved themselves and has to prove a second factor",
            )?,
            users: gauge("tracker_users_active", "Users with at least one active session")?,
            licences: gauge("tracker_licences_used", "Licences in use")?,
            licences_max: gauge("tracker_licences_max", "Licences that there are; 0 is no limit")?,
            licences_refused: counter(
                "tracker_licences_refused_total",
                "Users who proved themselves and were not let in, as all licences were in use",
            )?,
            hints: counter("tracker_hints_total", "Hints received from the observer")?,
            closure: histogram(
                "tracker_closure_to_clock_seconds",
                "From a client's last connection closing to its session's clock running",
            )?,
            deadline: histogram("tracker_deadline_late_seconds", "How late deadlines were acted upon")?,
            resyncs: counter("tracker_resyncs_total", "Comparisons of the records with the sockets")?,
            resync: histogram(
                "tracker_resync_seconds",
                "How long comparing the records with the sockets took",
            )?,
            repaired: counter(
                "tracker_records_repaired_total",
                "Records whose count of connections was repaired",
            )?,
            clients: gauge(
                "tracker_clients_connected",
                "Client addresses with open connections, at the last resync",
            )?,
            connections: gauge("tracker_connections_watched", "Watched connections, at the last resync")?,
            shared_suspected: counter(
                "tracker_shared_address_suspected_total",
                "Kick-outs that looked as if many users sat behind the address",
            )?,
            unreadable: counter("tracker_record_read_errors_total", "Records that could not be read")?,
        })
    }
}
