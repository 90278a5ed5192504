//! Merged evidence: its laws, and the judge of it against a plain model that sees the connections of all gateways.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tracker_ebpf::record::{Direction, Record};

use super::judge::judge;
use super::settings::{Mode, Revalidate, Timeouts};
use super::testing::policy;
use super::*;
use crate::clock::BootTime;
use crate::types::{ClientAddr, Factors, Identity, Method, SessionId};

const TIMEOUT: u64 = 100;
const LIMIT: Duration = Duration::from_nanos(TIMEOUT);
const START: u64 = 1_000;

fn at(nanos: u64) -> BootTime {
    BootTime::from_nanos(nanos)
}

fn moment() -> impl Strategy<Value = Option<BootTime>> {
    prop::option::weighted(0.8, (1..1_000_u64).prop_map(at))
}

fn gap() -> impl Strategy<Value = Option<Gap>> {
    let gap = (1..800_u64, TIMEOUT..300)
        .prop_map(|(start, length)| Gap { start: at(start), end: at(start + length) });
    prop::option::of(gap)
}

prop_compose! {
    /// Gaps are at least the limit long, and over before what runs now began.
    fn evidence()(
        open in 0..3_u32, half_closed in 0..2_u32, opened_at in moment(), left_at in moment(), closed in moment(),
        closed_at in moment(), traffic in moment(), closed_gap in gap(), traffic_gap in gap(), received in 0..9_u64,
    ) -> Evidence {
        let after = |moment: Option<BootTime>, gap: Option<Gap>| moment.max(gap.map(|gap| gap.end));
        Evidence {
            open, half_closed, left_at, closed_at, closed_gap, traffic_gap, received, sent: 0,
            // Who is open has been opened.
            opened_at: opened_at.or((open > 0).then_some(at(1))),
            closed_from: after(closed, closed_gap).filter(|_| open == 0),
            traffic_at: after(traffic, traffic_gap),
        }
    }
}

/// Without what is counted.
fn uncounted(evidence: Evidence) -> Evidence {
    let is_open = u32::from(evidence.open > 0);
    Evidence { open: is_open, half_closed: 0, received: 0, sent: 0, ..evidence }
}

