//! Shared hosts: each connection has a session of its own. Against a plain model that scans all that ever happened, and
//! one behaviour at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tracker_ebpf::record::Record;

use super::event::What;
use super::settings::{Mode, Revalidate, Timeouts};
use super::table::AdmissionKind;
use super::*;
use crate::clock::BootTime;
use crate::types::{ClientAddr, ConnectionId, Factors, Identity, Method, Scope, SessionId};

const TIMEOUT: u64 = 10_000;
const LIFETIME: u64 = 45_000;
const START: u64 = 1_000_000;
const SHARED: ClientAddr = ClientAddr::from_v4([10, 0, 0, 1]);
const ORDINARY: ClientAddr = ClientAddr::from_v4([10, 0, 0, 2]);
const SLOTS: usize = 4;
const DEVICES: u32 = 1;

fn at(nanos: u64) -> BootTime {
    BootTime::from_nanos(nanos)
}

fn id(number: u64) -> ConnectionId {
    ConnectionId::new(NonZeroU64::new(number).unwrap())
}

fn person(user: u8) -> Arc<Identity> {
    Arc::new(Identity::new(&format!("user{user}"), "R", "R"))
}

fn policy(mode: Mode, lifetime: bool, listed: bool) -> Policy {
    Policy {
        timeouts: Timeouts {
            timeout: Duration::from_nanos(TIMEOUT),
            mode,
            lifetime_enabled: lifetime,
            lifetime_timeout: Duration::from_nanos(LIFETIME),
            // Whatever it is: a connection does not open again.
            revalidate: Revalidate::OnReopen,
            shared_hosts: if listed { vec!["10.0.0.1/32".parse().unwrap()] } else { Vec::new() },
            ..Timeouts::default()
        },
        max_users: 0,
        devices_per_user: DEVICES,
        guests: Vec::new(),
        factors: FactorPolicy::default(),
        since: BootTime::default(),
    }
}

