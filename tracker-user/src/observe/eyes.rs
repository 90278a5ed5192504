//! The proxy's own eyes: the observer without eBPF. It sees only the connections of this daemon's own proxy, and starts
//! blind at each start, but keeps the same records by the same transitions.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::mpsc;
use tracker_ebpf::abi::{
    Amendment, Counter, HINT_CLOSED, HINT_OPENED, Hint, Settings, TRAFFIC_BOTH, Used, strangers_of,
};
use tracker_ebpf::record::{Closed, Direction, Record};

use super::error::Full;
use super::hints::Hints;
use crate::clock::BootTime;
use crate::types::ClientAddr;

/// As many hints as the kernel's ring has room for.
const QUEUE: usize = 4096;

/// When a client was last there that is not known: so long ago that every timeout has run out since.
const EVER: u64 = (1_u64 << 61).wrapping_neg();

/// So many parts of the map are locked one by one: a walk over a million records holds a thousand of them at a time.
const PARTS: usize = 1_024;

/// The records, kept by the proxy's calls. All calls are cheap, and none waits for anything but another call on the same
/// few clients.
#[derive(Debug)]
pub struct Eyes {
    records: DashMap<ClientAddr, Kept>,
    /// How many records are held, and how many are strangers'; asking the map would lock all of it.
    held: AtomicU32,
    strangers: AtomicU32,
    max_records: u32,
    /// A client without a record was away until its first connection; else nothing is known of what it did before.
    knows_all: bool,
    limit: AtomicU64,
    direction: AtomicU32,
    counters: [AtomicU64; Counter::ALL.len()],
    hints: mpsc::Sender<Hint>,
}

/// A client's record. One of a stranger, who has no session, is kept while there is a connection, of which there are never
/// more than the proxy accepts, and longer only while there are few of them.
#[derive(Debug)]
struct Kept {
    record: Record,
    /// The client has a session.
    held: bool,
}

impl Eyes {
    pub(super) fn new(max_records: u32, settings: Settings) -> (Self, Hints) {
        let (eyes, hints) = Self::kept_for(max_records, settings, false);
        (eyes, Hints::from_queue(hints))
    }

    /// For the connections that come through balancers: whoever has no record was away.
    pub(super) fn of_relayed(max_records: u32, settings: Settings) -> (Self, mpsc::Receiver<Hint>) {
        Self::kept_for(max_records, settings, true)
    }

    fn kept_for(max_records: u32, settings: Settings, knows_all: bool) -> (Self, mpsc::Receiver<Hint>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let eyes = Self {
            records: DashMap::with_shard_amount(PARTS),
            held: AtomicU32::new(0),
            strangers: AtomicU32::new(0),
            max_records,
            knows_all,
            limit: AtomicU64::new(settings.limit),
            direction: AtomicU32::new(settings.direction),
            counters: Default::default(),
            hints: sender,
        };
        (eyes, receiver)
    }

    /// A client's connection was accepted.
    pub fn opened(&self, client: ClientAddr, now: BootTime) {
        let (at, limit) = (now.as_nanos(), self.limit.load(Ordering::Relaxed));
        let first = match self.records.entry(client) {
            Entry::Occupied(mut entry) => entry.get_mut().record.on_open(at, limit),
            Entry::Vacant(entry) => {
                self.strangers.fetch_add(1, Ordering::Relaxed);
                let record = Record::starting(if self.knows_all { EVER } else { at });
                entry.insert(Kept { record, held: false }).record.on_open(at, limit)
            }
        };
        if first {
            self.hint(client, at, HINT_OPENED);
        }
    }

