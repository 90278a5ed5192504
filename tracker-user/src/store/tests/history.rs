//! The history against a plain list of everything that happened.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::{ended, login, renewed};
use crate::audit;
use crate::audit::{SessionEvent, TrailEntry};
use crate::session::{Reason, What};
use crate::store::content::Batch;
use crate::store::{HistoryEntry, RETENTION, Store, Wanted};
use crate::types::{ClientAddr, Identity, Method, SessionId, Traffic};

const USERS: [&str; 3] = ["Alice", "bob", "Älfred"];

fn client(number: u8) -> ClientAddr {
    ClientAddr::from_v4([10, 0, 0, number])
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn wanted() -> Wanted {
    Wanted { client: None, user: None, at: None, most: 1_000 }
}

fn event(second: i64, what: What, of: u8, session: u64, user: usize) -> Arc<TrailEntry> {
    event_of(second, what, of, session, Identity::new(USERS[user], "EXAMPLE.TEST", "EXAMPLE"))
}

fn event_of(second: i64, what: What, of: u8, session: u64, identity: Identity) -> Arc<TrailEntry> {
    super::event(at(second), what, client(of), session, identity)
}

fn write(store: &Store, events: &[Arc<TrailEntry>]) {
    store.write(&Batch { events: events.to_vec(), ..Batch::default() }).unwrap();
}

fn open(directory: &Path) -> Store {
    Store::open(directory, None).unwrap()
}

#[test]
fn an_entry_tells_its_whole_story() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    write(&store, &[event(0, login(), 1, 7, 0)]);
    let stale = || What::Stale(Reason::ClosedTimeout);
    write(&store, &[event(10, stale(), 1, 7, 0), event(15, renewed(), 1, 7, 0)]);
    let by = Some(Arc::new(Identity::new("bob", "EXAMPLE.TEST", "EXAMPLE")));
    let duration = Duration::from_secs(20);
    let what = What::Ended { reason: Reason::Kicked, duration, by, was_stale: true, traffic_before: None };
    let kicked = event(20, what, 1, 7, 0);
    let audit::Event::Session(of) = kicked.event.clone() else { panic!("{kicked:?}") };
    let of = SessionEvent { traffic: Some(Traffic { rx: 3, tx: u64::MAX }), ..of };
    let kicked = Arc::new(TrailEntry { time: kicked.time, event: audit::Event::Session(of) });
    write(&store, &[event(18, stale(), 1, 7, 0), kicked, event(20, login(), 1, 8, 1)]);

    let all = store.history(&wanted()).unwrap();
    assert_eq!(all.iter().map(|t| t.user.as_str()).collect::<Vec<_>>(), ["bob", "Alice"]);
    let alice = &all[1];
    assert_eq!((alice.method, alice.from, alice.until), (Some(Method::Kerberos), at(0), Some(at(20))));
    assert_eq!((alice.reason, alice.by.as_deref()), (Some(Reason::Kicked), Some("EXAMPLE\\bob")));
    assert_eq!((alice.rx, alice.tx), (Some(3), Some(u64::MAX)));
    assert_eq!((all[0].rx, all[0].tx), (None, None));
    assert_eq!(
        alice.stale.iter().map(|p| (p.from, p.until)).collect::<Vec<_>>(),
        [(at(10), Some(at(15))), (at(18), Some(at(20)))]
    );
    assert_eq!(alice.stale_count, 2);
    // At the very moment of the kick-out, the address is the next user's.
    let who = |moment| {
        let found = store.history(&Wanted { at: Some(moment), ..wanted() }).unwrap();
        found.into_iter().map(|entry| entry.user).collect::<Vec<_>>()
    };
    assert_eq!(who(at(19)), ["Alice"]);
    assert_eq!(who(at(20)), ["bob"]);
    assert_eq!(who(at(-1)), [""; 0]);
}

#[test]
fn a_user_is_found_by_every_form_and_two_realms_stay_apart() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    // Another realm's Alice, both shown without a domain; and one whose realm is what is shown.
    let alice = |realm, domain| Identity::new("Alice", realm, domain);
    let bare = event_of(1, login(), 1, 1, alice("EXAMPLE.TEST", ""));
    let other = event_of(2, login(), 2, 2, alice("OTHER.TEST", ""));
    let short = event_of(3, login(), 3, 3, alice("EXAMPLE", "EXAMPLE"));
    write(&store, &[bare, other, short, event(4, login(), 4, 4, 0), event(5, login(), 5, 5, 1)]);
    for (typed, expected) in [
        ("ALICE", &[4, 3, 2, 1][..]),
        ("alice@example.test", &[4, 1]),
        ("EXAMPLE.TEST\\Alice", &[4, 1]),
        ("Alice@OTHER.TEST", &[2]),
        ("EXAMPLE\\alice", &[4, 3]),
        ("alice@example", &[4, 3]),
        ("alice@third.test", &[]),
        ("example\\", &[]),
    ] {
        let found = store.history(&Wanted { user: Some(typed.into()), ..wanted() }).unwrap();
        let expected: Vec<String> = expected.iter().map(|number| client(*number).to_string()).collect();
        assert_eq!(found.into_iter().map(|entry| entry.client).collect::<Vec<_>>(), expected, "{typed}");
    }
}

