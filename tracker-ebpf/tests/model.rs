//! The record against a plain model that remembers everything that ever happened and answers questions by going through
//! it again: the record must give the same answers from its few numbers.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail")]

use proptest::prelude::*;
use tracker_ebpf::abi::{ClientAddr, NoClient, Slot};
use tracker_ebpf::mark::{Counts, Mark, Reached};
use tracker_ebpf::record::{Closed, Direction, Edge, GRACE, Record};

#[derive(Clone, Copy, Debug)]
enum Event {
    Open,
    Close,
    /// The client ends one connection, which stays,
    End,
    /// something is delivered on such a one,
    Deliver,
    /// and it is closed at last.
    CloseEnded,
    Data {
        direction: Direction,
        bytes: u64,
        counts: bool,
    },
}

/// Everything that happened, each with its time.
struct History {
    start: u64,
    events: Vec<(u64, Event)>,
}

impl History {
    /// How many connections there are after each event, open ones and such as the client has ended; of what is not there
    /// nothing ends.
    fn counts(&self) -> impl Iterator<Item = (u64, Event, (u32, u32))> {
        self.events.iter().scan((0_u32, 0_u32), |(open, half), (at, event)| {
            match event {
                Event::Open => *open += 1,
                Event::Close => *open = open.saturating_sub(1),
                Event::End if *open > 0 => (*open, *half) = (*open - 1, *half + 1),
                Event::CloseEnded => *half = half.saturating_sub(1),
                Event::End | Event::Deliver | Event::Data { .. } => {}
            }
            Some((*at, *event, (*open, *half)))
        })
    }

    fn count(&self) -> (u32, u32) {
        self.counts().last().map_or((0, 0), |(.., counts)| counts)
    }

    /// When the client counted as open, from when to when: while a connection is open, and for a time after each end of its
    /// own and each delivery, unless the last connection is closed before. The last may be still to come, or run on.
    fn open_periods(&self) -> Vec<(u64, u64)> {
        let mut periods: Vec<(u64, u64)> = Vec::new();
        let (mut opened, mut ended_before) = (None, 0);
        for (at, event, (open, half)) in self.counts() {
            match (opened, open) {
                (None, 1..) => opened = Some(at),
                (Some(since), 0) => {
                    periods.push((since, at));
                    opened = None;
                }
                _ => {}
            }
            let holds = match event {
                Event::End => half > ended_before,
                Event::Deliver => half > 0,
                _ => false,
            };
            if holds {
                periods.push((at, at + GRACE));
            }
            if half == 0 {
                periods.iter_mut().for_each(|(_, to)| *to = (*to).min(at));
            }
            ended_before = half;
        }
        periods.extend(opened.map(|since| (since, u64::MAX)));
        periods.sort_unstable();
        periods
    }

    /// All closed periods, from when to when; the last may still run, or is still to come.
    fn closed_periods(&self) -> Vec<(u64, Option<u64>)> {
        let (mut closed, mut until) = (Vec::new(), self.start);
        for (from, to) in self.open_periods() {
            if from >= until {
                closed.push((until, Some(from)));
            }
            until = until.max(to);
        }
        if until < u64::MAX {
            closed.push((until, None));
        }
        closed
    }

    /// All silences, from when to when; the last one always runs.
    fn silences(&self) -> Vec<(u64, Option<u64>)> {
        let mut silences = vec![(self.start, None)];
        for (at, event) in &self.events {
            if let Event::Data { counts: true, .. } = event {
                silences.last_mut().unwrap().1 = Some(*at);
                silences.push((*at, None));
            }
        }
        silences
    }

    fn bytes(&self, wanted: Direction) -> u64 {
        let bytes = |event: &Event| match event {
            Event::Data { direction, bytes, .. } if *direction == wanted => *bytes,
            _ => 0,
        };
        self.events.iter().map(|(_, event)| bytes(event)).sum()
    }
}

/// Whether one of the periods was at least `limit` long and ended after `since`.
fn one_ended_after(periods: &[(u64, Option<u64>)], limit: u64, since: u64) -> bool {
    limit != 0 && periods.iter().any(|(from, to)| to.is_some_and(|to| to - from >= limit && to > since))
}

fn replay(history: &History, limit: u64) -> Record {
    let mut record = Record::starting(history.start);
    for (at, event) in &history.events {
        apply(&mut record, *at, *event, limit);
    }
    record
}

