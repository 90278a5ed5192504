//! The explanation and the table never disagree.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tracker_ebpf::record::{GRACE, Record};

use super::settings::{DeviceChange, Mode, Revalidate, Timeouts};
use super::*;
use crate::clock::BootTime;
use crate::types::{ClientAddr, Device, Factors, Identity, Method, SessionId};

const CLIENT: [u8; 4] = [10, 0, 0, 1];

fn moment() -> impl Strategy<Value = u64> {
    prop_oneof![1 => Just(0_u64), 9 => 1..200_u64]
}

prop_compose! {
    fn record()(
        open in 0..3_u32, half in 0..2_u32, opened_at in moment(), left_at in moment(), closed_at in moment(),
        traffic_at in moment(), until in moment(),
        gaps in [moment(), moment(), moment(), moment()],
    ) -> Record {
        let [traffic_gap_start, traffic_gap_end, closed_gap_start, closed_gap_end] = gaps;
        Record {
            open, half, opened_at, left_at, closed_at, traffic_at,
            held_at: until.wrapping_sub(GRACE),
            traffic_gap_start, traffic_gap_end, closed_gap_start, closed_gap_end,
            ..Record::default()
        }
    }
}

prop_compose! {
    fn session()(created in 1..100_u64, proved in 0..100_u64, counted in 0..100_u64, stale in any::<Option<bool>>()) -> Session {
        let at = BootTime::from_nanos;
        Session {
            id: SessionId::test(7),
            client: ClientAddr::from_v4(CLIENT),
            connection: None,
            identity: Arc::new(Identity::new("alice", "EXAMPLE.TEST", "EXAMPLE")),
            method: Method::Kerberos,
            factors: Factors::NONE,
            enrolled: Factors::NONE,
            created: at(created),
            authenticated: at(created + proved),
            judged_from: at(created + proved),
            counted_from: at(created + counted),
            device: None,
            state: match stale {
                Some(true) => State::Stale { reason: Reason::ClosedTimeout, since: at(created + proved) },
                _ => State::Active,
            },
            traffic_before: None,
        }
    }
}

