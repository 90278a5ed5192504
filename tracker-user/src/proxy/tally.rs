//! What goes wrong, counted by its kind: how often one and the same is logged, and for how long operators are told.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::{BootTime, boot_now};

/// How often one and the same is logged.
const LOG_EVERY: Duration = Duration::from_secs(60);
/// How long operators are told that it happened.
const TOLD_FOR: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Debug)]
pub(super) struct Tally<K>(BTreeMap<K, Counted>);

#[derive(Debug, Default)]
struct Counted {
    count: u64,
    last: BootTime,
    logged: Option<BootTime>,
}

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Copy + Ord> Tally<K> {
    /// It has happened. How often so far, if that is to be logged now.
    pub(super) fn note(&mut self, kind: K) -> Option<u64> {
        let now = boot_now();
        let known = self.0.entry(kind).or_default();
        known.count += 1;
        known.last = now;
        if known.logged.is_some_and(|logged| now.since(logged) < LOG_EVERY) {
            return None;
        }
        known.logged = Some(now);
        Some(known.count)
    }

    /// What has happened a short time ago, and how often in all.
    pub(super) fn recent(&self) -> impl Iterator<Item = (K, u64)> {
        let now = boot_now();
        let recent = self.0.iter().filter(move |(_, counted)| now.since(counted.last) < TOLD_FOR);
        recent.map(|(kind, counted)| (*kind, counted.count))
    }
}
