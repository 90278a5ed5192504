//! One answer: in any situation [`decide`], its explanation and the loop's table agree, and whenever the index answers by
//! itself, it answers the same. A small gateway with one ordinary client, one that is a shared host at times, and all that
//! may happen to them.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tracker_ebpf::record::{Direction, Record};

use super::evidence::Presence;
use super::factors::Demand;
use super::settings::{DeviceChange, Mode, Revalidate, Timeouts};
use super::testing::policy;
use super::*;
use crate::clock::BootTime;
use crate::types::{ClientAddr, ConnectionId, Device, Factor, Factors, Identity, Method, Scope, SessionId};

const TIMEOUT: u64 = 100;
const LIFETIME: u64 = 700;
const START: u64 = 10_000;
const CLIENTS: [ClientAddr; 2] = [ClientAddr::from_v4([10, 0, 0, 1]), ClientAddr::from_v4([10, 0, 0, 2])];
const SLOTS: usize = 3;

fn at(nanos: u64) -> BootTime {
    BootTime::from_nanos(nanos)
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    mode: Mode,
    lifetime: bool,
    reopen: bool,
    devices: bool,
    shared: bool,
    demand: Option<Demand>,
}

impl Settings {
    fn policy(self) -> Policy {
        let timeouts = Timeouts {
            timeout: Duration::from_nanos(TIMEOUT),
            mode: self.mode,
            lifetime_enabled: self.lifetime,
            lifetime_timeout: Duration::from_nanos(LIFETIME),
            revalidate: if self.reopen { Revalidate::OnReopen } else { Revalidate::OnTimeout },
            device_change: if self.devices { DeviceChange::Reauthenticate } else { DeviceChange::Ignore },
            shared_hosts: if self.shared { vec!["10.0.0.2/32".parse().unwrap()] } else { Vec::new() },
            ..Timeouts::default()
        };
        let realms = self.demand.into_iter().map(|demand| ("r".to_owned(), demand)).collect();
        Policy { factors: FactorPolicy { realms, ..FactorPolicy::default() }, ..policy(timeouts) }
    }
}

prop_compose! {
    fn settings()(
        mode in prop_oneof![Just(Mode::Session), Just(Mode::Traffic), Just(Mode::Absolute)],
        lifetime in any::<bool>(), reopen in any::<bool>(), devices in any::<bool>(), shared in any::<bool>(),
        demand in prop_oneof![4 => Just(None), 1 => Just(Some(Demand::Always)), 1 => Just(Some(Demand::IfEnrolled))],
    ) -> Settings {
        Settings { mode, lifetime, reopen, devices, shared, demand }
    }
}

/// A connection: of which client, and in which of its slots.
type Slot = (usize, usize);

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    Open(Slot),
    Close(Slot),
    /// The client ends its side.
    End(Slot),
    Data(Slot),
    /// A request without credentials; whether the record can be read.
    Request(Slot, bool),
    /// Which user, with which factors proved and set up.
    Prove(Slot, u8, bool, bool),
    Logout(usize),
    /// Another device at the first client's address; `None` if it is not known.
    Device(Option<u8>),
    /// Whether the observer sees.
    Health(bool),
    Settings(Settings),
    /// Whether the loop hears of what clients do.
    Sleep(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let slot = || (0..CLIENTS.len(), 0..SLOTS);
    let step = prop_oneof![
        5 => (1..TIMEOUT / 2).prop_map(Step::Wait),
        3 => (TIMEOUT - 2..=TIMEOUT + 2).prop_map(Step::Wait),
        1 => (LIFETIME / 2..LIFETIME).prop_map(Step::Wait),
        4 => slot().prop_map(Step::Open),
        3 => slot().prop_map(Step::Close),
        1 => slot().prop_map(Step::End),
        3 => slot().prop_map(Step::Data),
        6 => (slot(), prop::bool::weighted(0.9)).prop_map(|(slot, readable)| Step::Request(slot, readable)),
        8 => (slot(), 0..2_u8, any::<bool>(), any::<bool>()).prop_map(|(slot, user, factor, enrolled)| {
            Step::Prove(slot, user, factor, enrolled)
        }),
        1 => (0..CLIENTS.len()).prop_map(Step::Logout),
        2 => prop::option::weighted(0.8, 1..3_u8).prop_map(Step::Device),
        1 => any::<bool>().prop_map(Step::Health),
        2 => settings().prop_map(Step::Settings),
        1 => any::<bool>().prop_map(Step::Sleep),
    ];
    prop::collection::vec(step, 1..60)
}