prop_compose! {
    fn policy()(
        mode in prop_oneof![Just(Mode::Session), Just(Mode::Traffic), Just(Mode::Absolute)],
        timeout in 1..100_u64, lifetime in prop::option::of(1..150_u64), reopen in any::<bool>(), since in 0..150_u64,
    ) -> Policy {
        Policy {
            timeouts: Timeouts {
                timeout: Duration::from_nanos(timeout),
                mode,
                lifetime_enabled: lifetime.is_some(),
                lifetime_timeout: Duration::from_nanos(lifetime.unwrap_or(1)),
                revalidate: if reopen { Revalidate::OnReopen } else { Revalidate::OnTimeout },
                ..Timeouts::default()
            },
            max_users: 0,
            devices_per_user: 5,
            guests: Vec::new(),
            factors: FactorPolicy::default(),
            since: BootTime::from_nanos(since),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn the_explanation_is_what_the_table_decides(
        session in prop::option::of(session()), record in record(), policy in policy(), now in 1..400_u64,
    ) {
        let client = ClientAddr::from_v4(CLIENT);
        let (now, evidence) = (BootTime::from_nanos(now), Evidence::from(&record));
        let situation = Situation {
            client, is_shared_host: false, session: session.as_ref(), evidence: Some(&evidence), policy: &policy, now,
            device: None, watched_since: Some(BootTime::default()), arrival: Arrival::NEW,
        };
        let explained = explain(&situation, 0);
        let allow = matches!(explained.decision, Decision::Allow(_));
        let mut table = Table::new(SessionId::test(1), policy.clone(), Arc::new(Index::default()));
        let known = session.is_some();
        session.into_iter().for_each(|session| table.restore(session));
        let decision = table.check(client, &Facts::of(&evidence, now), &mut Vec::new());
        prop_assert_eq!(&explained.decision, &decision, "{:?}", explained);
        let deciding: Vec<&Finding> = explained.findings.iter().filter(|finding| finding.decides).collect();
        prop_assert_eq!(deciding.len(), 1, "{:?}", explained);
        if allow {
            prop_assert!(!explained.ends.is_empty());
            prop_assert_eq!(explained.deadline, table.next_deadline());
        }
        // The rule that decides is the one that the state after the look bears out.
        match deciding[0].rule {
            Rule::Session => prop_assert!(!known),
            Rule::Lifetime => prop_assert!(known && table.is_empty()),
            Rule::State | Rule::Gap => prop_assert!(table.active() == 0),
            Rule::Timeout => prop_assert_eq!(allow, table.active() == 1),
            Rule::Revalidate => prop_assert!(table.active() == 1),
            rule => prop_assert!(false, "{rule} decides nothing here"),
        }
    }
}

#[test]
fn a_shared_host_and_an_unreadable_record_are_asked() {
    let policy = Policy {
        timeouts: Timeouts::default(),
        max_users: 0,
        devices_per_user: 5,
        guests: Vec::new(),
        factors: FactorPolicy::default(),
        since: BootTime::default(),
    };
    let client = ClientAddr::from_v4(CLIENT);
    let mut situation = Situation {
        client,
        is_shared_host: true,
        session: None,
        evidence: None,
        device: None,
        arrival: Arrival::NEW,
        watched_since: Some(BootTime::default()),
        policy: &policy,
        now: BootTime::from_nanos(1),
    };
    let rule = |explained: &Explanation| explained.findings.iter().find(|f| f.decides).unwrap().rule;
    let allow = |explained: &Explanation| matches!(explained.decision, Decision::Allow(_));
    let shared = explain(&situation, 0);
    assert_eq!((allow(&shared), rule(&shared)), (false, Rule::SharedHost));
    let identity = Arc::new(Identity::new("alice", "R.TEST", "R.TEST"));
    let at = BootTime::from_nanos(1);
    let session = Session {
        id: SessionId::test(1),
        client,
        connection: None,
        identity,
        method: Method::Kerberos,
        factors: Factors::NONE,
        enrolled: Factors::NONE,
        created: at,
        authenticated: at,
        judged_from: at,
        counted_from: at,
        device: None,
        state: State::Active,
        traffic_before: None,
    };
    situation = Situation { is_shared_host: false, session: Some(&session), ..situation };
    let unreadable = explain(&situation, 1);
    assert_eq!((allow(&unreadable), rule(&unreadable)), (false, Rule::Record));
    // And where it can be read, it is said in words that a person can follow.
    let evidence = Evidence::from(&Record { open: 2, opened_at: 1, ..Record::starting(1) });
    situation = Situation { evidence: Some(&evidence), ..situation };
    let said = explain(&situation, 1);
    assert!(allow(&said));
    let text: Vec<&str> = said.findings.iter().map(|finding| finding.finding.as_str()).collect();
    assert!(text.contains(&"2 connections are open"), "{text:?}");
    assert!(
        text.contains(&"mode session: the clock of 10m stands still while connections are open (2 now)"),
        "{text:?}"
    );
    assert_eq!(said.why, "alice@R.TEST proved themselves, and nothing has run out");

    // What the loop asks besides the record: was it watched, and is it still the same device?
    let on_reopen = Policy {
        timeouts: Timeouts {
            revalidate: Revalidate::OnReopen,
            device_change: DeviceChange::Reauthenticate,
            ..Timeouts::default()
        },
        ..policy.clone()
    };
    situation = Situation { policy: &on_reopen, ..situation };
    assert!(allow(&explain(&situation, 1)));
    for watched_since in [None, Some(BootTime::from_nanos(2))] {
        let unwatched = explain(&Situation { watched_since, ..situation }, 1);
        assert_eq!((allow(&unwatched), rule(&unwatched)), (false, Rule::Revalidate));
    }
    let [mine, other] = [1, 2].map(|last| Device::new(&[2, 0, 0, 0, 0, last]));
    let proved_from = Session { device: mine, ..session.clone() };
    for (device, allowed) in [(mine, true), (None, true), (other, false)] {
        let explained = explain(&Situation { session: Some(&proved_from), device, ..situation }, 1);
        assert_eq!((allow(&explained), rule(&explained) == Rule::Device), (allowed, !allowed));
    }
}
