//! What is counted of names and passwords. No label carries a name or an address.

use prometheus::{IntCounterVec, Opts, Registry};

use super::cause::Cause;
use crate::auth::outcome::Failure;

/// Who has said that a password is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// The gateway's own list of users.
    Local,
    /// The realm's KDC.
    Kdc,
    /// Nobody: it was right a moment ago.
    Remembered,
    /// The gateway's list of application passwords.
    Application,
}

impl By {
    const ALL: [Self; 4] = [Self::Local, Self::Kdc, Self::Remembered, Self::Application];

    const fn label(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Kdc => "kdc",
            Self::Remembered => "remembered",
            Self::Application => "app-password",
        }
    }
}

/// Failures that are of no cause: nobody could look.
const NOT_LOOKED_AT: [&str; 3] = ["busy", "timed-out", "unavailable"];

/// Counters; cheap to clone, all clones are the same ones.
#[derive(Clone, Debug)]
pub struct Counters {
    accepted: IntCounterVec,
    refused: IntCounterVec,
}

impl Counters {
    /// All at 0, and visible in `registry`.
    ///
    /// # Errors
    /// When one of the names is taken.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let counters = Self::hidden()?;
        registry.register(Box::new(counters.accepted.clone()))?;
        registry.register(Box::new(counters.refused.clone()))?;
        Ok(counters)
    }

    /// The same, visible nowhere.
    ///
    /// # Errors
    /// Never with these names; passed on from the library.
    pub fn hidden() -> prometheus::Result<Self> {
        let accepted = Opts::new(
            "tracker_password_accepted_total",
            "Names with passwords that were right, by who said so",
        );
        let refused = Opts::new(
            "tracker_password_refused_total",
            "Names with passwords that proved nothing, by the cause; also those that nobody could look at",
        );
        let counters = Self {
            accepted: IntCounterVec::new(accepted, &["by"])?,
            refused: IntCounterVec::new(refused, &["cause"])?,
        };
        // Made at once: a rate is wrong for a counter that appears with its first event.
        for by in By::ALL {
            counters.accepted.get_metric_with_label_values(&[by.label()])?;
        }
        for cause in Cause::ALL.map(Cause::label).into_iter().chain(NOT_LOOKED_AT) {
            counters.refused.get_metric_with_label_values(&[cause])?;
        }
        Ok(counters)
    }

    pub(super) fn accepted(&self, by: By) {
        self.accepted.with_label_values(&[by.label()]).inc();
    }

    pub(super) fn refused(&self, failure: &Failure) {
        self.refused.with_label_values(&[failure.label()]).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_is_there_from_the_start() {
        let registry = Registry::new();
        let counters = Counters::new(&registry).unwrap();
        counters.accepted(By::Kdc);
        counters.refused(&Failure::rejected(Cause::Banned, ""));
        counters.refused(&Failure::Unavailable(String::new()));
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "tracker_password_accepted_total{by=\"kdc\"} 1",
            "tracker_password_accepted_total{by=\"local\"} 0",
            "tracker_password_accepted_total{by=\"remembered\"} 0",
            "tracker_password_refused_total{cause=\"banned\"} 1",
            "tracker_password_refused_total{cause=\"unavailable\"} 1",
            "tracker_password_refused_total{cause=\"wrong-password\"} 0",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(Counters::new(&registry).is_err());
    }
}