/// A connection.
struct Connection {
    id: ConnectionId,
    /// What happened on it.
    record: Record,
    /// Its client has ended its side.
    is_ended: bool,
    /// How many devices had been at the address when it was established.
    devices: u32,
    cleared: Option<SessionId>,
}

struct World {
    table: Table,
    index: Arc<Index>,
    hot: HotPolicy,
    now: u64,
    records: [Record; 2],
    slots: [[Option<Connection>; SLOTS]; 2],
    opened: u64,
    device: Option<Device>,
    devices: u32,
    watched_since: Option<BootTime>,
    /// Since when nothing is relied upon.
    degraded: Option<BootTime>,
    asleep: bool,
    out: Vec<Effect>,
}

/// What can be said of a client when nothing is known since a moment, as the observer says it.
fn known_until(evidence: Evidence, since: BootTime) -> Evidence {
    Evidence {
        open: 0,
        half_closed: 0,
        left_at: if evidence.open > 0 { Some(since) } else { evidence.left_at.map(|at| at.min(since)) },
        closed_from: match evidence.presence() {
            Presence::Open => Some(since),
            Presence::Closed(from) => from.map(|at| at.min(since)),
        },
        traffic_at: evidence.traffic_at.map(|at| at.min(since)),
        ..evidence
    }
}

impl World {
    fn new(settings: Settings) -> Self {
        let (policy, index) = (settings.policy(), Arc::new(Index::default()));
        let hot = HotPolicy::from(&policy.timeouts);
        Self {
            table: Table::new(SessionId::test(1), policy, Arc::clone(&index)),
            index,
            hot,
            now: START,
            records: [Record::starting(START); 2],
            slots: Default::default(),
            opened: 0,
            device: None,
            devices: 0,
            watched_since: Some(at(START)),
            degraded: None,
            asleep: false,
            out: Vec::new(),
        }
    }

    fn is_shared(&self, client: usize) -> bool {
        self.table.policy().timeouts.is_shared(CLIENTS[client])
    }

    fn scope(&self, client: usize, connection: ConnectionId) -> Scope {
        match self.is_shared(client) {
            true => Scope::connection(CLIENTS[client], connection),
            false => CLIENTS[client].into(),
        }
    }

    fn evidence(&self, client: usize) -> Evidence {
        let evidence = Evidence::from(&self.records[client]);
        self.degraded.map_or(evidence, |since| known_until(evidence, since))
    }

    /// The connection in a slot, and what is known of it.
    fn connection(&self, (client, slot): Slot) -> Option<(&Connection, Evidence, Arrival)> {
        let connection = self.slots[client][slot].as_ref()?;
        let evidence = match self.is_shared(client) {
            true => Evidence::from(&connection.record),
            false => self.evidence(client),
        };
        let arrival = Arrival {
            is_watched: true,
            is_of_earlier_device: client == 0 && connection.devices < self.devices,
            cleared: connection.cleared,
        };
        Some((connection, evidence, arrival))
    }

