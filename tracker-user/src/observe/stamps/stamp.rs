//! When payload moved on the connections of one client, and what of it the client's record has been told.

use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};

use crate::types::ClientAddr;

/// See the module. Its methods are called by several threads at once.
#[derive(Debug)]
pub(super) struct Stamp {
    client: ClientAddr,
    /// How many connections these are; changed while the map's entry is locked.
    connections: AtomicUsize,
    /// When payload last moved, unless that is just being told.
    moved_at: AtomicU64,
    /// Of what the record knows.
    told_at: AtomicU64,
    /// Somebody will tell what is kept.
    is_listed: AtomicBool,
}

impl Stamp {
    /// Of a client without a connection.
    pub(super) fn of(client: ClientAddr) -> Self {
        Self {
            client,
            connections: AtomicUsize::new(0),
            moved_at: AtomicU64::new(0),
            told_at: AtomicU64::new(0),
            is_listed: AtomicBool::new(false),
        }
    }

    pub(super) const fn client(&self) -> ClientAddr {
        self.client
    }

    /// There is one more connection.
    pub(super) fn one_more(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    /// One connection is gone. Whether there is none left.
    pub(super) fn was_the_last(&self) -> bool {
        self.connections.fetch_sub(1, Relaxed) == 1
    }

    /// Payload moves now. `tell` tells the record when it moved last before, as far as that may not know, and that it moves
    /// now; that is called if the record was not told within one `rhythm`. True if the stamp is to be listed.
    pub(super) fn moved<E>(
        &self,
        now: u64,
        rhythm: u64,
        tell: impl FnOnce(u64, u64) -> Result<(), E>,
    ) -> bool {
        if now.wrapping_sub(self.told_at.load(Acquire)).cast_signed() < rhythm.cast_signed() {
            return self.keep(now);
        }
        let before = match self.moved_at.load(Acquire) {
            0 => now,
            kept => kept.min(now),
        };
        if tell(before, now).is_err() {
            // Whoever tells what is kept will say so.
            return self.keep(now);
        }
        // In this order; see below.
        self.told_at.fetch_max(now, Release);
        self.moved_at.fetch_max(now, Release);
        false
    }

    fn keep(&self, now: u64) -> bool {
        self.moved_at.fetch_max(now, SeqCst);
        !self.is_listed.load(SeqCst) && !self.is_listed.swap(true, SeqCst)
    }

    /// What is kept from here on lists it anew.
    pub(super) fn is_listed_no_more(&self) {
        self.is_listed.store(false, SeqCst);
    }

    /// Has `tell` tell the record what is kept, if anything is. What fails stays kept.
    pub(super) fn tell_kept<E>(&self, tell: impl FnOnce(u64) -> Result<(), E>) -> Result<(), E> {
        // In this order: what is told by whoever moved it never looks as if it were only kept.
        let moved = self.moved_at.load(SeqCst);
        if moved > self.told_at.load(Acquire) {
            tell(moved)?;
            self.told_at.fetch_max(moved, Release);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;
    use tracker_ebpf::record::Record;

    use super::*;

    const A: ClientAddr = ClientAddr::from_v4([192, 0, 2, 1]);
    const RHYTHM: u64 = 100;
    const LIMIT: u64 = 64 * RHYTHM;
    /// So long after something was kept first it is told at the latest.
    const LATEST: u64 = RHYTHM + 10;

    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// Payload under TLS.
        Payload,
        /// Data on another connection of the client's, which the kernel sees by itself.
        Plain,
        /// Somebody decides.
        Look,
        /// The daemon is killed, and another one is there at once.
        Crash,
    }

    /// The record, the stamp, and when what is kept is to be told.
    struct Gateway {
        record: Record,
        stamp: Stamp,
        listed: Option<u64>,
    }

    impl Gateway {
        fn new(now: u64) -> Self {
            Self { record: Record::starting(now), stamp: Stamp::of(A), listed: None }
        }

        fn payload(&mut self, now: u64) {
            let record = &mut self.record;
            let tell = |before, at| {
                record.on_traffic(before, LIMIT);
                record.on_traffic(at, LIMIT);
                Ok::<(), Infallible>(())
            };
            if self.stamp.moved(now, RHYTHM, tell) {
                assert_eq!(self.listed.replace(now), None, "it is listed once");
            }
        }

        fn look(&mut self) {
            let record = &mut self.record;
            let Ok(()) = self.stamp.tell_kept(|at| {
                record.on_traffic(at, LIMIT);
                Ok::<(), Infallible>(())
            });
        }

        /// What the event loop does meanwhile.
        fn passes(&mut self, until: u64) {
            if self.listed.is_some_and(|since| since + LATEST <= until) {
                self.listed = None;
                self.stamp.is_listed_no_more();
                self.look();
            }
        }
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            8 => Just(Event::Payload),
            3 => Just(Event::Plain),
            3 => Just(Event::Look),
            1 => Just(Event::Crash),
        ]
    }

    fn steps() -> impl Strategy<Value = Vec<(u64, Event)>> {
        let step = prop_oneof![
            4 => 0..RHYTHM,
            2 => RHYTHM - 2..RHYTHM + 2,
            2 => LIMIT - RHYTHM..LIMIT + RHYTHM,
            1 => Just(LIMIT),
            1 => 0..3 * LIMIT,
        ];
        prop::collection::vec((step, event()), 0..80)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Whoever looks finds the record as if the kernel had seen all of it, in order; only what moved last before a crash
        /// is lost, and of that no more than the rhythm, and the loop's delay.
        #[test]
        fn whoever_looks_finds_what_an_awake_kernel_would_have_recorded(steps in steps()) {
            let mut now = 1_000_000;
            let (mut gateway, mut model) = (Gateway::new(now), Record::starting(now));
            for (step, event) in steps {
                now += step;
                gateway.passes(now);
                match event {
                    Event::Payload => {
                        gateway.payload(now);
                        model.on_traffic(now, LIMIT);
                    }
                    Event::Plain => {
                        gateway.record.on_traffic(now, LIMIT);
                        model.on_traffic(now, LIMIT);
                    }
                    Event::Look => {
                        gateway.look();
                        prop_assert_eq!(gateway.record, model);
                    }
                    Event::Crash => {
                        let lost = model.traffic_at - gateway.record.traffic_at;
                        prop_assert!(lost <= LATEST, "{lost}");
                        gateway = Gateway { record: gateway.record, ..Gateway::new(now) };
                        model = gateway.record;
                    }
                }
                prop_assert!(gateway.record.traffic_at <= model.traffic_at, "never ahead of the truth");
            }
            gateway.look();
            prop_assert_eq!(gateway.record, model);
        }

        /// However it is told, in whatever order the threads get there: the record has heard of the last, the kernel is asked
        /// no more than once in a rhythm and once for what was kept, and nothing stays behind unlisted.
        #[test]
        fn the_kernel_is_asked_no_more_than_twice_in_a_rhythm(steps in prop::collection::vec(0..30_u64, 1..200)) {
            let (stamp, mut now, mut told) = (Stamp::of(A), 1_000, Vec::new());
            let begun = now;
            for step in steps {
                now += step;
                let is_listed = stamp.moved(now, RHYTHM, |_, at| {
                    told.push(at);
                    Ok::<(), Infallible>(())
                });
                if is_listed {
                    stamp.is_listed_no_more();
                }
            }
            prop_assert!(told.len() as u64 <= 1 + (now - begun) / RHYTHM);
            let Ok(()) = stamp.tell_kept(|at| {
                told.push(at);
                Ok::<(), Infallible>(())
            });
            prop_assert_eq!(told.last(), Some(&now));
        }
    }

    #[test]
    fn what_could_not_be_told_stays_kept() {
        let stamp = Stamp::of(A);
        assert!(stamp.moved(500, RHYTHM, |_, _| Err(())), "somebody has to tell it later");
        assert_eq!(stamp.tell_kept(|_| Err(())), Err(()));
        let mut told = None;
        let outcome = stamp.tell_kept(|at| {
            told = Some(at);
            Ok::<(), ()>(())
        });
        assert_eq!(outcome, Ok(()));
        assert_eq!(told, Some(500));
        assert_eq!(stamp.tell_kept(|_| Err(())), Ok(()), "nothing is left");
    }
}
