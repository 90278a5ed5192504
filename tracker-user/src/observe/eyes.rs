//! The proxy's own eyes: the observer without eBPF. It sees only the connections of this daemon's own proxy, and starts
//! blind at each start, but keeps the same records by the same transitions.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::mpsc;
use tracker_ebpf::abi::{ClientAddr, Counter, HINT_CLOSED, HINT_OPENED, Hint, Settings, TRAFFIC_BOTH};
use tracker_ebpf::record::{Closed, Direction, Record};

use super::error::Full;
use super::hints::Hints;
use crate::clock::BootTime;

/// As many hints as the kernel's ring has room for.
const QUEUE: usize = 4096;

/// The records, kept by the proxy's calls. All calls are cheap, and none waits for anything but another call on the same
/// few clients.
#[derive(Debug)]
pub struct Eyes {
    records: DashMap<ClientAddr, Record>,
    /// The number of records; asking the map for its length would lock all of it.
    used: AtomicU32,
    max_records: u32,
    limit: AtomicU64,
    direction: AtomicU32,
    counters: [AtomicU64; Counter::ALL.len()],
    hints: mpsc::Sender<Hint>,
}

impl Eyes {
    pub(super) fn new(max_records: u32, settings: Settings) -> (Self, Hints) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let eyes = Self {
            records: DashMap::new(),
            used: AtomicU32::new(0),
            max_records,
            limit: AtomicU64::new(settings.limit),
            direction: AtomicU32::new(settings.direction),
            counters: Default::default(),
            hints: sender,
        };
        (eyes, Hints::from_queue(receiver))
    }

    /// A client's connection was accepted.
    ///
    /// # Errors
    /// If there is no room for another client; the connection is then not tracked, and must not be told closed.
    pub fn opened(&self, client: ClientAddr, now: BootTime) -> Result<(), Full> {
        let (at, limit) = (now.as_nanos(), self.limit.load(Ordering::Relaxed));
        let first = self.with_record(client, now, |record| record.on_open(at, limit))?;
        if first {
            self.hint(client, at, HINT_OPENED);
        }
        Ok(())
    }

    /// New data moved on one of a client's connections; `ended`: on one that the client has ended.
    pub fn data(&self, client: ClientAddr, direction: Direction, bytes: u64, ended: bool, now: BootTime) {
        let counts =
            self.direction.load(Ordering::Relaxed) == TRAFFIC_BOTH || direction == Direction::Received;
        let limit = self.limit.load(Ordering::Relaxed);
        match self.records.get_mut(&client) {
            Some(mut record) => {
                record.on_data(now.as_nanos(), limit, direction, bytes, counts);
                if ended && direction == Direction::Sent {
                    record.on_delivered(now.as_nanos(), limit);
                }
            }
            None => self.count(Counter::DataWithoutRecord),
        }
    }

    /// A client has ended its side of a connection.
    pub fn ended(&self, client: ClientAddr, now: BootTime) {
        self.with_known(client, now, |record| record.on_end(now.as_nanos()));
    }

    /// One of a client's connections was closed; `ended`: one that the client had ended.
    pub fn closed(&self, client: ClientAddr, ended: bool, now: BootTime) {
        self.with_known(client, now, |record| record.on_close(now.as_nanos(), ended));
    }

    fn with_known(&self, client: ClientAddr, now: BootTime, work: impl FnOnce(&mut Record) -> Closed) {
        let outcome = match self.records.get_mut(&client) {
            Some(mut record) => work(&mut record),
            None => Closed::WithoutOpen,
        };
        match outcome {
            Closed::OthersOpen => {}
            Closed::Last => self.hint(client, now.as_nanos(), HINT_CLOSED),
            Closed::WithoutOpen => self.count(Counter::CloseWithoutOpen),
        }
    }

    pub(super) fn record(&self, client: ClientAddr) -> Option<Record> {
        self.records.get(&client).map(|record| *record)
    }

    pub(super) fn records(&self) -> Vec<(ClientAddr, Record)> {
        self.records.iter().map(|entry| (*entry.key(), *entry.value())).collect()
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed) as usize
    }

    pub(super) fn ensure(&self, client: ClientAddr, now: BootTime) -> Result<(), Full> {
        self.with_record(client, now, |_| ())
    }

    pub(super) fn forget(&self, client: ClientAddr) {
        if self.records.remove_if(&client, |_, record| record.connections() == 0).is_some() {
            self.used.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(super) fn apply(&self, settings: Settings) {
        self.limit.store(settings.limit, Ordering::Relaxed);
        self.direction.store(settings.direction, Ordering::Relaxed);
    }

    pub(super) fn counters(&self) -> [u64; Counter::ALL.len()] {
        std::array::from_fn(|index| {
            self.counters.get(index).map_or(0, |counter| counter.load(Ordering::Relaxed))
        })
    }

    fn with_record<T>(
        &self,
        client: ClientAddr,
        now: BootTime,
        work: impl FnOnce(&mut Record) -> T,
    ) -> Result<T, Full> {
        match self.records.entry(client) {
            Entry::Occupied(mut entry) => Ok(work(entry.get_mut())),
            Entry::Vacant(entry) => {
                let room = |used| (used < self.max_records).then_some(used + 1);
                if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
                    self.count(Counter::RecordMapFull);
                    return Err(Full { max_records: self.max_records });
                }
                Ok(work(&mut entry.insert(Record::starting(now.as_nanos()))))
            }
        }
    }

    fn count(&self, what: Counter) {
        if let Some(counter) = self.counters.get(what as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn hint(&self, client: ClientAddr, at: u64, kind: u32) {
        if self.hints.try_send(Hint { client, at, kind, amended: 0 }).is_err() {
            self.count(Counter::HintDropped);
        }
    }
}

#[cfg(test)]
mod tests {
    use tracker_ebpf::record::GRACE;

    use super::*;

    const A: ClientAddr = ClientAddr::from_v4([192, 0, 2, 1]);
    const B: ClientAddr = ClientAddr::from_v4([192, 0, 2, 2]);

    fn at(millis: u64) -> BootTime {
        BootTime::from_nanos(millis * 1_000_000)
    }

    fn settings(millis: u64, direction: u32) -> Settings {
        Settings { limit: millis * 1_000_000, direction, ..Settings::default() }
    }

    #[tokio::test]
    async fn the_first_and_the_last_connection_are_hinted() {
        let (eyes, mut hints) = Eyes::new(10, settings(100, TRAFFIC_BOTH));
        eyes.opened(A, at(1)).unwrap();
        eyes.opened(A, at(2)).unwrap();
        eyes.closed(A, false, at(3));
        eyes.closed(A, false, at(4));
        let (first, last) = (hints.next().await, hints.next().await);
        assert_eq!((first.client, first.kind, first.at), (A, HINT_OPENED, at(1).as_nanos()));
        assert_eq!((last.client, last.kind, last.at), (A, HINT_CLOSED, at(4).as_nanos()));
        let record = eyes.record(A).unwrap();
        assert_eq!((record.open, record.closed_at), (0, at(4).as_nanos()));
    }

    #[tokio::test]
    async fn what_its_client_has_ended_holds_while_something_is_delivered() {
        let (eyes, mut hints) = Eyes::new(10, settings(100, TRAFFIC_BOTH));
        let grace = GRACE / 1_000_000;
        eyes.opened(A, at(1)).unwrap();
        eyes.ended(A, at(2));
        assert_eq!(hints.next().await.kind, HINT_OPENED);
        assert_eq!(hints.next().await.kind, HINT_CLOSED);
        eyes.data(A, Direction::Sent, 7, true, at(1_000));
        let record = eyes.record(A).unwrap();
        assert_eq!((record.open, record.half, record.left_at), (0, 1, at(2).as_nanos()));
        assert_eq!(record.closes_at(), Some(at(1_000 + grace).as_nanos()));
        eyes.data(A, Direction::Sent, 7, true, at(1_200 + grace));
        let record = eyes.record(A).unwrap();
        assert_eq!(record.closed_gap_start, at(1_000 + grace).as_nanos());
        eyes.closed(A, true, at(1_300 + grace));
        assert_eq!(eyes.record(A).unwrap().closes_at(), Some(at(1_300 + grace).as_nanos()));
        assert_eq!(hints.next().await.kind, HINT_CLOSED);
    }

    #[test]
    fn gaps_are_latched_by_the_rules_of_the_moment() {
        let (eyes, _hints) = Eyes::new(10, settings(100, tracker_ebpf::abi::TRAFFIC_CLIENT));
        eyes.opened(A, at(1)).unwrap();
        eyes.data(A, Direction::Sent, 7, false, at(500));
        assert_eq!(eyes.record(A).unwrap().traffic_at, at(1).as_nanos());
        eyes.apply(settings(100, TRAFFIC_BOTH));
        eyes.data(A, Direction::Sent, 7, false, at(600));
        let record = eyes.record(A).unwrap();
        assert_eq!((record.traffic_at, record.traffic_gap_end), (at(600).as_nanos(), at(600).as_nanos()));
        assert_eq!((record.rx, record.tx), (0, 14));
        eyes.closed(A, false, at(700));
        eyes.opened(A, at(800)).unwrap();
        assert_eq!(eyes.record(A).unwrap().closed_gap_end, at(800).as_nanos());
    }

    #[test]
    fn the_room_is_bounded_and_given_back() {
        let (eyes, _hints) = Eyes::new(1, Settings::default());
        eyes.opened(A, at(1)).unwrap();
        assert_eq!(eyes.opened(B, at(1)), Err(Full { max_records: 1 }));
        assert_eq!(eyes.ensure(B, at(1)), Err(Full { max_records: 1 }));
        assert_eq!(eyes.counters()[Counter::RecordMapFull as usize], 2);
        eyes.forget(A);
        assert!(eyes.record(A).is_some(), "a client with an open connection is not forgotten");
        eyes.closed(A, false, at(2));
        eyes.forget(A);
        assert_eq!(eyes.record(A), None);
        eyes.ensure(B, at(3)).unwrap();
        eyes.closed(B, false, at(4));
        eyes.data(A, Direction::Received, 1, false, at(4));
        let counters = eyes.counters();
        assert_eq!(counters[Counter::CloseWithoutOpen as usize], 1);
        assert_eq!(counters[Counter::DataWithoutRecord as usize], 1);
    }
}