/// Without what a merge of merges may have forgotten.
fn without_gaps(evidence: Evidence) -> Evidence {
    Evidence { closed_gap: None, traffic_gap: None, ..evidence }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn merging_is_a_matter_of_who_knows_what_and_not_of_order(
        all in prop::collection::vec(evidence(), 1..5), turned in 0..5_usize,
    ) {
        let merged = Evidence::merge_all(&all, LIMIT);
        let mut other = all.clone();
        other.rotate_left(turned % NonZeroUsize::new(all.len()).unwrap());
        prop_assert_eq!(Evidence::merge_all(&other, LIMIT), merged, "any order");
        other.reverse();
        prop_assert_eq!(Evidence::merge_all(&other, LIMIT), merged, "commutative");
        other.push(Evidence::default());
        prop_assert_eq!(Evidence::merge_all(&other, LIMIT), merged, "who knows nothing changes nothing");
        let twice: Vec<Evidence> = all.iter().chain(&all).copied().collect();
        prop_assert_eq!(uncounted(Evidence::merge_all(&twice, LIMIT)), uncounted(merged), "idempotent, but for counts");
        prop_assert_eq!(Evidence::merge_all(&all[..1], LIMIT), all[0], "one alone");

        // One after the other: the same, but that a gap may be forgotten. One that is left is never longer.
        let folded = all.iter().copied().reduce(|a, b| a.merge(b, LIMIT)).unwrap();
        prop_assert_eq!(without_gaps(folded), without_gaps(merged), "associative");
        for (folded, whole) in [(folded.closed_gap, merged.closed_gap), (folded.traffic_gap, merged.traffic_gap)] {
            prop_assert!(folded.is_none() || folded == whole || folded.unwrap().end < whole.unwrap().end);
        }
        if let [a, b] = all[..] {
            prop_assert_eq!(a.merge(b, LIMIT), merged);
        }
    }

    #[test]
    fn a_gap_is_one_that_held_on_all(all in prop::collection::vec(evidence(), 1..5)) {
        let merged = Evidence::merge_all(&all, LIMIT);
        if let Some(Gap { start, end }) = merged.closed_gap {
            prop_assert!(end.since(start) >= LIMIT);
            for one in &all {
                let within = one.closed_gap.is_some_and(|gap| gap.start <= start && end <= gap.end);
                let since = one.open == 0 && one.closed_from.is_none_or(|from| from <= start);
                prop_assert!(within || since, "{one:?}");
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    Open(usize),
    Close(usize),
    Data(usize),
    /// Whether all daemons sleep from here on. Asleep, nobody judges.
    Sleep(bool),
    Prove,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => (1..TIMEOUT / 2).prop_map(Step::Wait),
        3 => (TIMEOUT - 1..=TIMEOUT + 1).prop_map(Step::Wait),
        1 => (TIMEOUT..3 * TIMEOUT).prop_map(Step::Wait),
        4 => (0..3_usize).prop_map(Step::Open),
        5 => (0..3_usize).prop_map(Step::Close),
        4 => (0..3_usize).prop_map(Step::Data),
        1 => any::<bool>().prop_map(Step::Sleep),
        1 => Just(Step::Prove),
    ];
    prop::collection::vec(step, 1..60)
}

/// Sees the connections of all gateways, and remembers when nothing was open, and when nothing moved.
struct Model {
    open: u32,
    /// Since when nothing is open.
    closed: Option<u64>,
    moved: u64,
    proved: u64,
    left: Option<u64>,
    /// The timeout has run out since the proof.
    ran_out: bool,
}

impl Model {
    /// Takes note of time up to `now`.
    fn pass(&mut self, mode: Mode, now: u64) {
        let since = match mode {
            Mode::Session => self.closed,
            Mode::Traffic => Some(self.moved),
            Mode::Absolute => Some(self.proved),
        };
        self.ran_out |= since.is_some_and(|since| now - since.max(self.proved) >= TIMEOUT);
    }
}

fn session(proved: u64) -> Session {
    let proved = at(proved);
    Session {
        id: SessionId::test(7),
        client: ClientAddr::from_v4([10, 0, 0, 1]),
        connection: None,
        identity: Arc::new(Identity::new("alice", "R", "R")),
        method: Method::Kerberos,
        factors: Factors::NONE,
        enrolled: Factors::NONE,
        device: None,
        created: proved,
        authenticated: proved,
        judged_from: proved,
        counted_from: proved,
        state: State::Active,
        traffic_before: None,
    }
}

fn run(mode: Mode, steps: &[Step]) -> Result<(), TestCaseError> {
    let timeouts = Timeouts { timeout: LIMIT, mode, revalidate: Revalidate::OnReopen, ..Timeouts::default() };
    let policy = policy(timeouts);
    let mut now = START;
    let mut records = [Record::starting(now); 3];
    let mut model = Model { open: 0, closed: Some(now), moved: now, proved: now, left: None, ran_out: false };
    let mut session = session(now);
    let (mut asleep, mut has_slept) = (false, false);
    for step in steps {
        let before = now;
        match *step {
            Step::Wait(span) => now += span,
            _ => now += 1,
        }
        // Who is awake fires the deadlines on the way.
        let judged = |session: &Session, records: &[Record; 3], now: u64| {
            let evidence = Evidence::merge_all(&records.each_ref().map(Evidence::from), LIMIT);
            judge(session, &evidence, &policy, at(now))
        };
        let follow = |session: &mut Session, verdict: Verdict| {
            if let Verdict::Stale { reason, since } = verdict {
                session.state = State::Stale { reason, since };
            }
            verdict
        };
        if let Verdict::Active { deadline: Some(due), .. } = judged(&session, &records, before)
            && due <= at(now)
            && !asleep
        {
            let verdict = judged(&session, &records, due.as_nanos());
            follow(&mut session, verdict);
        }
        model.pass(mode, now);
        match *step {
            Step::Wait(_) => {}
            Step::Open(one) => {
                records[one].on_open(now, TIMEOUT);
                model.open += 1;
                model.closed = None;
            }
            Step::Close(one) => {
                if records[one].open > 0 {
                    records[one].on_close(now, false);
                    model.open -= 1;
                    if model.open == 0 {
                        (model.closed, model.left) = (Some(now), Some(now));
                    }
                }
            }
            Step::Data(one) => {
                records[one].on_data(now, TIMEOUT, Direction::Sent, 1, true);
                model.moved = now;
            }
            Step::Sleep(to) => {
                asleep = to;
                has_slept |= to;
            }
            Step::Prove => {
                session = self::session(now);
                (model.proved, model.ran_out, model.left) = (now, false, None);
                has_slept = asleep;
            }
        }
        model.pass(mode, now);

        let merged = judged(&session, &records, now);
        let verdict = if asleep { merged } else { follow(&mut session, merged) };
        let is_stale = matches!(verdict, Verdict::Stale { .. });
        // Nobody's session runs out while it does not in truth.
        prop_assert!(!is_stale || model.ran_out, "at {now}: {verdict:?}");
        // Somebody was awake all the time since the proof: exactly as the model says.
        if !has_slept {
            prop_assert_eq!(is_stale, model.ran_out, "at {}", now);
        }
        let runs = match mode {
            Mode::Session => model.closed,
            Mode::Traffic => Some(model.moved),
            Mode::Absolute => Some(model.proved),
        };
        // And what runs now is never missed, whoever slept.
        if runs.is_some_and(|since| now - since.max(model.proved) >= TIMEOUT) {
            prop_assert!(is_stale, "at {now}");
        }
        if let Verdict::Active { reopened, .. } = verdict {
            prop_assert!(reopened || model.left.is_none(), "asked once too often rather than never");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_judge_of_merged_evidence_is_as_who_sees_all_gateways(
        mode in prop_oneof![Just(Mode::Session), Just(Mode::Traffic), Just(Mode::Absolute)],
        steps in steps(),
    ) {
        run(mode, &steps)?;
    }
}

/// A daemon that slept through one gap finds it although the client has come back on several gateways since.
#[test]
fn one_gap_that_all_had_is_found_afterwards() {
    let mut records = [Record::starting(1); 4];
    for (one, until) in [(0, 10), (1, 20)] {
        records[one].on_open(until - 1, TIMEOUT);
        records[one].on_close(until, false);
    }
    // It comes back on two of them; the third was never used, the fourth has long been closed.
    records[0].on_open(300, TIMEOUT);
    records[1].on_open(301, TIMEOUT);
    records[2] = Record::default();
    let merged = Evidence::merge_all(&records.each_ref().map(Evidence::from), LIMIT);
    assert_eq!(merged.closed_gap, Some(Gap { start: at(20), end: at(300) }));
    assert_eq!((merged.open, merged.closed_from), (2, None));
    // One of them goes again.
    records[0].on_close(310, false);
    let merged = Evidence::merge_all(&records.each_ref().map(Evidence::from), LIMIT);
    assert_eq!(merged.closed_gap, Some(Gap { start: at(20), end: at(300) }));
}

#[test]
fn of_two_gaps_that_all_had_the_later_one_is_kept() {
    let gap = |start, end| Some(Gap { start: at(start), end: at(end) });
    let one = Evidence { closed_gap: gap(1, 200), closed_from: Some(at(300)), ..Evidence::default() };
    let other =
        Evidence { closed_gap: gap(10, 500), open: 1, opened_at: Some(at(500)), ..Evidence::default() };
    assert_eq!(one.merge(other, LIMIT).closed_gap, gap(300, 500), "not from 10 to 200");
}

#[test]
fn a_client_is_open_since_it_came_to_be_so_where_it_still_is() {
    let closed = Evidence { opened_at: Some(at(5)), closed_from: Some(at(9)), ..Evidence::default() };
    let open = Evidence { open: 1, opened_at: Some(at(50)), ..Evidence::default() };
    let longer = Evidence { opened_at: Some(at(40)), ..open };
    assert_eq!(closed.merge(open, LIMIT).opened_at, Some(at(50)));
    assert_eq!(longer.merge(open, LIMIT).opened_at, Some(at(40)));
}