#[test]
fn an_end_whose_login_was_not_kept_still_says_from_when() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    write(&store, &[event(100, ended(Reason::Logout, 30), 1, 7, 0)]);
    let found = store.history(&wanted()).unwrap();
    assert_eq!((found[0].from, found[0].until, found[0].method), (at(70), Some(at(100)), None));
}

#[test]
fn entries_are_forgotten_after_their_retention_but_not_while_they_run() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let day = 86_400;
    let retention = i64::try_from(RETENTION.as_secs()).unwrap();
    write(&store, &[event(0, login(), 1, 1, 0), event(0, login(), 2, 2, 1)]);
    write(&store, &[event(day, ended(Reason::Logout, 1), 1, 1, 0)]);
    write(&store, &[event(retention + day - 1, login(), 3, 3, 2)]);
    assert_eq!(store.history(&wanted()).unwrap().len(), 3);
    write(&store, &[event(retention + day + 1, login(), 4, 4, 2)]);
    let left: Vec<String> = store.history(&wanted()).unwrap().into_iter().map(|t| t.client).collect();
    assert_eq!(left, ["10.0.0.4", "10.0.0.3", "10.0.0.2"]);
    let of_alice = store.history(&Wanted { user: Some("alice".into()), ..wanted() }).unwrap();
    assert_eq!(of_alice, []);
    assert!(store.events(at(0), None, 10).unwrap().0.iter().all(|event| event.time >= at(day)));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(i64),
    Login(u8, usize),
    Stale(u8),
    Renew(u8),
    End(u8),
    /// The transaction ends here.
    Commit,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..5_i64).prop_map(Step::Wait),
        3 => (1..4_u8, 0..USERS.len()).prop_map(|(client, user)| Step::Login(client, user)),
        2 => (1..4_u8).prop_map(Step::Stale),
        2 => (1..4_u8).prop_map(Step::Renew),
        2 => (1..4_u8).prop_map(Step::End),
        3 => Just(Step::Commit),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_way_to_ask_agrees_with_a_plain_list(steps in steps(), moment in 0..100_i64, most in 1..6_usize) {
        let directory = tempfile::tempdir().unwrap();
        let mut store = open(directory.path());
        let mut plain: Vec<HistoryEntry> = Vec::new();
        let mut running: HashMap<u8, (u64, usize)> = HashMap::new();
        let (mut now, mut next, mut pending) = (0, 1, Vec::new());
        for step in steps {
            match step {
                Step::Wait(seconds) => now += seconds,
                Step::Login(of, user) => {
                    if let Some((session, user)) = running.insert(of, (next, user)) {
                        pending.push(event(now, ended(Reason::Kicked, 1), of, session, user));
                        plain.iter_mut().filter(|t| t.session == SessionId::test(session)).for_each(|t| t.until = Some(at(now)));
                    }
                    let login = event(now, login(), of, next, user);
                    plain.push(HistoryEntry {
                        session: SessionId::test(next),
                        client: client(of).to_string(),
                        user: USERS[user].into(),
                        domain: "EXAMPLE".into(),
                        realm: Some("example.test".into()),
                        method: None,
                        factors: Vec::new(),
                        from: at(now),
                        until: None,
                        reason: None,
                        by: None,
                        stale: Vec::new(),
                        stale_count: 0,
                        rx: None,
                        tx: None,
                    });
                    pending.push(login);
                    next += 1;
                }
                Step::Stale(of) | Step::Renew(of) | Step::End(of) => {
                    let Some((session, user)) = running.get(&of).copied() else { continue };
                    let what = match step {
                        Step::Stale(_) => What::Stale(Reason::TrafficTimeout),
                        Step::Renew(_) => renewed(),
                        _ => ended(Reason::Logout, 1),
                    };
                    pending.push(event(now, what, of, session, user));
                    if matches!(step, Step::End(_)) {
                        running.remove(&of);
                        plain.iter_mut().filter(|t| t.session == SessionId::test(session)).for_each(|t| t.until = Some(at(now)));
                    }
                }
                Step::Commit => write(&store, &std::mem::take(&mut pending)),
                Step::Reopen => {
                    drop(store);
                    store = open(directory.path());
                }
            }
        }
        write(&store, &pending);
        plain.reverse();
        let asked = [
            wanted(),
            Wanted { most, ..wanted() },
            Wanted { at: Some(at(moment)), ..wanted() },
            Wanted { at: Some(at(moment)), most, ..wanted() },
            Wanted { client: Some(client(1)), ..wanted() },
            Wanted { client: Some(client(1)), at: Some(at(moment)), ..wanted() },
            Wanted { user: Some("ALICE".into()), ..wanted() },
            Wanted { user: Some("älfred@example".into()), at: Some(at(moment)), ..wanted() },
            Wanted { user: Some("example\\ÄLFRED".into()), ..wanted() },
            Wanted { user: Some("bob@OTHER".into()), ..wanted() },
        ];
        for wanted in asked {
            let short = |entry: &HistoryEntry| (entry.session, entry.from, entry.until);
            let expected: Vec<_> = plain.iter().filter(|t| wanted.accepts(t)).take(wanted.most).map(short).collect();
            let found: Vec<_> = store.history(&wanted).unwrap().iter().map(short).collect();
            prop_assert_eq!(found, expected, "{:?}", wanted);
        }
    }
}
