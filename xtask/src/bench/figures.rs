//! Distributions, and how they are shown.

use std::time::Duration;

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
}
