//! Licences against a plain model: who takes how many is counted anew from who is logged in where, whatever happens in between.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tracker_ebpf::record::Record;

use super::table::STALE_RETENTION;
use super::*;
use crate::clock::BootTime;
use crate::types::{ClientAddr, ConnectionId, Factors, Identity, Method, Scope, SessionId};

const TIMEOUT: u64 = 1_000;
const CLIENTS: u8 = 6;
/// The first of them may be a shared host.
const SHARED: u8 = 0;

#[derive(Clone, Debug)]
enum Step {
    /// From this client, on this connection, by this user.
    Prove(u8, u64, u8),
    /// Of this client, or this connection.
    End(u8, u64),
    Wait(u64),
    /// The limit, devices, which clients are guests, and whether the first is a shared host.
    Policy(u32, u32, BTreeSet<u8>, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let policy = (0..5_u32, 1..4_u32, prop::collection::btree_set(0..CLIENTS, 0..4), any::<bool>());
    let step = prop_oneof![
        8 => (0..CLIENTS, 1..4_u64, 0..5_u8).prop_map(|(client, one, user)| Step::Prove(client, one, user)),
        2 => (0..CLIENTS, 1..4_u64).prop_map(|(client, one)| Step::End(client, one)),
        3 => prop_oneof![0..TIMEOUT, Just(TIMEOUT), Just(TIMEOUT - 1)].prop_map(Step::Wait),
        2 => policy.prop_map(|(max, devices, guests, shared)| Step::Policy(max, devices, guests, shared)),
    ];
    prop::collection::vec(step, 1..80)
}

fn address(client: u8) -> ClientAddr {
    ClientAddr::from_v4([10, 0, 0, client])
}

/// Who is logged in where: the user, and when the session's time is over.
type Place = (u8, Option<u64>);

struct Model {
    max: u32,
    devices: u32,
    guests: BTreeSet<u8>,
    is_shared: bool,
    sessions: BTreeMap<Place, (u8, u64)>,
}

impl Model {
    fn place(&self, client: u8, connection: u64) -> Place {
        (client, (self.is_shared && client == SHARED).then_some(connection))
    }

    /// What these sessions take at that moment.
    fn used(&self, sessions: &BTreeMap<Place, (u8, u64)>, now: u64) -> BTreeMap<u8, u32> {
        let mut devices: BTreeMap<u8, BTreeSet<u8>> = BTreeMap::new();
        for ((client, _), (user, until)) in sessions {
            if *until > now && !self.guests.contains(client) {
                devices.entry(*user).or_default().insert(*client);
            }
        }
        let taken = |of: &BTreeSet<u8>| (of.len() as u32).div_ceil(self.devices);
        devices.iter().map(|(user, of)| (*user, taken(of))).collect()
    }

    fn licences(&self, now: u64) -> u32 {
        self.used(&self.sessions, now).values().sum()
    }

