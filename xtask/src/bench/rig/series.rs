//! Rounds: every subject once in each, one after the other, because the machine's speed drifts.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use lab::wait::{Stopwatch, silence};

use super::gateways::Metrics;
use super::load::Work;
use super::usage::{Instructions, Moment, Usage};
use super::{Rig, Subject};

/// How long to measure.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Rounds {
    /// Rounds; each measures everything once.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Seconds for each measurement.
    #[arg(long, default_value_t = 4.0)]
    pub(crate) seconds: f64,
}

/// What one measurement found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// What the load did.
    pub(crate) work: Work,
    /// What the machine did meanwhile.
    pub(crate) usage: Usage,
    /// Instructions of the proxy, user and kernel; 0 where they cannot be counted.
    pub(crate) instructions: (f64, f64),
    /// Resident memory of the proxy afterwards, in bytes.
    pub(crate) resident: u64,
}

impl Sample {
    /// Units a second.
    pub(crate) fn rate(&self) -> f64 {
        self.work.units / self.work.seconds
    }

    /// Seconds of the proxy's CPU time per unit.
    pub(crate) fn cpu(&self) -> f64 {
        (self.usage.user + self.usage.system) / self.work.units
    }

    /// The load had nothing left while the proxy had.
    pub(crate) fn load_was_the_limit(&self) -> bool {
        let idle = |core: super::usage::Core| core.idle / (core.idle + core.busy + core.steal).max(1e-9);
        idle(self.usage.load_core) < 0.05 && idle(self.usage.proxy_core) > 0.05
    }

    /// Share of the time that somebody else took of the proxy's core: other programs, or the host.
    pub(crate) fn disturbed(&self) -> f64 {
        let core = self.usage.proxy_core;
        (self.usage.others() + core.steal) / (core.busy + core.idle + core.steal).max(1e-9)
    }
}

/// All rounds of one subject.
#[derive(Debug, Default)]
pub(crate) struct Series {
    /// The subject's name.
    pub(crate) name: String,
    /// What was asked of it, if there is more than one thing.
    pub(crate) what: String,
    /// Version and configuration.
    pub(crate) note: String,
    /// In the order of the rounds.
    pub(crate) samples: Vec<Sample>,
}

impl Series {
    /// An empty one.
    pub(crate) fn of(subject: &Subject, what: &str) -> Self {
        let (name, note) = (subject.name.clone(), subject.note.clone());
        Self { name, what: what.to_owned(), note, samples: Vec::new() }
    }

    /// As it is told where several things are asked.
    pub(crate) fn title(&self) -> String {
        if self.what.is_empty() { self.name.clone() } else { format!("{}, {}", self.name, self.what) }
    }

    /// The median of a figure; not a number if there is none.
    pub(crate) fn median(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(figure).collect())
    }

    /// From the smallest to the largest, in parts of the median.
    pub(crate) fn spread(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        let all = || self.samples.iter().map(&figure);
        (all().fold(0.0, f64::max) - all().fold(f64::INFINITY, f64::min)) / self.median(&figure)
    }

    /// This figure in parts of the other's, round by round; the median of that. Both had the same weather.
    pub(crate) fn ratio(&self, other: &Self, figure: impl Fn(&Sample) -> f64) -> f64 {
        let pairs = self.samples.iter().zip(&other.samples);
        median(pairs.map(|(ours, theirs)| figure(ours) / figure(theirs)).collect())
    }
}

/// The middle one; the mean of the two in the middle of an even number. Not a number if there is none.
pub(crate) fn median(mut all: Vec<f64>) -> f64 {
    all.retain(|value| value.is_finite());
    if all.is_empty() {
        return f64::NAN;
    }
    all.sort_by(f64::total_cmp);
    let middle = [all.len().saturating_sub(1) / 2, all.len() / 2];
    middle.iter().filter_map(|at| all.get(*at)).sum::<f64>() / 2.0
}

impl Rig {
    /// Runs `load` and watches what it costs the subject.
    pub(crate) fn measure(&self, subject: &Subject, load: impl FnOnce() -> Result<Work>) -> Result<Sample> {
        let counting = subject.group.as_ref().and_then(|group| Instructions::count(&self.lab.scratch, group));
        let stop = AtomicBool::new(false);
        let metrics = subject.tracker().ok().and_then(|tracker| tracker.metrics(self));
        let before = Moment::now(subject.group.as_ref())?;
        let (work, usage) = std::thread::scope(|scope| -> Result<(Work, Usage)> {
            if let Some(metrics) = &metrics {
                scope.spawn(|| scrape(metrics, &stop));
            }
            let work = load();
            let after = Moment::now(subject.group.as_ref());
            stop.store(true, Relaxed);
            Ok((work?, after?.since(&before)))
        })?;
        let instructions = counting.and_then(Instructions::stop).unwrap_or_default();
        let resident = subject.group.as_ref().map_or(0, |group| group.memory().0);
        Ok(Sample { work, usage, instructions, resident })
    }

    /// Rounds of `load` for each of the series, which belong to `subjects` in the same order.
    pub(crate) fn rounds<Job>(
        &self,
        rounds: usize,
        jobs: &mut [(&Subject, Job, Series)],
        mut load: impl FnMut(&Subject, &mut Job) -> Result<Sample>,
    ) -> Result<()> {
        for round in 1..=rounds {
            let watch = Stopwatch::start();
            for (subject, job, series) in &mut *jobs {
                let sample = load(subject, job)?;
                eprintln!(
                    "    {}: {:.4} units/s, {:.6} s CPU each",
                    series.name,
                    sample.rate(),
                    sample.cpu()
                );
                series.samples.push(sample);
            }
            eprintln!("round {round} of {rounds} in {:.0} s", watch.elapsed().as_secs_f64());
        }
        Ok(())
    }
}

/// Reads the metrics once a second, as Prometheus would, until told to stop.
fn scrape(metrics: &Metrics, stop: &AtomicBool) {
    let mut watch: Option<Stopwatch> = None;
    while !stop.load(Relaxed) {
        if watch.is_none_or(|watch| watch.elapsed() >= Duration::from_secs(1)) {
            // Only the work of answering matters here.
            let _ = metrics.read();
            watch = Some(Stopwatch::start());
        }
        silence(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(vec![f64::NAN, 5.0]), 5.0);
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn ratios_are_taken_within_rounds() {
        let series = |rates: &[f64]| Series {
            samples: rates
                .iter()
                .map(|rate| Sample {
                    work: Work { units: *rate, seconds: 1.0, ..Work::default() },
                    ..Sample::default()
                })
                .collect(),
            ..Series::default()
        };
        // The machine was half as fast in the second round, and the ratio is the same.
        let (ours, theirs) = (series(&[20.0, 10.0, 20.0]), series(&[10.0, 5.0, 10.0]));
        assert_eq!(ours.ratio(&theirs, Sample::rate), 2.0);
    }
}
