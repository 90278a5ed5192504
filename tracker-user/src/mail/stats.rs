//! What is counted of mail.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Stats {
    /// A mail server has taken them.
    pub(super) sent: IntCounter,
    /// They were put off: a try that failed, with another one to come.
    pub(super) deferred: IntCounter,
    /// A mail server will never take them.
    pub(super) refused: IntCounter,
    /// They were no use any more.
    pub(super) expired: IntCounter,
    /// They could not be kept: too many wait, or the key is another one.
    pub(super) dropped: IntCounter,
    /// So many wait.
    pub(super) waiting: IntGauge,
}

impl Stats {
    /// All at 0.
    ///
    /// # Errors
    /// When a metric is registered already.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        let all =
            Opts::new("tracker_mail_total", "Mails, by what became of them; deferred: tries that failed");
        let all = IntCounterVec::new(all, &["result"])?;
        let waiting = IntGauge::new("tracker_mail_queue", "Mails that wait to be sent")?;
        registry.register(Box::new(all.clone()))?;
        registry.register(Box::new(waiting.clone()))?;
        let of = |result: &str| all.with_label_values(&[result]);
        Ok(Self {
            sent: of("sent"),
            deferred: of("deferred"),
            refused: of("refused"),
            expired: of("expired"),
            dropped: of("dropped"),
            waiting,
        })
    }
}