    /// New data moved on one of a client's connections; `ended`: on one that the client has ended.
    pub fn data(&self, client: ClientAddr, direction: Direction, bytes: u64, ended: bool, now: BootTime) {
        let counts =
            self.direction.load(Ordering::Relaxed) == TRAFFIC_BOTH || direction == Direction::Received;
        let limit = self.limit.load(Ordering::Relaxed);
        if let Some(mut kept) = self.records.get_mut(&client) {
            let record = &mut kept.record;
            record.on_data(now.as_nanos(), limit, direction, bytes, counts);
            if ended && direction == Direction::Sent {
                record.on_delivered(now.as_nanos(), limit);
            }
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
            Some(mut kept) => work(&mut kept.record),
            None => Closed::WithoutOpen,
        };
        self.make_room(client);
        match outcome {
            Closed::OthersOpen => {}
            Closed::Last => self.hint(client, now.as_nanos(), HINT_CLOSED),
            Closed::WithoutOpen => self.count(Counter::CloseWithoutOpen),
        }
    }

    pub(super) fn record(&self, client: ClientAddr) -> Option<Record> {
        self.records.get(&client).map(|kept| kept.record)
    }

    pub(super) fn records(&self) -> Vec<(ClientAddr, Record)> {
        self.records.iter().map(|entry| (*entry.key(), entry.value().record)).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.load(Ordering::Relaxed) == 0 && self.strangers.load(Ordering::Relaxed) == 0
    }

    /// How many parts the map of the records has.
    pub(super) const fn parts(&self) -> usize {
        PARTS
    }

    /// Calls `each` with the records in one part, which is locked meanwhile. A record stays in its part.
    pub(super) fn each_of_part(&self, part: usize, mut each: impl FnMut(ClientAddr, &Record)) {
        let Some(part) = self.records.shards().get(part) else { return };
        let part = part.read();
        #[expect(unsafe_code, reason = "dashmap has no safe way to look at one of its parts alone")]
        // SAFETY: the lock is held until the last of them has been told: nothing is moved or freed.
        let entries = unsafe { part.iter().map(|entry| entry.as_ref()) };
        entries.for_each(|(client, kept)| each(*client, &kept.get().record));
    }

    pub(super) fn used(&self) -> Used {
        let count = |count: &AtomicU32| count.load(Ordering::Relaxed).into();
        Used { held: count(&self.held), strangers: count(&self.strangers), ..Used::default() }
    }

    pub(super) fn held(&self) -> Vec<ClientAddr> {
        self.records.iter().filter(|entry| entry.value().held).map(|entry| *entry.key()).collect()
    }

