//! Connections whose marks keep to themselves what moves, against a plain model that remembers everything: the record may
//! be behind by [`TELL_EVERY`], must never be ahead, misses no gap, and is exact once all is closed.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

use proptest::prelude::*;
use tracker_ebpf::abi::ClientAddr;
use tracker_ebpf::mark::{Mark, Moved, TELL_AT_LAST, TELL_EVERY};
use tracker_ebpf::record::{Direction, Record};

/// A connection as its kernel sees it.
struct Connection {
    mark: Mark,
    /// What comes next.
    expected: u32,
    ended: bool,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Open,
    /// Data for the gateway; the socket may refuse it all the same (no memory, a bad time stamp).
    Received {
        which: usize,
        bytes: u32,
        accepted: bool,
    },
    Sent {
        which: usize,
        bytes: u32,
    },
    /// The client's FIN.
    Ended {
        which: usize,
    },
    Close {
        which: usize,
    },
}

/// Everything that happened.
#[derive(Default)]
struct Truth {
    rx: u64,
    tx: u64,
    /// When data moved that counts, the first being the start.
    traffic: Vec<u64>,
}

impl Truth {
    /// All silences that are over: from when to when.
    fn silences(&self) -> impl Iterator<Item = (u64, u64)> {
        self.traffic.windows(2).map(|ends| (ends[0], ends[1]))
    }
}

struct Gateway {
    record: Record,
    limit: u64,
    client_only: bool,
    connections: Vec<Connection>,
    truth: Truth,
}

impl Gateway {
    /// What the programs do, with what the kernel would tell them.
    fn happens(&mut self, now: u64, event: Event, first: u32) {
        let count = self.connections.len();
        let at = |which: usize| which.checked_rem(count);
        match event {
            Event::Open => {
                let mark = Mark::starting(ClientAddr::default(), first, first.wrapping_mul(7));
                self.connections.push(Connection { mark, expected: first, ended: false });
                self.record.on_open(now, self.limit);
            }
            Event::Received { which, bytes, accepted } => {
                let Some(which) = at(which) else { return };
                let connection = &mut self.connections[which];
                if connection.ended {
                    return;
                }
                let end = connection.expected.wrapping_add(bytes);
                if accepted {
                    connection.expected = end;
                    self.truth.rx += u64::from(bytes);
                }
                self.moves(which, now, Direction::Received, Some(end));
            }
            Event::Sent { which, bytes } => {
                let Some(which) = at(which) else { return };
                let mark = &mut self.connections[which].mark;
                mark.on_sent(mark.sent().wrapping_add(bytes));
                self.truth.tx += u64::from(bytes);
                self.moves(which, now, Direction::Sent, None);
            }
            Event::Ended { which } => {
                let Some(which) = at(which) else { return };
                let connection = &mut self.connections[which];
                if !connection.ended {
                    connection.mark.on_end(connection.expected);
                    connection.expected = connection.expected.wrapping_add(1);
                    connection.ended = true;
                }
            }
            Event::Close { which } => {
                let Some(which) = at(which) else { return };
                let mut connection = self.connections.remove(which);
                connection.mark.settle(&mut self.record, self.limit, Some(connection.expected));
                self.record.on_close(now);
            }
        }
    }

    fn moves(&mut self, which: usize, at: u64, direction: Direction, received: Option<u32>) {
        let counts = !self.client_only || direction == Direction::Received;
        let moved = Moved { at, direction, counts };
        let mark = &mut self.connections[which].mark;
        if !mark.keeps(&moved) && !mark.yields(&moved, self.record.traffic_at) {
            mark.tell(&mut self.record, self.limit, &moved, received);
        }
        if counts && at > *self.truth.traffic.last().unwrap() {
            self.truth.traffic.push(at);
        }
    }
}

fn event() -> impl Strategy<Value = Event> {
    let which = || 0..4_usize;
    prop_oneof![
        2 => Just(Event::Open),
        6 => (which(), 1..100_000_u32, prop::bool::weighted(0.9))
            .prop_map(|(which, bytes, accepted)| Event::Received { which, bytes, accepted }),
        6 => (which(), 1..100_000_u32).prop_map(|(which, bytes)| Event::Sent { which, bytes }),
        1 => which().prop_map(|which| Event::Ended { which }),
        1 => which().prop_map(|which| Event::Close { which }),
    ]
}