    fn facts<'a>(&self, client: usize, evidence: Option<&'a Evidence>, arrival: Arrival) -> Facts<'a> {
        let device = self.device.filter(|_| client == 0);
        Facts { evidence, device, watched_since: self.watched_since, arrival, now: at(self.now) }
    }

    /// As the loop does: another device ends the session, then time has its say.
    fn refresh(&mut self, client: usize) {
        let now = at(self.now);
        let Self { table, out, .. } = self;
        let own = table.session(CLIENTS[client]).and_then(|session| session.device);
        let is_replaced = client == 0 && own.zip(self.device).is_some_and(|(own, now)| own != now);
        if is_replaced && table.policy().timeouts.judges_devices() {
            table.end(CLIENTS[client], Reason::DeviceChanged, now, out);
        }
        let evidence = self.evidence(client);
        self.table.refresh(CLIENTS[client], &evidence, now, &mut self.out);
        for connection in self.slots[client].iter().flatten() {
            let scope = Scope::connection(CLIENTS[client], connection.id);
            self.table.refresh(scope, &Evidence::from(&connection.record), now, &mut self.out);
        }
    }

    fn hint(&mut self, client: usize) {
        if !self.asleep {
            self.refresh(client);
        }
    }

    fn refresh_all(&mut self) {
        (0..CLIENTS.len()).for_each(|client| self.refresh(client));
    }

    fn close(&mut self, (client, slot): Slot) {
        let Some(gone) = self.slots[client][slot].take() else { return };
        self.records[client].on_close(self.now, gone.is_ended);
        self.table.closed(Scope::connection(CLIENTS[client], gone.id), at(self.now), &mut self.out);
        self.hint(client);
    }

    fn step(&mut self, step: &Step) -> Result<(), TestCaseError> {
        self.now += 1;
        let now = self.now;
        match *step {
            Step::Wait(span) => self.now += span,
            Step::Open(slot @ (client, number)) => {
                self.close(slot);
                self.opened += 1;
                let id = ConnectionId::new(NonZeroU64::new(self.opened).unwrap());
                self.records[client].on_open(now, TIMEOUT);
                let record = Record { open: 1, opened_at: now, traffic_at: now, ..Record::default() };
                let devices = self.devices;
                self.slots[client][number] =
                    Some(Connection { id, record, is_ended: false, devices, cleared: None });
                self.hint(client);
            }
            Step::Close(slot) => self.close(slot),
            Step::End((client, slot)) => {
                if let Some(connection) = self.slots[client][slot].as_mut().filter(|one| !one.is_ended) {
                    connection.is_ended = true;
                    connection.record.on_end(now);
                    self.records[client].on_end(now);
                    self.hint(client);
                }
            }
            Step::Data((client, slot)) => self.data(client, slot),
            Step::Request(slot, readable) => self.request(slot, readable)?,
            Step::Prove(slot, user, factor, enrolled) => self.prove(slot, user, factor, enrolled),
            Step::Logout(client) => {
                let scopes: Vec<Scope> = self.table.of(CLIENTS[client]).map(Session::scope).collect();
                for scope in scopes {
                    self.table.end(scope, Reason::Admin, at(now), &mut self.out);
                }
            }
            Step::Device(number) => {
                let device = number.and_then(|number| Device::new(&[2, 0, 0, 0, 0, number]));
                self.devices += u32::from(device != self.device);
                self.device = device;
                self.refresh(0);
            }
            Step::Health(true) => {
                if self.degraded.take().is_some() {
                    self.watched_since = Some(at(now));
                    self.refresh_all();
                }
            }
            Step::Health(false) => {
                self.degraded = self.degraded.or(Some(at(now)));
                self.watched_since = None;
                self.refresh_all();
            }
            Step::Settings(settings) => {
                // What ran out by the old policy ends by it.
                self.refresh_all();
                let policy = Policy { since: at(now), ..settings.policy() };
                self.hot = HotPolicy::from(&policy.timeouts);
                self.table.set_policy(policy, at(now), &mut self.out);
                self.agree()?;
                self.refresh_all();
            }
            Step::Sleep(asleep) => self.asleep = asleep,
        }
        Ok(())
    }

    fn data(&mut self, client: usize, slot: usize) {
        if let Some(connection) = &mut self.slots[client][slot] {
            connection.record.on_traffic(self.now, TIMEOUT);
            self.records[client].on_data(self.now, TIMEOUT, Direction::Received, 1, true);
            self.now += 1;
        }
    }

    /// As the proxy does it: the index first, then the loop.
    fn request(&mut self, slot: Slot, readable: bool) -> Result<(), TestCaseError> {
        let (client, number) = slot;
        self.data(client, number);
        let Some((connection, evidence, arrival)) = self.connection(slot) else { return Ok(()) };
        let (id, cleared) = (connection.id, connection.cleared);
        let decision = match self.index.decide(&self.hot, CLIENTS[client], id, cleared, at(self.now)) {
            Some(decision) => decision,
            None => {
                // The loop asks as about a new connection.
                let arrival = Arrival { cleared: None, ..arrival };
                let facts = self.facts(client, readable.then_some(&evidence), arrival);
                let scope = self.scope(client, id);
                let expected = decide(&self.table.situation(scope, &facts));
                let decision = self.table.check(scope, &facts, &mut self.out);
                prop_assert_eq!(&decision, &expected.decision);
                // And what it did to the session changes nothing about that.
                let again = decide(&self.table.situation(scope, &facts)).decision;
                prop_assert_eq!(&decision, &again);
                decision
            }
        };
        if let Decision::Allow(admitted) = decision
            && let Some(connection) = &mut self.slots[client][number]
        {
            connection.cleared = Some(admitted.session);
        }
        Ok(())
    }

    fn prove(&mut self, slot: Slot, user: u8, factor: bool, enrolled: bool) {
        let (client, number) = slot;
        self.data(client, number);
        let Some((connection, evidence, arrival)) = self.connection(slot) else { return };
        // The tracker refuses those.
        if arrival.is_of_earlier_device && self.table.policy().timeouts.judges_devices() {
            return;
        }
        let with = |has: bool, factor| if has { Factors::NONE.with(factor) } else { Factors::NONE };
        let proof = Proof {
            client: CLIENTS[client],
            identity: Arc::new(Identity::new(&format!("user{user}"), "R", "R")),
            method: Method::Kerberos,
            factors: with(factor, Factor::Totp),
            enrolled: with(enrolled, Factor::Passkey),
            at: at(self.now),
            connection: Some(connection.id),
            device: self.device.filter(|_| client == 0 && !self.is_shared(client)),
        };
        let admission = self.table.prove(&proof, &evidence, at(self.now), &mut self.out).unwrap();
        if !matches!(admission.kind, table::AdmissionKind::Waits(_))
            && let Some(connection) = &mut self.slots[client][number]
        {
            connection.cleared = Some(admission.admitted.session);
        }
    }

    /// Whatever is asked, and whoever is asked: one answer.
    fn agree(&self) -> Result<(), TestCaseError> {
        for slot in (0..CLIENTS.len()).flat_map(|client| (0..SLOTS).map(move |slot| (client, slot))) {
            let Some((connection, evidence, arrival)) = self.connection(slot) else { continue };
            let client = slot.0;
            let facts = self.facts(client, Some(&evidence), arrival);
            let situation = self.table.situation(self.scope(client, connection.id), &facts);
            let decided = decide(&situation);

            let explained = explain(&situation, 0);
            prop_assert_eq!(&explained.decision, &decided.decision);
            let deciding: Vec<Rule> = explained
                .findings
                .iter()
                .filter(|finding| finding.decides)
                .map(|finding| finding.rule)
                .collect();
            prop_assert_eq!(deciding, vec![decided.rule], "{:?}", explained);
            let rules: Vec<Rule> = explained.findings.iter().map(|finding| finding.rule).collect();
            prop_assert!(rules.is_sorted(), "in the order in which they are asked: {rules:?}");

            let (cleared, now) = (connection.cleared, at(self.now));
            if let Some(answer) = self.index.decide(&self.hot, CLIENTS[client], connection.id, cleared, now) {
                prop_assert_eq!(&answer, &decided.decision, "{:?} by {}", slot, decided.rule);
            }

            // What is not served has a reason that the session or the policy bears out.
            let served = self.table.session(self.scope(client, connection.id));
            match decided.decision {
                Decision::Allow(admitted) => {
                    prop_assert_eq!(served.map(|session| session.id), Some(admitted.session));
                }
                Decision::StepUp(_) => prop_assert!(self.table.policy().factors.asks_anybody()),
                Decision::Challenge => {}
                Decision::Deny(_) => prop_assert!(false, "the connection is watched"),
            }
            let unwatched = Situation { arrival: Arrival { is_watched: false, ..arrival }, ..situation };
            let denied = decide(&unwatched);
            prop_assert_eq!(
                (denied.rule, denied.decision),
                (Rule::Watched, Decision::Deny(Denial::Unwatched))
            );
            let findings = explain(&unwatched, 0).findings;
            prop_assert_eq!(findings.iter().filter(|finding| finding.decides).count(), 1);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    #[test]
    fn index_loop_and_explanation_give_one_answer(settings in settings(), steps in steps()) {
        let mut world = World::new(settings);
        for step in &steps {
            world.step(step)?;
            world.agree()?;
            while let Some((_, scope)) = (!world.asleep).then(|| world.table.pop_due(at(world.now))).flatten() {
                world.refresh(usize::from(scope.client == CLIENTS[1]));
            }
            world.agree()?;
        }
        let active = world.table.sessions().filter(|session| session.state == State::Active);
        prop_assert_eq!(world.table.active(), active.count(), "only who is served takes a licence");
    }
}

/// Each outcome, and each rule that can decide, by an example.
#[test]
fn every_rule_decides_somewhere_and_every_outcome_is_reached() {
    let ten = at(10);
    let session = Session {
        id: SessionId::test(1),
        client: CLIENTS[0],
        connection: None,
        identity: Arc::new(Identity::new("alice", "R", "R")),
        method: Method::Kerberos,
        factors: Factors::NONE,
        enrolled: Factors::NONE,
        device: Device::new(&[2, 0, 0, 0, 0, 1]),
        created: ten,
        authenticated: ten,
        judged_from: ten,
        counted_from: ten,
        state: State::Active,
        traffic_before: None,
    };
    let stale =
        Session { state: State::Stale { reason: Reason::ClosedTimeout, since: ten }, ..session.clone() };
    let all = Settings {
        mode: Mode::Session,
        lifetime: true,
        reopen: true,
        devices: true,
        shared: true,
        demand: None,
    };
    let (policy, asking) = (all.policy(), Settings { demand: Some(Demand::Always), ..all }.policy());
    let open = Evidence { open: 1, ..Evidence::default() };
    let closed = Evidence { closed_from: Some(ten), ..Evidence::default() };
    let gap = Gap { start: ten, end: at(10 + TIMEOUT) };
    let allowed = Situation {
        client: CLIENTS[0],
        is_shared_host: false,
        session: Some(&session),
        evidence: Some(&open),
        device: session.device,
        watched_since: Some(ten),
        arrival: Arrival::NEW,
        policy: &policy,
        now: at(20),
    };
    let other = Device::new(&[2, 0, 0, 0, 0, 2]);
    let earlier = Arrival { is_of_earlier_device: true, ..Arrival::NEW };
    let cleared = Arrival { cleared: Some(SessionId::test(1)), ..earlier };
    let with_gap = Evidence { closed_gap: Some(gap), ..open };
    let left = Evidence { left_at: Some(at(15)), ..open };
    let challenge = Decision::Challenge;
    let allow = Decision::Allow(Admitted::from(&session));
    for (situation, rule, decision) in [
        (allowed, Rule::Timeout, allow.clone()),
        (
            Situation { arrival: Arrival { is_watched: false, ..cleared }, ..allowed },
            Rule::Watched,
            Decision::Deny(Denial::Unwatched),
        ),
        (Situation { session: None, is_shared_host: true, ..allowed }, Rule::SharedHost, challenge.clone()),
        (Situation { session: None, ..allowed }, Rule::Session, challenge.clone()),
        (Situation { device: other, ..allowed }, Rule::Device, challenge.clone()),
        (Situation { device: other, is_shared_host: true, ..allowed }, Rule::Timeout, allow.clone()),
        (Situation { device: other, evidence: None, ..allowed }, Rule::Device, challenge.clone()),
        (Situation { arrival: earlier, ..allowed }, Rule::Device, challenge.clone()),
        (Situation { arrival: earlier, is_shared_host: true, ..allowed }, Rule::Timeout, allow.clone()),
        (Situation { arrival: cleared, ..allowed }, Rule::Timeout, allow.clone()),
        (Situation { evidence: None, ..allowed }, Rule::Record, challenge.clone()),
        (Situation { now: at(10 + LIFETIME), ..allowed }, Rule::Lifetime, challenge.clone()),
        (Situation { session: Some(&stale), ..allowed }, Rule::State, challenge.clone()),
        (Situation { evidence: Some(&with_gap), now: at(300), ..allowed }, Rule::Gap, challenge.clone()),
        (Situation { evidence: Some(&closed), now: at(300), ..allowed }, Rule::Timeout, challenge.clone()),
        (Situation { evidence: Some(&left), ..allowed }, Rule::Revalidate, challenge.clone()),
        (Situation { evidence: Some(&left), arrival: cleared, ..allowed }, Rule::Timeout, allow.clone()),
        (Situation { evidence: Some(&left), is_shared_host: true, ..allowed }, Rule::Timeout, allow),
        (Situation { watched_since: None, ..allowed }, Rule::Revalidate, challenge),
        (Situation { policy: &asking, ..allowed }, Rule::Factor, Decision::StepUp(Factor::Totp)),
    ] {
        let decided = decide(&situation);
        assert_eq!((decided.rule, &decided.decision), (rule, &decision), "{situation:?}");
    }
}