    /// Whether the user is let in.
    fn prove(&mut self, place: Place, user: u8, now: u64) -> bool {
        let standing = self.sessions.get(&place).copied();
        if standing.is_some_and(|(of, until)| of == user && until > now) {
            return true;
        }
        let mut after = self.sessions.clone();
        after.insert(place, (user, now + TIMEOUT));
        let (before, used) = (self.used(&self.sessions, now), self.used(&after, now));
        let takes_more = used.get(&user) > before.get(&user);
        if self.max > 0 && takes_more && used.values().sum::<u32>() > self.max {
            return false;
        }
        self.sessions = after;
        true
    }
}

fn policy(model: &Model, now: u64) -> Policy {
    let network = |client: &u8| format!("10.0.0.{client}/32").parse().unwrap();
    Policy {
        timeouts: Timeouts {
            timeout: Duration::from_nanos(TIMEOUT),
            mode: Mode::Absolute,
            shared_hosts: if model.is_shared { vec![network(&SHARED)] } else { Vec::new() },
            ..Timeouts::default()
        },
        max_users: model.max,
        devices_per_user: model.devices,
        guests: model.guests.iter().map(network).collect(),
        factors: FactorPolicy::default(),
        since: BootTime::from_nanos(now),
    }
}

fn run(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut now = 1_000_000_u64;
    let mut model =
        Model { max: 2, devices: 2, guests: BTreeSet::new(), is_shared: false, sessions: BTreeMap::new() };
    let index = Arc::new(Index::default());
    let mut table = Table::new(SessionId::test(1), policy(&model, 0), index);
    let (record, mut out) = (Record::starting(1), Vec::new());
    let connection = |one: u64| ConnectionId::new(NonZeroU64::new(one).unwrap());
    for step in steps {
        let at = BootTime::from_nanos(now);
        match step {
            Step::Prove(client, one, user) => {
                let proof = Proof {
                    client: address(client),
                    identity: Arc::new(Identity::new(&format!("user{user}"), "R", "R")),
                    method: Method::Kerberos,
                    factors: Factors::NONE,
                    enrolled: Factors::NONE,
                    at,
                    connection: Some(connection(one)),
                    device: None,
                };
                let (place, max) = (model.place(client, one), model.max);
                let expected = model.prove(place, user, now);
                let found = table.prove_by(&proof, &record, at, &mut out).map(|_| ());
                prop_assert_eq!(found, if expected { Ok(()) } else { Err(Refused::Licences { max }) });
            }
            Step::End(client, one) => {
                let place = model.place(client, one);
                model.sessions.remove(&place);
                let scope = Scope { client: address(client), connection: place.1.map(connection) };
                table.end(scope, Reason::Logout, at, &mut out);
            }
            Step::Wait(span) => now += span,
            Step::Policy(max, devices, guests, is_shared) => {
                (model.max, model.devices, model.guests) = (max, devices, guests);
                if is_shared != model.is_shared {
                    model.is_shared = is_shared;
                    model.sessions.retain(|(client, _), _| *client != SHARED);
                }
                let served = table.active();
                table.set_policy(policy(&model, now), at, &mut out);
                let shared_gone = model.sessions.values().filter(|(_, until)| *until > now).count();
                prop_assert!(table.active() == shared_gone && table.active() <= served, "nobody is harmed");
            }
        }
        let at = BootTime::from_nanos(now);
        while let Some((_, scope)) = table.pop_due(at) {
            table.refresh_by(scope, &record, at, &mut out);
        }
        prop_assert_eq!(table.licences_used(), model.licences(now));
        let active: BTreeSet<u8> =
            model.sessions.values().filter(|(_, until)| *until > now).map(|(user, _)| *user).collect();
        prop_assert_eq!(table.active_users(), active.len());
        prop_assert!(now < STALE_RETENTION.as_nanos() as u64, "nothing is forgotten");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn licences_are_taken_refused_and_freed_as_the_model_says(steps in steps()) {
        run(steps)?;
    }
}

#[test]
fn guests_take_no_licence_and_are_let_in_when_there_is_none() {
    let mut model =
        Model { max: 1, devices: 1, guests: [2, 3].into(), is_shared: false, sessions: BTreeMap::new() };
    let index = Arc::new(Index::default());
    let mut table = Table::new(SessionId::test(1), policy(&model, 0), index);
    let (record, at, mut out) = (Record::starting(1), BootTime::from_nanos(1_000_000), Vec::new());
    let mut prove = |table: &mut Table, client: u8, user: &str| {
        let proof = Proof {
            client: address(client),
            identity: Arc::new(Identity::new(user, "R", "R")),
            method: Method::Kerberos,
            factors: Factors::NONE,
            enrolled: Factors::NONE,
            at,
            connection: None,
            device: None,
        };
        table.prove_by(&proof, &record, at, &mut out).map(|_| table.licences_used())
    };
    assert_eq!(prove(&mut table, 1, "alice"), Ok(1));
    assert_eq!(prove(&mut table, 4, "bob"), Err(Refused::Licences { max: 1 }));
    for (client, user) in [(2, "bob"), (3, "carol"), (3, "alice")] {
        assert_eq!(prove(&mut table, client, user), Ok(1), "{user}");
    }
    assert_eq!((table.active(), table.active_users()), (3, 2));
    // One who was a guest is one no more: all stay, and nobody else comes in.
    model.guests.clear();
    table.set_policy(policy(&model, 0), at, &mut Vec::new());
    assert_eq!((table.licences_used(), table.active()), (3, 3));
    assert_eq!(prove(&mut table, 5, "dora"), Err(Refused::Licences { max: 1 }));
    model.guests = [1, 2, 3].into();
    table.set_policy(policy(&model, 0), at, &mut Vec::new());
    assert_eq!((table.licences_used(), table.active_users()), (0, 2));
    assert_eq!(prove(&mut table, 5, "dora"), Ok(1));
}
