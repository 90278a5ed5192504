//! The table and the judge against a plain reference model that remembers everything and scans it at each decision,
//! with one daemon that is always awake and one that sleeps through whatever it likes.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tracker_ebpf::record::{Direction, GRACE, Record};

use super::settings::{Mode, Revalidate, Timeouts};
use super::*;
use crate::clock::BootTime;
use crate::types::{ClientAddr, Factors, Identity, Method, SessionId};

const SECOND: u64 = 1_000_000_000;
const TIMEOUT: u64 = 10 * SECOND;
const LIFETIME: u64 = 45 * SECOND;
const START: u64 = 1_000 * SECOND;

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    Open,
    Close,
    /// The client ends one connection, which stays,
    End,
    /// something is delivered on such a one,
    Deliver,
    /// and it is closed at last.
    CloseEnded,
    Data,
    Request,
    Prove(Proved),
    Logout,
    /// Whether the second daemon sleeps from here on.
    Sleep(bool),
}

/// A request with credentials.
#[derive(Clone, Copy, Debug)]
struct Proved {
    user: u8,
    /// How long it takes from the request to its admission.
    takes: u64,
    /// Whether the client closes everything meanwhile.
    leaves: bool,
}

prop_compose! {
    fn proved()(
        user in 0..2_u8,
        takes in prop_oneof![3 => Just(0), 3 => 2..TIMEOUT / 4, 1 => TIMEOUT - 2..=TIMEOUT + 2],
        leaves in any::<bool>(),
    ) -> Proved {
        Proved { user, takes, leaves: leaves && takes > 0 }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..4 * SECOND).prop_map(Step::Wait),
        // At, just before and just after the edge.
        3 => (TIMEOUT - 2..=TIMEOUT + 2).prop_map(Step::Wait),
        2 => (GRACE - 2..=GRACE + 2).prop_map(Step::Wait),
        2 => (GRACE + TIMEOUT - 2..=GRACE + TIMEOUT + 2).prop_map(Step::Wait),
        1 => (LIFETIME / 2..LIFETIME).prop_map(Step::Wait),
        3 => Just(Step::Open),
        4 => Just(Step::Close),
        4 => Just(Step::End),
        2 => Just(Step::Deliver),
        1 => Just(Step::CloseEnded),
        3 => Just(Step::Data),
        5 => Just(Step::Request),
        3 => proved().prop_map(Step::Prove),
        1 => Just(Step::Logout),
        2 => any::<bool>().prop_map(Step::Sleep),
    ];
    prop::collection::vec(step, 1..60)
}

fn policy(mode: Mode, lifetime: bool, revalidate: Revalidate) -> Policy {
    Policy {
        timeouts: Timeouts {
            timeout: Duration::from_nanos(TIMEOUT),
            mode,
            lifetime_enabled: lifetime,
            lifetime_timeout: Duration::from_nanos(LIFETIME),
            revalidate,
            ..Timeouts::default()
        },
        max_users: 0,
        devices_per_user: 5,
        guests: Vec::new(),
        factors: FactorPolicy::default(),
        since: BootTime::default(),
    }
}

/// A daemon: the table, and whether it sleeps. Asleep, it gets no hint and fires no deadline.
struct Daemon {
    table: Table,
    index: Arc<Index>,
    asleep: bool,
    trail: Vec<Effect>,
}

impl Daemon {
    fn new(policy: &Policy) -> Self {
        let index = Arc::new(Index::default());
        let table = Table::new(SessionId::test(1), policy.clone(), Arc::clone(&index));
        Self { table, index, asleep: false, trail: Vec::new() }
    }

    fn hint(&mut self, client: ClientAddr, record: &Record, now: BootTime) {
        if !self.asleep {
            self.table.refresh_by(client, record, now, &mut self.trail);
        }
    }

    fn fire(&mut self, record: &Record, now: BootTime) {
        while !self.asleep {
            let Some((_, client)) = self.table.pop_due(now) else { break };
            self.table.refresh_by(client, record, now, &mut self.trail);
        }
    }

    /// As the proxy does it: a connection that has not been cleared asks the table where reopening matters.
    fn authorise(&mut self, client: ClientAddr, record: &Record, now: BootTime, cleared: bool) -> Decision {
        let table_first = self.table.policy().timeouts.revalidate == Revalidate::OnReopen && !cleared;
        match self.index.published(client, now) {
            Some(decision) if !table_first => decision,
            _ => self.table.check_by(client, record, now, &mut self.trail),
        }
    }
}

/// Remembers all that ever happened to one client and decides by scanning it.
struct Model {
    mode: Mode,
    lifetime: bool,
    revalidate: Revalidate,
    open: u32,
    half: u32,
    /// When the client's connections that it had not ended came to be none, or when it came to count as open again: either says
    /// that it was away.
    left: Vec<u64>,
    /// Times in which it counts as open; the last may be still to come, or run on.
    held: Vec<(u64, u64)>,
    data: Vec<u64>,
    session: Option<ModelSession>,
}

#[derive(Clone, Copy)]
struct ModelSession {
    user: u8,
    created: u64,
    proved: u64,
    counted_from: u64,
}

