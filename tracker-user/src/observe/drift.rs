//! Whether the records and the kernel's list of sockets agree, and what to do where they do not.
//!
//! The two are never read in the same instant, and a connection that is opening or closing in between makes them differ
//! for a moment. So one look only makes a suspicion; it becomes drift if the next look finds the same difference, and the
//! record has not seen a connection open or close since. The kernel checks that once more when it corrects the count.

use std::collections::{HashMap, HashSet};

use tracker_ebpf::abi::{AMEND_OPEN, Amendment};
use tracker_ebpf::record::Record;

use super::socket_dump::Count;
use crate::clock::BootTime;
use crate::types::ClientAddr;

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
    /// The clients that were listed and of whose connections the records knew nothing; whether that is explained.
    unknown: HashMap<ClientAddr, bool>,
    /// How many connections the kernel side had not counted, and said so.
    uncounted: u64,
}

/// Clients that are listed, of whose connections the records know nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Unknown {
    /// How many they are.
    pub(super) clients: usize,
    /// Those of them for whom the kernel side has not said that there was no room.
    pub(super) unexplained: usize,
    /// And those of these that are no matter of a moment: nobody sees them.
    pub(super) certain: usize,
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
                    let (client, kind) = (*client, AMEND_OPEN);
                    let counts = Amendment { client, kind, changes, open, half, at, ..Amendment::default() };
                    certain.push(counts);
                }
                _ => {
                    suspicions.insert(*client, Suspicion { changes, count, since: now });
                }
            }
        }
        self.suspicions = suspicions;
        certain
    }

    /// Which clients are listed without the records knowing of their connections. `certain` is what [`Self::look`] found,
    /// `uncounted` how many connections the kernel side says it did not count, in all: when that has risen since the last
    /// look, whoever is found unknown is explained by it, for as long as they are listed. It must be read last.
    pub(super) fn unknown(
        &mut self,
        records: &[(ClientAddr, Record)],
        sockets: &HashMap<ClientAddr, Count>,
        certain: &[Amendment],
        uncounted: u64,
    ) -> Unknown {
        let has_missed = std::mem::replace(&mut self.uncounted, uncounted) != uncounted;
        // True: somebody knows of a connection; false: the record says that there is none.
        let records: HashMap<ClientAddr, bool> =
            records.iter().map(|(client, record)| (*client, record.connections() > 0)).collect();
        let certain: HashSet<ClientAddr> = certain.iter().map(|what| what.client).collect();
        let (mut now, mut found) = (HashMap::new(), Unknown::default());
        for client in sockets.keys() {
            let record = records.get(client);
            if record == Some(&true) {
                continue;
            }
            let before = self.unknown.get(client);
            let is_explained = has_missed || before == Some(&true);
            found.clients += 1;
            if !is_explained {
                found.unexplained += 1;
                let is_certain = if record.is_some() { certain.contains(client) } else { before.is_some() };
                found.certain += usize::from(is_certain);
            }
            now.insert(*client, is_explained);
        }
        self.unknown = now;
        found
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
        let expected = Amendment {
            client: A,
            kind: AMEND_OPEN,
            changes: 3,
            open: 2,
            at: at(3).as_nanos(),
            ..Amendment::default()
        };
        assert_eq!(looks.look(&record(1, 3), &open(2), at(4)), vec![expected]);
        assert_eq!(looks.suspected(), 0);
    }

    #[test]
    fn an_end_that_was_missed_is_a_difference() {
        let mut looks = Looks::default();
        let ended = HashMap::from([(A, Count { open: 0, half: 1 })]);
        assert_eq!(looks.look(&record(1, 1), &ended, at(1)), vec![]);
        let expected = Amendment {
            client: A,
            kind: AMEND_OPEN,
            changes: 1,
            half: 1,
            at: at(1).as_nanos(),
            ..Amendment::default()
        };
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

    /// What a flood leaves behind is listed for as long as it stays: it is no proof of blindness at any look.
    #[test]
    fn what_found_no_room_is_explained_for_as_long_as_it_stays() {
        let strangers = |count: u8| -> HashMap<ClientAddr, Count> {
            let stranger = |n| (ClientAddr::from_v4([10, 0, 0, n]), Count { open: 1, half: 0 });
            (0..count).map(stranger).collect()
        };
        let mut looks = Looks::default();
        for _ in 0..5 {
            let found = looks.unknown(&[], &strangers(20), &[], 20);
            assert_eq!(found, Unknown { clients: 20, ..Unknown::default() });
        }
        // One that is listed a moment before it is counted as missed.
        assert_eq!(looks.unknown(&[], &strangers(21), &[], 20).unexplained, 1);
        assert_eq!(looks.unknown(&[], &strangers(21), &[], 21).unexplained, 0);
        // And one that really nobody sees.
        let found = looks.unknown(&[], &strangers(22), &[], 21);
        assert_eq!((found.unexplained, found.certain), (1, 0));
        let found = looks.unknown(&[], &strangers(22), &[], 21);
        assert_eq!((found.unexplained, found.certain), (1, 1));
        assert_eq!(looks.unknown(&[], &strangers(0), &[], 21), Unknown::default());
        assert_eq!(looks.unknown(&[], &strangers(1), &[], 21).unexplained, 1, "forgotten when they had left");
    }

    #[test]
    fn a_record_without_connections_is_unknown_only_when_that_is_certain() {
        let mut looks = Looks::default();
        for (second, certain) in [(1, 0), (2, 1)] {
            let amendments = looks.look(&record(0, 4), &open(1), at(second));
            let found = looks.unknown(&record(0, 4), &open(1), &amendments, 0);
            assert_eq!(found, Unknown { clients: 1, unexplained: 1, certain });
        }
        assert_eq!(looks.unknown(&record(1, 5), &open(1), &[], 0), Unknown::default());
    }
}