fn apply(record: &mut Record, at: u64, event: Event, limit: u64) {
    match event {
        Event::Open => {
            let first = record.open == 0;
            assert_eq!(record.on_open(at, limit), first);
        }
        Event::Close => {
            let expected = match record.open {
                0 => Closed::WithoutOpen,
                1 => Closed::Last,
                _ => Closed::OthersOpen,
            };
            assert_eq!(record.on_close(at, false), expected);
        }
        Event::End => {
            let expected = match record.open {
                0 => Closed::WithoutOpen,
                1 => Closed::Last,
                _ => Closed::OthersOpen,
            };
            assert_eq!(record.on_end(at), expected);
        }
        Event::Deliver => record.on_delivered(at, limit),
        Event::CloseEnded => {
            let expected = match (record.open, record.half) {
                (_, 0) => Closed::WithoutOpen,
                (0, 1) => Closed::Last,
                _ => Closed::OthersOpen,
            };
            assert_eq!(record.on_close(at, true), expected);
        }
        Event::Data { direction, bytes, counts } => record.on_data(at, limit, direction, bytes, counts),
    }
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Open),
        Just(Event::Close),
        Just(Event::End),
        Just(Event::Deliver),
        Just(Event::CloseEnded),
        (any::<bool>(), 0..1_000_000_u64, any::<bool>()).prop_map(|(received, bytes, counts)| Event::Data {
            direction: if received { Direction::Received } else { Direction::Sent },
            bytes,
            counts,
        }),
    ]
}

