//! Distributions, and how they are shown.

use std::time::Duration;

use anyhow::Result;
use lab::Lab;

/// Measured times, sorted.
pub(crate) struct Distribution(Vec<Duration>);

impl Distribution {
    /// The distribution of these.
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// The time that this share of all does not exceed (nearest rank).
    pub(crate) fn at(&self, share: f64) -> Duration {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1).min(self.0.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    /// `n`, minimum, median, p90, p99 and maximum, as cells of a Markdown row.
    pub(crate) fn row(&self) -> String {
        let [min, p50, p90, p99, max] = [0.0, 0.5, 0.9, 0.99, 1.0].map(|share| micros(self.at(share)));
        format!("| {} | {min} | {p50} | {p90} | {p99} | {max} |", self.0.len())
    }
}

/// A histogram of the daemon: cumulative counts by upper bound in seconds.
pub(crate) struct Buckets(Vec<(f64, f64)>);

impl Buckets {
    /// Reads it from the daemon's metrics.
    pub(crate) fn read(lab: &Lab, name: &str) -> Result<Self> {
        let prefix = format!("{name}_bucket{{le=\"");
        let metrics = lab.gateway.metrics()?;
        let lines = metrics.lines().filter_map(|line| line.strip_prefix(&prefix)?.split_once("\"} "));
        let bound = |text: &str| if text == "+Inf" { Some(f64::INFINITY) } else { text.parse().ok() };
        Ok(Self(lines.filter_map(|(le, count)| Some((bound(le)?, count.parse().ok()?))).collect()))
    }

    /// What has come since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self(self.0.iter().zip(&before.0).map(|((le, now), (_, then))| (*le, now - then)).collect())
    }

    /// The bound in seconds below which this share of all lies; infinite if it lies above the last one, not a number if
    /// there is nothing.
    pub(crate) fn at(&self, share: f64) -> f64 {
        let all = self.0.last().map_or(0.0, |(_, count)| *count);
        if all == 0.0 {
            return f64::NAN;
        }
        self.0.iter().find(|(_, count)| *count >= share * all).map_or(f64::INFINITY, |(le, _)| *le)
    }

    /// The bounds below which half, 99 % and all lie, in `unit`, of which `per_second` make a second.
    pub(crate) fn within(&self, unit: &str, per_second: f64) -> String {
        let all = self.0.last().map_or(0.0, |(_, count)| *count);
        if all == 0.0 {
            return "nothing to tell: there was none".to_owned();
        }
        let bound = |share: f64| {
            let found = self.at(share);
            if found.is_finite() { format!("{} {unit}", found * per_second) } else { "more".to_owned() }
        };
        format!(
            "within {} at the median, {} at p99, {} at most ({all} in all)",
            bound(0.5),
            bound(0.99),
            bound(1.0)
        )
    }
}

fn micros(time: Duration) -> String {
    format!("{:.0}", time.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_the_nearest() {
        let d = Distribution::of((1..=100).rev().map(Duration::from_micros).collect());
        assert_eq!([0.0, 0.5, 0.99, 1.0].map(|share| d.at(share).as_micros()), [1, 50, 99, 100]);
        assert_eq!(Distribution::of(Vec::new()).at(0.5), Duration::ZERO);
    }

    #[test]
    fn bounds_are_those_of_the_bucket() {
        let buckets = Buckets(vec![(0.001, 5.0), (0.01, 9.0), (f64::INFINITY, 10.0)]);
        assert_eq!([0.5, 0.9, 1.0].map(|share| buckets.at(share)), [0.001, 0.01, f64::INFINITY]);
        assert!(buckets.since(&buckets).at(0.5).is_nan());
    }
}
