//! Tenures against a plain list of everything that happened.

use std::collections::HashMap;
use std::path::Path;

use jiff::Timestamp;
use proptest::prelude::*;

use crate::audit::{AuditEvent, Kind};
use crate::store::content::Batch;
use crate::store::{RETENTION, Store, Tenure, Wanted};
use crate::types::{ClientAddr, SessionId};

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

fn event(second: i64, kind: Kind, of: u8, session: u64, user: usize) -> AuditEvent {
    AuditEvent {
        client: Some(client(of).to_string()),
        user: Some(USERS[user].into()),
        domain: Some("EXAMPLE".into()),
        realm: Some("example.test".into()),
        session: Some(SessionId(session).to_string()),
        ..AuditEvent::new(at(second), kind)
    }
}

fn write(store: &Store, events: &[AuditEvent]) {
    store.write(&Batch { events: events.to_vec(), ..Batch::default() }).unwrap();
}

fn open(directory: &Path) -> Store {
    Store::open(directory, None).unwrap()
}

#[test]
fn a_tenure_tells_its_whole_story() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let reason = |reason: &str, event: AuditEvent| AuditEvent { reason: Some(reason.into()), ..event };
    let login = AuditEvent { method: Some("kerberos".into()), ..event(0, Kind::Login, 1, 7, 0) };
    write(&store, &[login]);
    write(
        &store,
        &[reason("closed-timeout", event(10, Kind::Stale, 1, 7, 0)), event(15, Kind::Renewed, 1, 7, 0)],
    );
    let kicked = reason("kicked", event(20, Kind::Ended, 1, 7, 0));
    let kicked = AuditEvent { by: Some("bob@EXAMPLE".into()), ..kicked };
    write(
        &store,
        &[reason("closed-timeout", event(18, Kind::Stale, 1, 7, 0)), kicked, event(20, Kind::Login, 1, 8, 1)],
    );

    let all = store.history(&wanted()).unwrap();
    assert_eq!(all.iter().map(|t| t.user.as_str()).collect::<Vec<_>>(), ["bob", "Alice"]);
    let alice = &all[1];
    assert_eq!((alice.method.as_str(), alice.from, alice.until), ("kerberos", at(0), Some(at(20))));
    assert_eq!((alice.reason.as_deref(), alice.by.as_deref()), (Some("kicked"), Some("bob@EXAMPLE")));
    assert_eq!(
        alice.stale.iter().map(|p| (p.from, p.until)).collect::<Vec<_>>(),
        [(at(10), Some(at(15))), (at(18), Some(at(20)))]
    );
    assert_eq!(alice.stale_count, 2);
    // At the very moment of the kick-out, the address is the next user's.
    let who = |moment| {
        let found = store.history(&Wanted { at: Some(moment), ..wanted() }).unwrap();
        found.into_iter().map(|tenure| tenure.user).collect::<Vec<_>>()
    };
    assert_eq!(who(at(19)), ["Alice"]);
    assert_eq!(who(at(20)), ["bob"]);
    assert_eq!(who(at(-1)), [""; 0]);
}

#[test]
fn a_user_is_found_by_every_form_and_two_realms_stay_apart() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    // Another realm's Alice, both shown without a domain; and one that an older version wrote, without a realm.
    let bare = AuditEvent { domain: Some(String::new()), ..event(1, Kind::Login, 1, 1, 0) };
    let other = AuditEvent { realm: Some("other.test".into()), ..event(2, Kind::Login, 2, 2, 0) };
    let other = AuditEvent { domain: Some(String::new()), ..other };
    let older = AuditEvent { realm: None, ..event(3, Kind::Login, 3, 3, 0) };
    write(&store, &[bare, other, older, event(4, Kind::Login, 4, 4, 0), event(5, Kind::Login, 5, 5, 1)]);
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
        assert_eq!(found.into_iter().map(|tenure| tenure.client).collect::<Vec<_>>(), expected, "{typed}");
    }
}

#[test]
fn an_end_whose_login_was_not_kept_still_says_from_when() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    write(&store, &[AuditEvent { duration: Some(30.0), ..event(100, Kind::Ended, 1, 7, 0) }]);
    let found = store.history(&wanted()).unwrap();
    assert_eq!((found[0].from, found[0].until), (at(70), Some(at(100))));
}

#[test]
fn tenures_are_forgotten_after_their_retention_but_not_while_they_run() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let day = 86_400;
    let retention = i64::try_from(RETENTION.as_secs()).unwrap();
    write(&store, &[event(0, Kind::Login, 1, 1, 0), event(0, Kind::Login, 2, 2, 1)]);
    write(&store, &[event(day, Kind::Ended, 1, 1, 0)]);
    write(&store, &[event(retention + day - 1, Kind::Login, 3, 3, 2)]);
    assert_eq!(store.history(&wanted()).unwrap().len(), 3);
    write(&store, &[event(retention + day + 1, Kind::Login, 4, 4, 2)]);
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
        let mut plain: Vec<Tenure> = Vec::new();
        let mut running: HashMap<u8, (u64, usize)> = HashMap::new();
        let (mut now, mut next, mut pending) = (0, 1, Vec::new());
        for step in steps {
            match step {
                Step::Wait(seconds) => now += seconds,
                Step::Login(of, user) => {
                    if let Some((session, user)) = running.insert(of, (next, user)) {
                        pending.push(event(now, Kind::Ended, of, session, user));
                        plain.iter_mut().filter(|t| t.session == SessionId(session).to_string()).for_each(|t| t.until = Some(at(now)));
                    }
                    let login = event(now, Kind::Login, of, next, user);
                    plain.push(Tenure {
                        session: SessionId(next).to_string(),
                        client: client(of).to_string(),
                        user: USERS[user].into(),
                        domain: "EXAMPLE".into(),
                        realm: Some("example.test".into()),
                        method: String::new(),
                        from: at(now),
                        until: None,
                        reason: None,
                        by: None,
                        stale: Vec::new(),
                        stale_count: 0,
                    });
                    pending.push(login);
                    next += 1;
                }
                Step::Stale(of) | Step::Renew(of) | Step::End(of) => {
                    let Some((session, user)) = running.get(&of).copied() else { continue };
                    let kind = match step {
                        Step::Stale(_) => Kind::Stale,
                        Step::Renew(_) => Kind::Renewed,
                        _ => Kind::Ended,
                    };
                    pending.push(event(now, kind, of, session, user));
                    if kind == Kind::Ended {
                        running.remove(&of);
                        plain.iter_mut().filter(|t| t.session == SessionId(session).to_string()).for_each(|t| t.until = Some(at(now)));
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
            let short = |tenure: &Tenure| (tenure.session.clone(), tenure.from, tenure.until);
            let expected: Vec<_> = plain.iter().filter(|t| wanted.accepts(t)).take(wanted.most).map(short).collect();
            let found: Vec<_> = store.history(&wanted).unwrap().iter().map(short).collect();
            prop_assert_eq!(found, expected, "{:?}", wanted);
        }
    }
}