/// From nothing to some seconds, often about as long as a mark keeps silent or as the limit.
fn step(limit: u64) -> impl Strategy<Value = u64> {
    prop_oneof![
        0..TELL_EVERY / 4,
        0..2 * TELL_EVERY,
        Just(TELL_EVERY),
        limit - TELL_EVERY..limit + TELL_EVERY,
        Just(limit),
        0..3 * limit,
    ]
}

prop_compose! {
    fn case()(limit in prop_oneof![Just(TELL_EVERY), TELL_EVERY..20 * TELL_EVERY])(
        limit in Just(limit),
        client_only in any::<bool>(),
        first in any::<u32>(),
        steps in prop::collection::vec((step(limit), event()), 0..80),
    ) -> (u64, bool, u32, Vec<(u64, Event)>) {
        (limit, client_only, first, steps)
    }
}

fn gateway(start: u64, limit: u64, client_only: bool) -> Gateway {
    let truth = Truth { traffic: vec![start], ..Truth::default() };
    Gateway { record: Record::starting(start), limit, client_only, connections: Vec::new(), truth }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_record_is_never_ahead_and_hardly_behind(case in case()) {
        let (limit, client_only, first, steps) = case;
        let mut now = 5 * TELL_EVERY;
        let mut gateway = gateway(now, limit, client_only);
        let mut moments = vec![now];
        for (step, event) in steps {
            now += step;
            gateway.happens(now, event, first);
            moments.push(now);
            let (record, truth) = (gateway.record, &gateway.truth);
            let last = *truth.traffic.last().unwrap();
            prop_assert!(record.traffic_at <= last && last - record.traffic_at < TELL_EVERY);
            // Whoever proved himself at any moment: no gap is missed, and none is latched that was not nearly one.
            for proved in &moments {
                let ended_later = |least: u64| truth.silences().any(|(from, to)| to - from >= least && to > *proved);
                let latched = record.traffic_gap_end > *proved;
                prop_assert!(latched || !ended_later(limit));
                prop_assert!(!latched || ended_later(limit - TELL_EVERY));
            }
        }
        while !gateway.connections.is_empty() {
            gateway.happens(now, Event::Close { which: 0 }, first);
        }
        prop_assert_eq!((gateway.record.rx, gateway.record.tx), (gateway.truth.rx, gateway.truth.tx));
        prop_assert_eq!(gateway.record.traffic_at, *gateway.truth.traffic.last().unwrap());
    }

    /// What one connection tells of a gap is exact.
    #[test]
    fn the_gaps_of_a_single_connection_are_exact(case in case()) {
        let (limit, client_only, first, steps) = case;
        let mut now = 5 * TELL_EVERY;
        let mut gateway = gateway(now, limit, client_only);
        gateway.happens(now, Event::Open, first);
        for (step, event) in steps {
            now += step;
            if let Event::Received { .. } | Event::Sent { .. } | Event::Ended { .. } = event {
                gateway.happens(now, event, first);
            }
            let record = gateway.record;
            let gap = gateway.truth.silences().filter(|(from, to)| to - from >= limit).last();
            prop_assert_eq!((record.traffic_gap_start, record.traffic_gap_end), gap.unwrap_or_default());
        }
    }

    /// While others keep the record up to date, a connection tells it of itself now and then all the same: its bytes are
    /// counted by sequence numbers, which go round.
    #[test]
    fn a_connection_among_busy_others_is_heard(bytes in 1..100_000_u32) {
        let mut now = 5 * TELL_EVERY;
        let mut gateway = gateway(now, TELL_EVERY * 1_000, false);
        gateway.happens(now, Event::Open, 0);
        gateway.happens(now, Event::Open, 0);
        let mut told = (now, 0);
        for _ in 0..200 {
            now += TELL_EVERY / 2;
            gateway.happens(now, Event::Received { which: 0, bytes: 1, accepted: true }, 0);
            gateway.happens(now, Event::Sent { which: 1, bytes }, 0);
            if gateway.record.tx != told.1 {
                told = (now, gateway.record.tx);
            }
            prop_assert!(now - told.0 <= TELL_AT_LAST + TELL_EVERY);
        }
        // Some of it was left to the others, or this shows nothing.
        prop_assert!(gateway.record.tx < gateway.truth.tx || gateway.truth.tx == 0);
    }
}