prop_compose! {
    /// Steps around the limit, so that gaps just reach it or just do not, and around the time that an ended connection holds.
    fn history()(
        start in 1..1_000_000_u64,
        steps in prop::collection::vec((prop_oneof![0..25_u64, Just(10_u64), 0..1_000_u64, GRACE - 12..GRACE + 12], event()), 0..60),
    ) -> History {
        let mut now = start;
        let events = steps.into_iter().map(|(step, event)| { now += step; (now, event) }).collect();
        History { start, events }
    }
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("start", &self.start).field("events", &self.events).finish()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whoever proved himself at any moment in between gets the right answer at the end, however long nobody looked.
    #[test]
    fn the_record_answers_like_the_history(history in history(), limit in prop_oneof![Just(0_u64), Just(10), 1..40_u64, GRACE..2 * GRACE]) {
        let record = replay(&history, limit);
        let (closed, silences) = (history.closed_periods(), history.silences());
        prop_assert_eq!((record.open, record.half), history.count());
        for proved in std::iter::once(history.start).chain(history.events.iter().map(|(at, _)| *at)) {
            prop_assert_eq!(record.closed_gap_end > proved, one_ended_after(&closed, limit, proved));
            // The record does not move for data at the very moment of the last: no time, no gap.
            prop_assert_eq!(record.traffic_gap_end > proved, one_ended_after(&silences, limit, proved));
        }
        match closed.last().unwrap() {
            (from, None) => {
                prop_assert_eq!(record.closes_at(), Some(*from));
                let now = history.events.last().map_or(history.start, |(at, _)| *at);
                prop_assert_eq!(record.is_open(now), *from > now);
            }
            _ => prop_assert_eq!(record.closes_at(), None),
        }
        let left = history.counts().fold((0, history.start), |(before, left), (at, _, (open, _))| {
            (open, if open == 0 && before > 0 { at } else { left })
        });
        prop_assert_eq!(record.left_at, left.1);
        prop_assert_eq!(record.traffic_at, silences.last().unwrap().0);
        prop_assert_eq!(record.rx, history.bytes(Direction::Received));
        prop_assert_eq!(record.tx, history.bytes(Direction::Sent));
    }

    /// The clocks of several CPUs do not agree to the nanosecond with the order in which they get the lock.
    #[test]
    fn times_in_any_order_never_break_the_record(
        events in prop::collection::vec((any::<u64>(), event()), 0..60),
        limit in any::<u64>(),
    ) {
        let mut record = Record::starting(1_000);
        let history = History {
            start: 1_000,
            events: events.clone(),
        };
        for ((at, event), (.., counts)) in events.into_iter().zip(history.counts()) {
            let before = record;
            apply(&mut record, at, event, limit);
            prop_assert_eq!((record.open, record.half), counts);
            prop_assert!(record.traffic_at >= before.traffic_at, "traffic never moves back");
            let changed = (record.open, record.half) != (before.open, before.half);
            prop_assert_eq!(record.changes.wrapping_sub(before.changes), u32::from(changed));
        }
    }

    /// Correcting the count leaves the record as the missed events would have, at the moment they were noticed.
    #[test]
    fn a_correction_is_what_the_missed_events_would_have_done(
        history in history(), right in 0..5_u32, later in 0..50_u64, limit in 0..40_u64,
    ) {
        let mut corrected = replay(&history, limit);
        let mut missed = corrected;
        let at = history.events.last().map_or(history.start, |(at, _)| *at) + later;
        let edge = corrected.correct(right, missed.half, at, limit);
        prop_assert_eq!(corrected.established_at, missed.established_at, "what is found was not seen established");
        let mut found = missed;
        found.on_join(at, limit, false);
        prop_assert_eq!(found.established_at, missed.established_at);
        let mut expected = None;
        while missed.open < right {
            if missed.on_open(at, limit) { expected = Some(Edge::Opened); }
        }
        while missed.open > right {
            if missed.on_close(at, false) == Closed::Last { expected = Some(Edge::Closed); }
        }
        prop_assert_eq!(edge, expected);
        let counted = |record: Record| Record { changes: 0, assumed: 0, established_at: 0, ..record };
        prop_assert_eq!(counted(corrected), counted(missed));
    }

    /// So does correcting the count of those that the client has ended, if such were closed; and if such were missed, they
    /// hold nothing, since nobody saw what was delivered on them.
    #[test]
    fn what_was_ended_unseen_holds_nothing(
        history in history(), open in 0..3_u32, half in 0..5_u32, later in 0..50_u64, limit in 0..40_u64,
    ) {
        let before = replay(&history, limit);
        let at = history.events.last().map_or(history.start, |(at, _)| *at) + later;
        let mut corrected = before;
        corrected.correct(open, half, at, limit);
        prop_assert_eq!((corrected.open, corrected.half), (open, half));
        if open > 0 {
            prop_assert_eq!(corrected.closes_at(), None);
            return Ok(());
        }
        let expected = match (before.closes_at(), before.half, half) {
            (None, 0, _) | (None, _, 0) => at,
            (None, ..) => at.max(before.held_at + GRACE),
            (Some(closed), _, 0) => closed.min(at),
            (Some(closed), ..) => closed,
        };
        prop_assert_eq!(corrected.closes_at(), Some(expected));
        prop_assert_eq!(corrected.left_at, if before.open > 0 { at } else { before.left_at });
    }

    /// Nothing brings a retired record back but a new one.
    #[test]
    fn a_retired_record_stays_so(history in history(), limit in 0..40_u64) {
        let mut record = replay(&history, limit);
        record.retire();
        for ended in [false, true] {
            record.half = 0;
            prop_assert_eq!(record.on_close(u64::MAX, ended), Closed::WithoutOpen);
        }
        prop_assert_eq!(record.on_end(u64::MAX), Closed::WithoutOpen);
        prop_assert!(record.is_retired());
    }

    /// Records come and go, for whatever reason, and counts are put right: each connection is counted at most once in the
    /// record that there is, and nothing is left of it in the end.
    #[test]
    fn whatever_becomes_of_records_each_connection_is_counted_once(
        steps in prop::collection::vec((0..8_u8, 0..4_usize), 1..80),
    ) {
        let client = ClientAddr::from_v4([192, 0, 2, 1]);
        let (mut now, mut slot) = (1_000, None::<Slot>);
        let mut connections: Vec<(Mark, bool)> = Vec::new();
        let reached = Reached { received: 1, sent: 1 };
        for (step, which) in steps {
            now += 1;
            let which = which.min(connections.len().saturating_sub(1));
            match (step, &mut slot) {
                // A connection, with a record or, where there is no room, without.
                (0 | 1, slot) => {
                    let mut mark = Mark::starting(client, &reached, now);
                    if let Some(slot) = slot {
                        mark.enter(slot.born, &mut slot.record, 0, now);
                    } else if step == 0 {
                        let mut fresh = Slot::starting(client, now, now);
                        fresh.record.on_open(now, 0);
                        mark.begins(now);
                        *slot = Some(fresh);
                    }
                    connections.push((mark, false));
                }
                (2, slot) => *slot = None,
                (3, slot @ None) => *slot = Some(Slot::starting(client, now, now)),
                // The list of sockets.
                (4, Some(slot)) => {
                    let half = connections.iter().filter(|(_, ended)| *ended).count() as u32;
                    slot.record.correct(connections.len() as u32 - half, half, now, 0);
                }
                (_, _) if connections.is_empty() => {}
                // Data tells of the connection, its end and its close do.
                (5, Some(slot)) => {
                    connections[which].0.join(slot.born, &mut slot.record, 0, now);
                }
                (6, slot) => {
                    let (mark, ended) = &mut connections[which];
                    if !std::mem::replace(ended, true) {
                        match slot {
                            Some(slot) => {
                                mark.join(slot.born, &mut slot.record, 0, now);
                                let told = mark.end(&mut slot.record, 0, Counts::Both, &reached, now);
                                prop_assert_ne!(told, Closed::WithoutOpen);
                            }
                            None => mark.end_untold(&reached),
                        }
                    }
                }
                (7, slot) => {
                    let (mut mark, _) = connections.remove(which);
                    if let Some(slot) = slot {
                        mark.join(slot.born, &mut slot.record, 0, now);
                        let told = mark.close(&mut slot.record, 0, Counts::Both, &reached, now);
                        prop_assert_ne!(told, Closed::WithoutOpen);
                    }
                }
                _ => {}
            }
            if let Some(slot) = &slot {
                prop_assert!(slot.record.connections() as usize <= connections.len());
                let half = connections.iter().filter(|(_, ended)| *ended).count();
                if step == 4 {
                    prop_assert_eq!((slot.record.connections() as usize, slot.record.half as usize), (connections.len(), half));
                }
            }
        }
        if let Some(slot) = &mut slot {
            for (mut mark, _) in connections {
                mark.join(slot.born, &mut slot.record, 0, now + 1);
                mark.close(&mut slot.record, 0, Counts::Both, &reached, now + 1);
            }
            prop_assert_eq!((slot.record.open, slot.record.half), (0, 0));
        }
    }

    #[test]
    fn an_address_survives_its_text(octets in any::<[u8; 16]>()) {
        if let Some(address) = ClientAddr::from_v6(octets, 7) {
            prop_assert_eq!(address.to_string().parse::<ClientAddr>().unwrap(), address);
        }
    }

    /// However a link-local address is made: another host or another link is another client, or none at all.
    #[test]
    fn link_local_addresses_are_told_apart_by_their_links(
        one in link_local(), other in link_local(), here in 1..5_u32, there in 1..5_u32,
    ) {
        let (first, second) = (ClientAddr::from_v6(one, here), ClientAddr::from_v6(other, there));
        prop_assert_eq!(ClientAddr::from_v6(one, 0), None);
        prop_assert_eq!(first.is_some() && first == second, first.is_some() && (one, here) == (other, there));
        if let Some(first) = first {
            prop_assert_eq!(first.ip(), std::net::Ipv6Addr::from(one));
            prop_assert_eq!(first.link(), Some(here));
            prop_assert_eq!(first.to_string(), format!("{}%{here}", std::net::Ipv6Addr::from(one)));
            prop_assert_eq!(first.to_string().parse(), Ok(first));
            // What has no link is nobody.
            prop_assert_ne!(ClientAddr::from(first.ip()), first);
        }
    }
}