fn proof(client: ClientAddr, connection: Option<ConnectionId>, user: u8, now: u64) -> Proof {
    Proof {
        client,
        identity: person(user),
        method: Method::Kerberos,
        factors: Factors::NONE,
        enrolled: Factors::NONE,
        at: at(now),
        connection,
        device: None,
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    /// The connection in this slot is closed, and another opened.
    Anew(usize),
    Close(usize),
    Data(usize),
    Request(usize),
    Prove(usize, u8),
    ProveElsewhere(u8),
    LogoutClient,
    LogoutUser(u8),
    LogoutAll,
    List(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let slot = 0..SLOTS;
    let step = prop_oneof![
        4 => (1..4_000_u64).prop_map(Step::Wait),
        2 => (TIMEOUT - 2..=TIMEOUT + 2).prop_map(Step::Wait),
        1 => (LIFETIME / 2..LIFETIME).prop_map(Step::Wait),
        2 => slot.clone().prop_map(Step::Anew),
        1 => slot.clone().prop_map(Step::Close),
        3 => slot.clone().prop_map(Step::Data),
        5 => slot.clone().prop_map(Step::Request),
        6 => (slot, 0..3_u8).prop_map(|(slot, user)| Step::Prove(slot, user)),
        1 => (0..3_u8).prop_map(Step::ProveElsewhere),
        1 => Just(Step::LogoutClient),
        1 => (0..3_u8).prop_map(Step::LogoutUser),
        1 => Just(Step::LogoutAll),
        1 => prop::bool::weighted(0.7).prop_map(Step::List),
    ];
    prop::collection::vec(step, 1..80)
}

/// A connection, as it truly was.
struct Truth {
    id: ConnectionId,
    record: Record,
    data: Vec<u64>,
    session: Option<Held>,
}

#[derive(Clone, Copy)]
struct Held {
    user: u8,
    created: u64,
    proved: u64,
    counted_from: u64,
}

impl Truth {
    fn opened(number: u64, now: u64) -> Self {
        let record = Record { open: 1, opened_at: now, traffic_at: now, ..Record::default() };
        Self { id: id(number), record, data: Vec::new(), session: None }
    }

    fn moved(&mut self, now: u64) {
        self.record.on_traffic(now, TIMEOUT);
        self.data.push(now);
    }

    fn ran_out(&self, held: &Held, mode: Mode, now: u64) -> bool {
        match mode {
            Mode::Session => false,
            Mode::Traffic => {
                let mut last = held.proved;
                let moments = self.data.iter().copied().filter(|at| *at > held.proved).chain([now]);
                moments.into_iter().any(|at| at - std::mem::replace(&mut last, at) >= TIMEOUT)
            }
            Mode::Absolute => now >= held.counted_from + TIMEOUT,
        }
    }

    fn served(&self, mode: Mode, lifetime: bool, now: u64) -> Option<(u8, u64)> {
        let held = self.session.as_ref().filter(|held| !(lifetime && now >= held.created + LIFETIME))?;
        (!self.ran_out(held, mode, now)).then_some((held.user, held.created))
    }

    fn prove(&mut self, user: u8, mode: Mode, lifetime: bool, now: u64) {
        let old = self.session.filter(|old| old.user == user && !(lifetime && now >= old.created + LIFETIME));
        self.session = Some(match old {
            Some(old) if self.ran_out(&old, mode, now) => Held { proved: now, counted_from: now, ..old },
            Some(old) => old,
            None => Held { user, created: now, proved: now, counted_from: now },
        });
    }
}

/// The address as a whole, while it is not listed: always open and busy.
fn busy(now: u64) -> Record {
    Record { open: 1, opened_at: 1, traffic_at: now, ..Record::default() }
}

fn run(mode: Mode, lifetime: bool, awake: bool, steps: &[Step]) -> Result<(), TestCaseError> {
    let index = Arc::new(Index::default());
    let mut listed = true;
    let mut table = Table::new(SessionId::test(1), policy(mode, lifetime, listed), Arc::clone(&index));
    let (mut now, mut opened, mut out) = (START, 0_u64, Vec::new());
    let mut another = |now: u64| {
        opened += 1;
        Truth::opened(opened, now)
    };
    let mut slots: Vec<Option<Truth>> = (0..SLOTS).map(|_| Some(another(now))).collect();
    // Whether anybody has proved themselves for the address as a whole since it is not listed.
    let mut address_proved = false;

    for step in steps {
        let said = out.len();
        match *step {
            Step::Wait(span) => now += span,
            Step::Anew(slot) | Step::Close(slot) => {
                if let Some(gone) = slots[slot].take() {
                    table.closed(Scope::connection(SHARED, gone.id), at(now), &mut out);
                }
                if matches!(step, Step::Anew(_)) {
                    slots[slot] = Some(another(now));
                }
            }
            Step::Data(slot) => slots[slot].iter_mut().for_each(|truth| truth.moved(now)),
            Step::Request(slot) | Step::Prove(slot, _) => {
                let Some(truth) = &mut slots[slot] else { continue };
                truth.moved(now);
                now += 1;
                let connection = truth.id;
                if let Step::Prove(_, user) = *step {
                    let record = if listed { truth.record } else { busy(now) };
                    let admission = table.prove_by(
                        &proof(SHARED, Some(connection), user, now),
                        &record,
                        at(now),
                        &mut out,
                    );
                    prop_assert_eq!(admission.map(|a| a.admitted.identity), Ok(person(user)));
                    if listed {
                        truth.prove(user, mode, lifetime, now);
                    }
                    address_proved |= !listed;
                }
                if listed {
                    let scope = Scope::connection(SHARED, connection);
                    let decision = match index.published(Scope::connection(SHARED, connection), at(now)) {
                        Some(decision) => decision,
                        None => table.check_by(scope, &truth.record, at(now), &mut out),
                    };
                    let decided = match decision {
                        Decision::Allow(admitted) => table.session(scope).map(|session| {
                            assert_eq!(
                                (session.id, &session.identity),
                                (admitted.session, &admitted.identity)
                            );
                            let user = (0..3).find(|user| person(*user) == admitted.identity).unwrap();
                            (user, session.created.as_nanos())
                        }),
                        Decision::Challenge | Decision::StepUp(_) | Decision::Deny(_) => None,
                    };
                    prop_assert_eq!(decided, truth.served(mode, lifetime, now), "slot {} at {}", slot, now);
                } else if !address_proved {
                    prop_assert_eq!(index.published(SHARED, at(now)), Some(Decision::Challenge));
                }
            }
            Step::ProveElsewhere(user) => {
                let record = busy(now);
                table.prove_by(&proof(ORDINARY, None, user, now), &record, at(now), &mut out).unwrap();
            }
            Step::LogoutClient => {
                let scopes: Vec<Scope> = table.of(SHARED).map(Session::scope).collect();
                for scope in scopes {
                    table.end(scope, Reason::Admin, at(now), &mut out);
                }
                slots.iter_mut().flatten().for_each(|truth| truth.session = None);
                address_proved = false;
            }
            Step::LogoutUser(_) | Step::LogoutAll => {
                let meant = |user: u8| match *step {
                    Step::LogoutUser(only) => user == only,
                    _ => true,
                };
                let scopes: Vec<Scope> = table
                    .sessions()
                    .filter(|session| (0..3).any(|user| meant(user) && person(user) == session.identity))
                    .map(Session::scope)
                    .collect();
                for scope in scopes {
                    table.end(scope, Reason::Admin, at(now), &mut out);
                }
                for truth in slots.iter_mut().flatten() {
                    truth.session = truth.session.filter(|held| !meant(held.user));
                }
            }
            Step::List(wanted) => {
                // What ran out before ends by the policy before, as the loop does it.
                if wanted != listed {
                    table.set_policy(policy(mode, lifetime, wanted), at(now), &mut out);
                    slots.iter_mut().flatten().for_each(|truth| truth.session = None);
                    prop_assert_eq!(table.of(SHARED).count(), 0, "nobody is left, and nobody revived");
                    (listed, address_proved) = (wanted, false);
                }
            }
        }
        while let Some((_, scope)) = awake.then(|| table.pop_due(at(now))).flatten() {
            let own = slots.iter().flatten().find(|truth| scope.connection == Some(truth.id));
            let record = own.map_or(busy(now), |truth| truth.record);
            table.refresh_by(scope, &record, at(now), &mut out);
        }

        // Whatever is counted is what all sessions together say.
        let (mut places, mut active) = (BTreeSet::new(), 0);
        for session in table.sessions().filter(|session| session.state == State::Active) {
            active += 1;
            places.insert((session.identity.key().to_owned(), session.client));
        }
        let mut devices = BTreeMap::<String, u32>::new();
        places.into_iter().for_each(|(user, _)| *devices.entry(user).or_default() += 1);
        prop_assert_eq!((table.active(), table.active_users()), (active, devices.len()));
        prop_assert_eq!(
            table.licences_used(),
            devices.values().map(|count| count.div_ceil(DEVICES)).sum::<u32>()
        );
        let of: BTreeSet<Scope> = table.of(SHARED).chain(table.of(ORDINARY)).map(Session::scope).collect();
        prop_assert_eq!(of, table.sessions().map(Session::scope).collect::<BTreeSet<_>>());
        // A session is of a connection that is open, or of an address that is not shared.
        for scope in table.of(SHARED).map(Session::scope) {
            let open = slots.iter().flatten().any(|truth| scope.connection == Some(truth.id));
            prop_assert_eq!((open, scope.connection.is_some()), (listed, listed));
        }
        // It dies with the daemon, so that none is kept.
        let kept = out.iter().skip(said).any(|effect| *effect == Effect::Keep(SHARED));
        prop_assert!(!kept || !listed || matches!(step, Step::List(_)));
    }

    let count = |wanted: fn(&What) -> bool| {
        out.iter().filter(|effect| matches!(effect, Effect::Audit(event) if wanted(&event.what))).count()
    };
    let logins = count(|what| matches!(what, What::Login(_)));
    let ends = count(|what| matches!(what, What::Ended { .. }));
    prop_assert_eq!(logins, ends + table.len(), "each login has one end");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn each_connection_is_decided_about_as_the_reference_does_awake_or_asleep(
        mode in prop_oneof![Just(Mode::Session), Just(Mode::Traffic), Just(Mode::Absolute)],
        lifetime in any::<bool>(),
        awake in any::<bool>(),
        steps in steps(),
    ) {
        run(mode, lifetime, awake, &steps)?;
    }
}

/// A table with the shared host listed, and what it said.
struct World {
    table: Table,
    index: Arc<Index>,
    now: u64,
    out: Vec<Effect>,
}

impl World {
    fn new(change: impl FnOnce(&mut Policy)) -> Self {
        let mut policy = policy(Mode::Session, true, true);
        change(&mut policy);
        let index = Arc::new(Index::default());
        Self {
            table: Table::new(SessionId::test(1), policy, Arc::clone(&index)),
            index,
            now: START,
            out: Vec::new(),
        }
    }

    fn prove(&mut self, connection: u64, user: u8) -> Result<Admission, Refused> {
        let record = Record { open: 1, opened_at: self.now, traffic_at: self.now, ..Record::default() };
        let proof = proof(SHARED, Some(id(connection)), user, self.now);
        self.table.prove_by(&proof, &record, at(self.now), &mut self.out)
    }

    /// Reasons and users of what ended, and the connections that were destroyed for it.
    fn ended(&mut self) -> Vec<(Reason, String, Option<ConnectionId>)> {
        let mut destroyed = None;
        let ended = self.out.drain(..).filter_map(|effect| match effect {
            Effect::Destroy { scope, .. } => {
                destroyed = scope.connection;
                None
            }
            Effect::Audit(Event { what: What::Ended { reason, .. }, identity, .. }) => {
                Some((reason, identity.user().to_owned(), destroyed))
            }
            Effect::Audit(_) | Effect::Keep(_) => None,
        });
        ended.collect()
    }
}

#[test]
fn another_user_on_the_same_connection_kicks_out_only_there() {
    let mut world = World::new(|_| ());
    world.prove(1, 1).unwrap();
    world.prove(2, 1).unwrap();
    world.out.clear();
    assert_eq!(world.prove(1, 2).unwrap().kind, AdmissionKind::TookOver);
    assert_eq!(world.ended(), [(Reason::Kicked, "user1".into(), Some(id(1)))]);
    let users: Vec<_> = world.table.of(SHARED).map(|session| session.identity.user().to_owned()).collect();
    assert_eq!(users, ["user2", "user1"]);
}

#[test]
fn a_connection_that_closes_ends_its_session_and_the_deadline_reaches_the_others() {
    let mut world = World::new(|_| ());
    world.prove(1, 1).unwrap();
    world.prove(2, 2).unwrap();
    world.table.closed(Scope::connection(SHARED, id(1)), at(world.now + 5), &mut world.out);
    assert_eq!(world.ended(), [(Reason::ClosedTimeout, "user1".into(), Some(id(1)))]);
    // An address as a whole does not close that way.
    world.table.closed(SHARED.into(), at(world.now + 5), &mut world.out);
    assert_eq!(
        world.index.published(Scope::connection(SHARED, id(1)), at(world.now)),
        Some(Decision::Challenge)
    );
    let (due, scope) = world.table.pop_due(at(world.now + LIFETIME)).unwrap();
    assert_eq!((due, scope), (at(world.now + LIFETIME), Scope::connection(SHARED, id(2))));
    world.table.refresh_by(scope, &Record { open: 1, ..Record::default() }, due, &mut world.out);
    assert_eq!(world.ended(), [(Reason::Lifetime, "user2".into(), Some(id(2)))]);
    assert!(world.table.is_empty() && world.table.next_deadline().is_none());
}

#[test]
fn a_connection_whose_session_is_stale_ends_it_for_what_it_is_stale_for() {
    let mut world = World::new(|policy| policy.timeouts.mode = Mode::Traffic);
    world.prove(1, 1).unwrap();
    let scope = Scope::connection(SHARED, id(1));
    let (due, _) = world.table.pop_due(at(world.now + LIFETIME)).unwrap();
    let silent = Record { open: 1, traffic_at: world.now, ..Record::default() };
    world.table.refresh_by(scope, &silent, due, &mut world.out);
    assert!(matches!(world.table.session(scope).unwrap().state, State::Stale { .. }));
    world.table.closed(scope, due, &mut world.out);
    assert_eq!(world.ended(), [(Reason::TrafficTimeout, "user1".into(), Some(id(1)))]);
}

#[test]
fn a_users_connections_on_a_shared_host_are_one_device() {
    let mut world = World::new(|policy| policy.max_users = 2);
    for connection in 1..=9 {
        world.prove(connection, 1).unwrap();
    }
    assert_eq!((world.table.licences_used(), world.table.active(), world.table.active_users()), (1, 9, 1));
    world.prove(10, 2).unwrap();
    assert_eq!(world.prove(11, 3), Err(Refused::Licences { max: 2 }));
    // Where user1 is kicked out of one connection of nine, no licence is freed.
    assert_eq!(world.prove(1, 3), Err(Refused::Licences { max: 2 }));
    assert_eq!(world.prove(10, 3).map(|admission| admission.kind), Ok(AdmissionKind::TookOver));
    for connection in 2..=9 {
        world.table.closed(Scope::connection(SHARED, id(connection)), at(world.now), &mut world.out);
    }
    assert_eq!(world.table.licences_used(), 2);
    assert_eq!(
        world.prove(1, 2).map(|admission| admission.kind),
        Ok(AdmissionKind::TookOver),
        "the last one"
    );
    assert_eq!((world.table.licences_used(), world.table.active()), (2, 2));
}

#[test]
fn listing_and_unlisting_end_what_is_there_at_once() {
    let mut world = World::new(|policy| policy.timeouts.shared_hosts.clear());
    world.prove(1, 1).unwrap();
    assert!(world.table.session(SHARED).is_some(), "not listed: of the address");
    world.out.clear();
    let now = at(world.now);
    world.table.set_policy(policy(Mode::Session, true, true), now, &mut world.out);
    assert_eq!(world.ended(), [(Reason::Admin, "user1".into(), None)]);
    assert_eq!((world.table.len(), world.table.licences_used()), (0, 0));
    world.prove(1, 1).unwrap();
    assert!(matches!(world.index.published(Scope::connection(SHARED, id(1)), now), Some(Decision::Allow(_))));
    world.out.clear();
    world.table.set_policy(policy(Mode::Session, true, false), now, &mut world.out);
    assert_eq!(world.ended(), [(Reason::Admin, "user1".into(), Some(id(1)))]);
    assert_eq!(world.index.published(SHARED, now), Some(Decision::Challenge), "nothing is revived");
    // An address that is shared by now, kept by a version that let its session be.
    world.prove(1, 1).unwrap();
    let kept = world.table.session(SHARED).cloned().unwrap();
    let mut world = World::new(|_| ());
    world.table.restore(kept);
    world.table.end_misplaced(now, &mut world.out);
    assert_eq!((world.ended().len(), world.table.len()), (1, 0));
}

#[test]
fn without_a_connection_nobody_is_logged_in_on_a_shared_host() {
    let mut world = World::new(|_| ());
    let proof = proof(SHARED, None, 1, world.now);
    let refused = world.table.prove_by(&proof, &busy(world.now), at(world.now), &mut world.out);
    assert_eq!(refused, Err(Refused::SharedHost));
    assert!(world.table.is_empty() && world.out.is_empty());
}
