//! Whether the records and the kernel's list of sockets agree, and what to do where they do not.
//!
//! The two are never read in the same instant, and a connection that is opening or closing in between makes them differ
//! for a moment. So one look only makes a suspicion; it becomes drift if the next look finds the same difference, and the
//! record has not seen a connection open or close since. The kernel checks that once more when it corrects the count.

use std::collections::HashMap;

use tracker_ebpf::abi::{AMEND_OPEN, Amendment, ClientAddr};
use tracker_ebpf::record::Record;

use super::socket_dump::Count;
use crate::clock::BootTime;

/// A difference seen once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Suspicion {
    changes: u32,
    count: Count,
    since: BootTime,
}

/// What the looks so far have shown.
#[derive(Debug, Default)]
pub(super) struct Looks {
    suspicions: HashMap<ClientAddr, Suspicion>,
    /// How many openings the kernel side had counted as missed.
    misses: u64,
}

impl Looks {
    /// Compares the records, read first, with the sockets, listed after them, and returns what is certain to be wrong.
    ///
    /// A count that is corrected to 0 is taken to have reached it when the difference was first seen: not later than
    /// that, and only one look earlier at most.
    pub(super) fn look(
        &mut self,
        records: &[(ClientAddr, Record)],
        sockets: &HashMap<ClientAddr, Count>,
        now: BootTime,
    ) -> Vec<Amendment> {
        let mut suspicions = HashMap::new();
        let mut certain = Vec::new();
        for (client, record) in records {
            let count = sockets.get(client).copied().unwrap_or_default();
            if count == Count::of(record) {
                continue;
            }
            let changes = record.changes;
            match self.suspicions.get(client) {
                Some(before) if before.changes == changes && before.count == count => {
                    let at = before.since.as_nanos();
                    let Count { open, half } = count;
                    certain.push(Amendment { client: *client, kind: AMEND_OPEN, changes, open, half, at });
                }
                _ => {
                    suspicions.insert(*client, Suspicion { changes, count, since: now });
                }
            }
        }
        self.suspicions = suspicions;
        certain
    }

    /// Whether the kernel side knows of openings that it has missed since the last look, of `misses` in all: then a record
    /// that is wrong is no surprise.
    pub(super) fn explains(&mut self, misses: u64) -> bool {
        std::mem::replace(&mut self.misses, misses) != misses
    }

    /// How many differences were seen once and are not certain yet.
    pub(super) fn suspected(&self) -> usize {
        self.suspicions.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ClientAddr = ClientAddr::from_v4([192, 0, 2, 1]);

    fn record(open: u32, changes: u32) -> Vec<(ClientAddr, Record)> {
        vec![(A, Record { open, changes, ..Record::starting(1) })]
    }

    fn open(open: u32) -> HashMap<ClientAddr, Count> {
        HashMap::from([(A, Count { open, half: 0 })])
    }

    fn at(seconds: u64) -> BootTime {
        BootTime::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn agreement_is_never_amended() {
        let mut looks = Looks::default();
        for second in 0..3 {
            assert_eq!(looks.look(&record(2, 5), &open(2), at(second)), vec![]);
            assert_eq!(looks.suspected(), 0);
        }
    }

    #[test]
    fn a_difference_must_be_seen_twice_without_a_change() {
        let mut looks = Looks::default();
        let none = HashMap::new();
        assert_eq!(looks.look(&record(1, 1), &none, at(1)), vec![]);
        // The record moved: that is another difference, seen for the first time.
        assert_eq!(looks.look(&record(1, 3), &none, at(2)), vec![]);
        assert_eq!(looks.suspected(), 1);
        // So is another number of sockets.
        assert_eq!(looks.look(&record(1, 3), &open(2), at(3)), vec![]);
        let expected =
            Amendment { client: A, kind: AMEND_OPEN, changes: 3, open: 2, half: 0, at: at(3).as_nanos() };
        assert_eq!(looks.look(&record(1, 3), &open(2), at(4)), vec![expected]);
        assert_eq!(looks.suspected(), 0);
    }

    #[test]
    fn an_end_that_was_missed_is_a_difference() {
        let mut looks = Looks::default();
        let ended = HashMap::from([(A, Count { open: 0, half: 1 })]);
        assert_eq!(looks.look(&record(1, 1), &ended, at(1)), vec![]);
        let expected =
            Amendment { client: A, kind: AMEND_OPEN, changes: 1, open: 0, half: 1, at: at(1).as_nanos() };
        assert_eq!(looks.look(&record(1, 1), &ended, at(2)), vec![expected]);
    }

    #[test]
    fn a_difference_that_goes_away_is_forgotten() {
        let mut looks = Looks::default();
        let none = HashMap::new();
        assert_eq!(looks.look(&record(1, 1), &none, at(1)), vec![]);
        assert_eq!(looks.look(&record(0, 2), &none, at(2)), vec![]);
        assert_eq!(looks.look(&record(1, 1), &none, at(3)), vec![]);
    }
}