/// Link-local addresses of few hosts, some of them with bits set that should be 0.
fn link_local() -> impl Strategy<Value = [u8; 16]> {
    let odd = prop::option::weighted(0.2, (1..8_usize, 1..=255_u8));
    (odd, 0..4_u8).prop_map(|(odd, host)| {
        let mut octets = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host];
        match odd {
            Some((1, bits)) => octets[1] |= bits & 0x3f,
            Some((place, bits)) => octets[place] = bits,
            None => {}
        }
        octets
    })
}

#[test]
fn a_link_local_address_needs_its_link() {
    for text in
        ["fe80::1", "fe80::1%", "fe80::1%eth0", "fe80::1%0", "fe80:0:0:2::1", "fe80:0:0:2::1%2", "febf::1%2"]
    {
        assert_eq!(text.parse::<ClientAddr>(), Err(NoClient::NoLink), "{text}");
    }
    for text in ["", "2001:db8::1%2", "192.0.2.1%2", "x%2", "169.254.0.1%2"] {
        assert_eq!(text.parse::<ClientAddr>(), Err(NoClient::NoAddress), "{text}");
    }
    assert_eq!("fe80::1%2".parse::<ClientAddr>().unwrap().0[..8], [0xfe, 0x80, 0, 0, 0, 0, 0, 2]);
}

#[test]
fn both_spellings_of_an_ipv4_address_are_one_client() {
    let client = ClientAddr::from_v4([192, 0, 2, 7]);
    assert_eq!("192.0.2.7".parse(), Ok(client));
    assert_eq!("::ffff:192.0.2.7".parse(), Ok(client));
    assert_eq!(client.to_string(), "192.0.2.7");
    assert_ne!("2001:db8::7".parse(), Ok(client));
}