    /// The client has a session from now on; of a new record nothing is known since `since`.
    pub(super) fn ensure(&self, client: ClientAddr, since: BootTime) -> Result<(), Full> {
        let entry = self.records.entry(client);
        if matches!(&entry, Entry::Occupied(entry) if entry.get().held) {
            return Ok(());
        }
        let room = |held| (held < self.max_records).then_some(held + 1);
        if self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            return Err(Full { max_records: self.max_records });
        }
        match entry {
            Entry::Occupied(mut entry) => {
                entry.get_mut().held = true;
                self.strangers.fetch_sub(1, Ordering::Relaxed);
            }
            Entry::Vacant(entry) => {
                entry.insert(Kept { record: Record::starting(since.as_nanos()), held: true });
            }
        }
        Ok(())
    }

    /// The client, which has a record, has a session from now on. False if it had, or there is no room.
    pub(super) fn hold(&self, client: ClientAddr) -> bool {
        let is_strangers = self.records.get(&client).is_some_and(|kept| !kept.held);
        // Nobody but the caller makes sessions.
        is_strangers && self.ensure(client, BootTime::from_nanos(EVER)).is_ok()
    }

    /// From which length on a gap is latched.
    pub(super) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Sets the counts right, if nothing has changed since whoever asks looked.
    pub(super) fn correct(&self, amendment: &Amendment) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let Amendment { client, changes, open, half, at, .. } = *amendment;
        let Some(mut kept) = self.records.get_mut(&client) else { return false };
        let is_as_seen = kept.record.changes == changes;
        if is_as_seen {
            kept.record.correct(open, half, at, limit);
        }
        is_as_seen
    }

    /// The client has no session any more.
    pub(super) fn release(&self, client: ClientAddr) {
        if let Some(mut kept) = self.records.get_mut(&client)
            && std::mem::take(&mut kept.held)
        {
            self.held.fetch_sub(1, Ordering::Relaxed);
            self.strangers.fetch_add(1, Ordering::Relaxed);
        }
        self.make_room(client);
    }

    pub(super) fn forget(&self, client: ClientAddr) {
        let idle = |_: &ClientAddr, kept: &Kept| !kept.held && kept.record.connections() == 0;
        if self.records.remove_if(&client, idle).is_some() {
            self.strangers.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Forgets the client if it is one of too many strangers, and has left.
    fn make_room(&self, client: ClientAddr) {
        if self.strangers.load(Ordering::Relaxed) > strangers_of(self.max_records) {
            self.forget(client);
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
    const C: ClientAddr = ClientAddr::from_v4([192, 0, 2, 3]);

    fn at(millis: u64) -> BootTime {
        BootTime::from_nanos(millis * 1_000_000)
    }

    fn settings(millis: u64, direction: u32) -> Settings {
        Settings { limit: millis * 1_000_000, direction, ..Settings::default() }
    }

    #[tokio::test]
    async fn the_first_and_the_last_connection_are_hinted() {
        let (eyes, mut hints) = Eyes::new(10, settings(100, TRAFFIC_BOTH));
        eyes.opened(A, at(1));
        eyes.opened(A, at(2));
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
        eyes.opened(A, at(1));
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
        eyes.opened(A, at(1));
        eyes.data(A, Direction::Sent, 7, false, at(500));
        assert_eq!(eyes.record(A).unwrap().traffic_at, at(1).as_nanos());
        eyes.apply(settings(100, TRAFFIC_BOTH));
        eyes.data(A, Direction::Sent, 7, false, at(600));
        let record = eyes.record(A).unwrap();
        assert_eq!((record.traffic_at, record.traffic_gap_end), (at(600).as_nanos(), at(600).as_nanos()));
        assert_eq!((record.rx, record.tx), (0, 14));
        eyes.closed(A, false, at(700));
        eyes.opened(A, at(800));
        assert_eq!(eyes.record(A).unwrap().closed_gap_end, at(800).as_nanos());
    }

    #[test]
    fn the_room_is_bounded_and_strangers_take_none_of_it() {
        let (eyes, _hints) = Eyes::new(1, Settings::default());
        let used = || (eyes.used().held, eyes.used().strangers);
        // Strangers are counted while they are there, and not kept when they are too many.
        for client in [A, B, C] {
            eyes.opened(client, at(1));
        }
        assert_eq!(used(), (0, 3));
        eyes.closed(C, false, at(2));
        eyes.closed(B, false, at(2));
        assert_eq!((eyes.record(B), eyes.record(C), used()), (None, None, (0, 1)));
        // Whoever logs in has all of the room.
        eyes.ensure(A, at(3)).unwrap();
        eyes.ensure(A, at(3)).unwrap();
        assert_eq!((eyes.record(A).unwrap().open, used()), (1, (1, 0)));
        assert_eq!(eyes.ensure(B, at(3)), Err(Full { max_records: 1 }));
        eyes.closed(A, false, at(4));
        eyes.forget(A);
        assert!(eyes.record(A).is_some(), "a client with a session is not forgotten");
        eyes.release(A);
        assert_eq!((eyes.record(A).is_some(), used()), (true, (0, 1)));
        eyes.forget(A);
        assert_eq!((eyes.record(A), used()), (None, (0, 0)));
        eyes.ensure(B, at(5)).unwrap();
        let record = eyes.record(B).unwrap();
        assert_eq!((record.open, record.closes_at()), (0, Some(at(5).as_nanos())));
        eyes.closed(B, false, at(6));
        assert_eq!(eyes.counters()[Counter::CloseWithoutOpen as usize], 1);
    }
}
