//! What is counted of further factors. No label carries a name or an address.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGauge, Opts};

use super::code::Wrong;

/// What has come of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Right,
    Wrong,
    TooMany,
    Locked,
    NotEnrolled,
    AlreadyEnrolled,
    Unreadable,
    Unable,
}

impl Outcome {
    const ALL: [Self; 8] = [
        Self::Right,
        Self::Wrong,
        Self::TooMany,
        Self::Locked,
        Self::NotEnrolled,
        Self::AlreadyEnrolled,
        Self::Unreadable,
        Self::Unable,
    ];

    pub(super) const fn of<T>(outcome: &Result<T, Wrong>) -> Self {
        match outcome {
            Ok(_) => Self::Right,
            Err(Wrong::Code | Wrong::Passkey | Wrong::PasskeyCounter) => Self::Wrong,
            Err(Wrong::TooMany) => Self::TooMany,
            Err(Wrong::Locked) => Self::Locked,
            Err(Wrong::NotEnrolled) => Self::NotEnrolled,
            Err(Wrong::AlreadyEnrolled) => Self::AlreadyEnrolled,
            Err(Wrong::Unreadable) => Self::Unreadable,
            Err(Wrong::Unable) => Self::Unable,
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Wrong => "wrong",
            Self::TooMany => "too-many",
            Self::Locked => "locked",
            Self::NotEnrolled => "not-enrolled",
            Self::AlreadyEnrolled => "already-enrolled",
            Self::Unreadable => "unreadable",
            Self::Unable => "unable",
        }
    }
}

/// Counters; cheap to clone, all clones are the same ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters(Arc<[AtomicU64; Outcome::ALL.len()]>);

impl Counters {
    pub(super) fn count(&self, outcome: Outcome) {
        if let Some(count) = self.0.get(outcome as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// They, and how many users have set something up and of how many it cannot be read, as `users` says, for who scrapes it.
    pub(super) fn collector(
        &self,
        users: impl Fn() -> (usize, usize) + Send + Sync + 'static,
    ) -> prometheus::Result<FactorCollector> {
        let attempts = Opts::new(
            "tracker_second_factor_attempts_total",
            "Tries to prove a further factor (codes, passkeys, recovery codes), by what has come of them",
        );
        Ok(FactorCollector {
            counters: self.clone(),
            users: Box::new(users),
            attempts: IntCounterVec::new(attempts, &["result"])?,
            enrolled: IntGauge::new("tracker_second_factor_users", "Users who have set up a further factor")?,
            unreadable: IntGauge::new(
                "tracker_second_factor_users_unreadable",
                "Users whose further factors cannot be read, so that they cannot log in where one is asked for",
            )?,
        })
    }
}

/// What Prometheus is told of further factors.
pub struct FactorCollector {
    counters: Counters,
    users: Box<dyn Fn() -> (usize, usize) + Send + Sync>,
    attempts: IntCounterVec,
    enrolled: IntGauge,
    unreadable: IntGauge,
}

impl Collector for FactorCollector {
    fn desc(&self) -> Vec<&Desc> {
        [self.attempts.desc(), self.enrolled.desc(), self.unreadable.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (outcome, count) in Outcome::ALL.into_iter().zip(&*self.counters.0) {
            let shown = self.attempts.with_label_values(&[outcome.label()]);
            // Two that scrape at once add nothing twice.
            shown.inc_by(count.swap(0, Ordering::Relaxed));
        }
        let (enrolled, unreadable) = (self.users)();
        self.enrolled.set(i64::try_from(enrolled).unwrap_or(i64::MAX));
        self.unreadable.set(i64::try_from(unreadable).unwrap_or(i64::MAX));
        [self.attempts.collect(), self.enrolled.collect(), self.unreadable.collect()].concat()
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Registry, TextEncoder};

    use super::*;

    #[test]
    fn every_result_is_there_from_the_start_and_nothing_is_lost_between_two_looks() {
        let (registry, counters) = (Registry::new(), Counters::default());
        registry.register(Box::new(counters.collector(|| (3, 1)).unwrap())).unwrap();
        let text = || TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for outcome in Outcome::ALL {
            let line = format!("tracker_second_factor_attempts_total{{result=\"{}\"}} 0", outcome.label());
            assert!(text().contains(&line), "{line}");
        }
        counters.count(Outcome::of(&Ok(())));
        counters.count(Outcome::of::<()>(&Err(Wrong::Locked)));
        let first = text();
        counters.count(Outcome::of(&Ok(())));
        for (text, right) in [(first, 1), (text(), 2)] {
            for line in [
                &format!("tracker_second_factor_attempts_total{{result=\"right\"}} {right}"),
                "tracker_second_factor_attempts_total{result=\"locked\"} 1",
                "tracker_second_factor_users 3",
                "tracker_second_factor_users_unreadable 1",
            ] {
                assert!(text.contains(line), "{line}: {text}");
            }
        }
    }
}