impl Model {
    /// Whether the timeout ran out at some moment after the last proof, up to now.
    fn ran_out(&self, session: &ModelSession, now: u64) -> bool {
        match self.mode {
            Mode::Session => {
                let mut periods = self.closed_periods(now).into_iter();
                periods.any(|(from, to)| to > session.proved && to - from.max(session.proved) >= TIMEOUT)
            }
            Mode::Traffic => {
                let moments = self.data.iter().copied().filter(|at| *at > session.proved).chain([now]);
                let mut last = session.proved;
                moments.into_iter().any(|at| at - std::mem::replace(&mut last, at) >= TIMEOUT)
            }
            Mode::Absolute => now >= session.counted_from + TIMEOUT,
        }
    }

    fn over(&self, session: &ModelSession, now: u64) -> bool {
        self.lifetime && now >= session.created + LIFETIME
    }

    /// When it did not count as open, up to `now`.
    fn closed_periods(&self, now: u64) -> Vec<(u64, u64)> {
        let mut held = self.held.clone();
        held.sort_unstable();
        let mut closed = Vec::new();
        let mut until = START;
        for (from, to) in held.into_iter().chain([(now, now)]) {
            if from > until {
                closed.push((until, from));
            }
            until = until.max(to);
        }
        closed
    }

    fn left_since(&self, proved: u64) -> bool {
        self.left.iter().any(|at| *at > proved)
    }

    fn opened(&mut self, now: u64) {
        if self.open == 0 {
            self.comes_back(now);
            self.held.push((now, u64::MAX));
        }
        self.open += 1;
    }

    /// One that the client had not ended is no more.
    fn less_open(&mut self, now: u64) {
        self.open -= 1;
        if self.open == 0 {
            self.left.push(now);
            self.held.iter_mut().filter(|(_, to)| *to == u64::MAX).for_each(|(_, to)| *to = now);
        }
    }

    /// One that it has ended holds it open from now on.
    fn holds(&mut self, now: u64) {
        self.comes_back(now);
        self.held.push((now, now + GRACE));
    }

    /// Whoever comes to count as open again was away.
    fn comes_back(&mut self, now: u64) {
        if self.held.iter().all(|(_, to)| *to <= now) {
            self.left.push(now);
        }
    }

    fn less_half(&mut self, now: u64) {
        self.half -= 1;
        if self.half == 0 {
            let running = |(_, to): &&mut (u64, u64)| *to != u64::MAX;
            self.held.iter_mut().filter(running).for_each(|(_, to)| *to = (*to).min(now));
        }
    }

    /// Who is served, on a session created when.
    fn served(&self, now: u64, cleared: bool) -> Option<(u8, u64)> {
        let session = self.session.as_ref()?;
        let reopened = self.revalidate == Revalidate::OnReopen && !cleared && self.left_since(session.proved);
        let valid = !self.over(session, now) && !self.ran_out(session, now) && !reopened;
        valid.then_some((session.user, session.created))
    }

    /// The proof was given at `at`, and is admitted `now`.
    fn prove(&mut self, user: u8, at: u64, now: u64) {
        self.session = Some(match self.session {
            Some(old) if old.user == user && !self.over(&old, now) => {
                // Credentials volunteered on a valid session change nothing (the request that carries them is data on
                // an open connection, so no clock has run for long), unless reopening asked for them.
                if self.ran_out(&old, now) {
                    ModelSession { proved: at, counted_from: now, ..old }
                } else if self.revalidate == Revalidate::OnReopen && self.left_since(old.proved) {
                    ModelSession { proved: at, ..old }
                } else {
                    old
                }
            }
            _ => ModelSession { user, created: now, proved: at, counted_from: now },
        });
    }
}

fn run(mode: Mode, lifetime: bool, revalidate: Revalidate, steps: &[Step]) -> Result<(), TestCaseError> {
    let client = ClientAddr::from_v4([10, 0, 0, 1]);
    let people = [0_u8, 1].map(|n| Arc::new(Identity::new(&format!("user{n}"), "R", "R")));
    let policy = policy(mode, lifetime, revalidate);
    let mut daemons = [Daemon::new(&policy), Daemon::new(&policy)];
    let mut now = START;
    let mut record = Record::starting(now);
    let mut model = Model {
        mode,
        lifetime,
        revalidate,
        open: 0,
        half: 0,
        left: vec![now],
        held: Vec::new(),
        data: Vec::new(),
        session: None,
    };
    // Whether any connection open now has been cleared, by a proof or a decision, since the last reopening.
    let mut cleared = false;

    for step in steps {
        let at = |now: u64| BootTime::from_nanos(now);
        let open = |record: &mut Record,
                    model: &mut Model,
                    daemons: &mut [Daemon; 2],
                    cleared: &mut bool,
                    now: u64| {
            *cleared &= model.open > 0;
            model.opened(now);
            record.on_open(now, TIMEOUT);
            daemons.iter_mut().for_each(|daemon| daemon.hint(client, record, at(now)));
        };
        match *step {
            Step::Wait(span) => {
                // Deadlines of a daemon that is awake fire on their way.
                let target = now + span;
                let due = daemons.iter().filter(|d| !d.asleep).filter_map(|d| d.table.next_deadline());
                let mut stops: Vec<u64> = due.map(BootTime::as_nanos).filter(|at| *at < target).collect();
                stops.sort_unstable();
                for stop in stops {
                    daemons.iter_mut().for_each(|daemon| daemon.fire(&record, at(stop.max(now))));
                }
                now = target;
                daemons.iter_mut().for_each(|daemon| daemon.fire(&record, at(now)));
            }
            Step::Open => open(&mut record, &mut model, &mut daemons, &mut cleared, now),
            Step::Close => {
                record.on_close(now, false);
                if model.open > 0 {
                    model.less_open(now);
                }
                daemons.iter_mut().for_each(|daemon| daemon.hint(client, &record, at(now)));
            }
            Step::End => {
                record.on_end(now);
                if model.open > 0 {
                    model.half += 1;
                    model.holds(now);
                    model.less_open(now);
                }
                daemons.iter_mut().for_each(|daemon| daemon.hint(client, &record, at(now)));
            }
            Step::Deliver => {
                record.on_delivered(now, TIMEOUT);
                if model.half > 0 {
                    model.holds(now);
                }
            }
            Step::CloseEnded => {
                record.on_close(now, true);
                if model.half > 0 {
                    model.less_half(now);
                }
                daemons.iter_mut().for_each(|daemon| daemon.hint(client, &record, at(now)));
            }
            Step::Data => {
                record.on_data(now, TIMEOUT, Direction::Sent, 1, true);
                model.data.push(now);
            }
            Step::Request | Step::Prove(_) => {
                if record.open == 0 {
                    open(&mut record, &mut model, &mut daemons, &mut cleared, now);
                }
                record.on_data(now, TIMEOUT, Direction::Received, 1, true);
                model.data.push(now);
                now += 1;
                if let Step::Prove(Proved { user, takes, leaves }) = *step {
                    let given = now;
                    if leaves {
                        let left = now + 1;
                        while record.open > 0 {
                            record.on_close(left, false);
                            model.less_open(left);
                        }
                        daemons.iter_mut().for_each(|daemon| daemon.hint(client, &record, at(left)));
                    }
                    now += takes;
                    daemons.iter_mut().for_each(|daemon| daemon.fire(&record, at(now)));
                    model.prove(user, given, now);
                    cleared = true;
                    let proof = Proof {
                        client,
                        identity: Arc::clone(&people[usize::from(user)]),
                        method: Method::Kerberos,
                        factors: Factors::NONE,
                        enrolled: Factors::NONE,
                        at: at(given),
                        connection: None,
                        device: None,
                    };
                    for daemon in &mut daemons {
                        let admission = daemon.table.prove_by(&proof, &record, at(now), &mut daemon.trail);
                        prop_assert_eq!(
                            admission.map(|a| a.admitted.identity),
                            Ok(Arc::clone(&proof.identity))
                        );
                    }
                }
                let expected = model.served(now, cleared);
                for (name, daemon) in ["awake", "asleep"].iter().zip(&mut daemons) {
                    let decided = match daemon.authorise(client, &record, at(now), cleared) {
                        Decision::Allow(admitted) => daemon.table.session(client).map(|session| {
                            assert_eq!(session.id, admitted.session);
                            (u8::from(admitted.identity == people[1]), session.created.as_nanos())
                        }),
                        Decision::Challenge | Decision::StepUp(_) | Decision::Deny(_) => None,
                    };
                    prop_assert_eq!(decided, expected, "the daemon that is {}, at {}", name, now);
                }
                cleared |= expected.is_some();
            }
            Step::Logout => {
                model.session = None;
                for daemon in &mut daemons {
                    daemon.table.end(client, Reason::Logout, at(now), &mut daemon.trail);
                }
            }
            Step::Sleep(asleep) => daemons[1].asleep = asleep,
        }
        prop_assert_eq!((record.open, record.half), (model.open, model.half));
    }

    for daemon in &mut daemons {
        let licences = u32::from(daemon.table.sessions().any(|session| session.state == State::Active));
        prop_assert_eq!(daemon.table.licences_used(), licences);
        // Every session that began has ended, or is still there: exactly one end each.
        let count = |wanted: fn(&event::What) -> bool| {
            daemon
                .trail
                .iter()
                .filter(|effect| matches!(effect, Effect::Audit(event) if wanted(&event.what)))
                .count()
        };
        let logins = count(|what| matches!(what, event::What::Login(_)));
        let ends = count(|what| matches!(what, event::What::Ended { .. }));
        prop_assert_eq!(logins, ends + daemon.table.len());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn decides_as_the_reference_does_awake_or_asleep(
        mode in prop_oneof![Just(Mode::Session), Just(Mode::Traffic), Just(Mode::Absolute)],
        lifetime in any::<bool>(),
        reopen in any::<bool>(),
        steps in steps(),
    ) {
        let revalidate = if reopen { Revalidate::OnReopen } else { Revalidate::OnTimeout };
        run(mode, lifetime, revalidate, &steps)?;
    }
}
