//! What earlier versions wrote is brought up to date, and nothing of it is lost.

use jiff::Timestamp;
use redb::{Database, ReadableDatabase as _, TableDefinition, WriteTransaction};
use serde_json::{Value, json};

use crate::clock::{Anchor, BootTime, boot_id, boot_now};
use crate::session::{Reason, State};
use crate::store::content::{POLICY, STATE};
use crate::store::embedded::FILE;
use crate::store::events::EVENTS;
use crate::store::schema::{self, SCHEMA};
use crate::store::{HistoryEntry, Store, Wanted};
use crate::types::{ClientAddr, Factors, GatewayId, Method, Role, SessionId};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const SESSIONS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("sessions");
const TENURES: TableDefinition<'_, ([u8; 16], i64, u64), &[u8]> = TableDefinition::new("tenures");
const BY_START: TableDefinition<'_, (i64, u64), [u8; 16]> = TableDefinition::new("tenures-by-start");

fn wanted() -> Wanted {
    Wanted { client: None, user: None, at: None, most: 9 }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A database of an earlier layout, with what `fill` writes.
fn earlier(directory: &std::path::Path, layout: u64, fill: impl FnOnce(&WriteTransaction)) {
    let database = Database::create(directory.join(FILE)).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(META).unwrap().insert("schema", layout).unwrap();
    fill(&write);
    write.commit().unwrap();
}

fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

#[test]
fn layout_1_is_brought_up_to_date_and_its_events_become_the_history() {
    let directory = tempfile::tempdir().unwrap();
    earlier(directory.path(), 1, |write| {
        let mut events = write.open_table(EVENTS).unwrap();
        let base = json!({"client": "10.0.0.1", "user": "alice", "domain": "EXAMPLE", "session": "0000000000000007"});
        for (second, event, reason) in [
            (0, "login", None),
            (10, "stale", Some("closed-timeout")),
            (20, "renewed", None),
            (60, "ended", Some("logout")),
        ] {
            let mut value = base.clone();
            value["time"] = json!(at(second));
            value["event"] = json!(event);
            value["reason"] = json!(reason);
            value["method"] = json!((event == "login").then_some("kerberos"));
            events.insert((at(second).as_microsecond(), 0), bytes(&value).as_slice()).unwrap();
        }
    });
    for _ in 0..2 {
        let store = Store::open(directory.path(), None).unwrap();
        let found = store.history(&wanted()).unwrap();
        assert_eq!(found.len(), 1);
        let HistoryEntry { session, method, from, until, reason, ref stale, stale_count, .. } = found[0];
        assert_eq!((session.number(), method, from), (7, Some(Method::Kerberos), at(0)));
        assert_eq!((until, reason, stale_count), (Some(at(60)), Some(Reason::Logout), 1));
        assert_eq!(
            (stale[0].from, stale[0].until, stale[0].reason),
            (at(10), Some(at(20)), Reason::ClosedTimeout)
        );
        assert_eq!(store.events(at(0), None, 9).unwrap().0.len(), 4, "events stay");
        // That version did not know its own file.
        assert!(store.sessions_are_void());
    }
}

#[test]
fn layout_2_is_brought_up_to_date_and_its_sessions_are_this_gateways() {
    let directory = tempfile::tempdir().unwrap();
    let (client, now) = (ClientAddr::from_v4([10, 0, 0, 1]), boot_now().as_nanos());
    earlier(directory.path(), 2, |write| {
        let session = json!({
            "id": 7, "client": "10.0.0.1", "user": "Alice", "domain": "EXAMPLE", "key": "alice@example.test",
            "method": "kerberos", "device": "02:00:00:00:00:01", "created": now, "authenticated": now,
            "judged_from": now, "counted_from": now, "stale": ["traffic-timeout", now], "boot": boot_id(),
            "booted": at(0),
        });
        write.open_table(SESSIONS).unwrap().insert(client.0, bytes(&session).as_slice()).unwrap();
        let tenure = |number: u64, until: Option<Timestamp>| {
            json!({
                "session": format!("{number:016x}"), "client": "10.0.0.1", "user": "Alice", "domain": "EXAMPLE",
                "realm": "example.test", "method": if number == 6 { "" } else { "kerberos" }, "from": at(number as i64),
                "until": until, "reason": until.map(|_| "kicked"), "by": until.map(|_| "EXAMPLE\\bob"),
                "stale": [{"from": at(1), "until": null, "reason": "traffic-timeout"}], "stale_count": 1,
            })
        };
        let mut tenures = write.open_table(TENURES).unwrap();
        let mut by_start = write.open_table(BY_START).unwrap();
        for (number, until) in [(6, Some(at(9))), (7, None)] {
            let from = at(number as i64).as_microsecond();
            tenures.insert((client.0, from, number), bytes(&tenure(number, until)).as_slice()).unwrap();
            by_start.insert((from, number), client.0).unwrap();
        }
    });
    // As the same file would be brought up to date that the gateway knows for its own: sessions are not void then.
    let gateway = GatewayId::new(42).unwrap();
    let database = Database::open(directory.path().join(FILE)).unwrap();
    let write = database.begin_write().unwrap();
    schema::migrate(&write, 2, gateway).unwrap();
    write.commit().unwrap();
    let read = database.begin_read().unwrap();
    let said = schema::imprint(&read).unwrap();
    assert_eq!(
        (schema::layout(&read).unwrap(), said.gateway),
        (schema::Layout::Known(SCHEMA), Some(gateway))
    );
    assert!(read.open_table(TENURES).is_err() && read.open_table(BY_START).is_err(), "nothing of it is left");
    let sessions = crate::store::content::read_sessions(&read).unwrap();
    let (stored, seen) = &sessions[0];
    assert_eq!((stored.id(), *seen), (SessionId::new(gateway, 7), None));
    let restored = stored.restore(&boot_id(), &Anchor::now(), boot_now(), None).unwrap();
    assert_eq!((restored.client, restored.identity.key()), (client, "alice@example.test"));
    assert!(
        matches!(restored.state, State::Stale { reason: Reason::TrafficTimeout, since } if since.as_nanos() == now)
    );
    assert_eq!((restored.factors, restored.traffic_before), (Factors::NONE, None));
    assert_eq!(restored.device.unwrap().to_string(), "02:00:00:00:00:01");
    drop((read, database));

    let store = Store::open(directory.path(), None).unwrap();
    for asked in [
        wanted(),
        Wanted { client: Some(client), ..wanted() },
        Wanted { user: Some("alice@example.test".into()), ..wanted() },
        Wanted { at: Some(at(8)), ..wanted() },
    ] {
        let found = store.history(&asked).unwrap();
        let [running, kicked] = &found[..] else { panic!("{asked:?}: {found:?}") };
        assert_eq!((running.session, running.until), (SessionId::new(gateway, 7), None));
        assert_eq!((kicked.session, kicked.method), (SessionId::new(gateway, 6), None));
        assert_eq!((kicked.reason, kicked.by.as_deref()), (Some(Reason::Kicked), Some("EXAMPLE\\bob")));
    }
}

#[test]
fn the_policy_that_an_earlier_version_kept_is_there_until_this_one_keeps_its_own() {
    let directory = tempfile::tempdir().unwrap();
    earlier(directory.path(), 2, |write| {
        let policy = json!({"boot": "this", "since": 5, "offset": 6, "config": "licences.max-users = 7\n"});
        write.open_table(STATE).unwrap().insert(POLICY, bytes(&policy).as_slice()).unwrap();
    });
    let store = Store::open(directory.path(), None).unwrap();
    assert_eq!(store.policy().unwrap(), None);
    let earlier = store.configured_policy().unwrap().unwrap();
    assert_eq!(earlier.config, "licences.max-users = 7\n");
    assert_eq!([earlier.since("this"), earlier.since("next")].map(BootTime::as_nanos), [5, 0]);
    assert_eq!(earlier.anchor("this").unwrap().offset(), 6);
    assert!(earlier.anchor("next").is_none());
}

/// A database of layout 3 has no users, and gets their tables; what is in it stays.
#[test]
fn layout_3_is_brought_up_to_date_and_has_had_no_users() {
    let directory = tempfile::tempdir().unwrap();
    earlier(directory.path(), 3, |_| {});
    let store = Store::open(directory.path(), None).unwrap();
    assert!(store.users().unwrap().is_empty() && !store.has_had_users().unwrap());
    drop(store);
    let database = Database::open(directory.path().join(FILE)).unwrap();
    let read = database.begin_read().unwrap();
    assert_eq!(schema::layout(&read).unwrap(), schema::Layout::Known(SCHEMA));
    assert!(read.open_table(TableDefinition::<&str, &[u8]>::new("users")).is_ok());
}

/// A database of layout 4 says of each user whether they administer the gateway; what else it says stays.
#[test]
fn layout_4_is_brought_up_to_date_and_its_administrators_are_administrators() {
    let directory = tempfile::tempdir().unwrap();
    let users = TableDefinition::<&str, &[u8]>::new("users");
    let stored = |name: &str, administrator: Option<bool>| {
        let mut user = json!({"name": name, "password": format!("hash of {name}"), "disabled": true, "created": at(1), "changed": at(2)});
        if let Some(administrator) = administrator {
            user["administrator"] = administrator.into();
        }
        bytes(&user)
    };
    earlier(directory.path(), 4, |write| {
        let mut table = write.open_table(users).unwrap();
        table.insert("admin", stored("Admin", Some(true)).as_slice()).unwrap();
        table.insert("bob", stored("Bob", Some(false)).as_slice()).unwrap();
        table.insert("carol", stored("carol", None).as_slice()).unwrap();
        table.insert("torn", &b"{\"name\":"[..]).unwrap();
    });
    for _ in 0..2 {
        let store = Store::open(directory.path(), None).unwrap();
        let found = store.users().unwrap();
        let told: Vec<_> = found.iter().map(|user| (user.name.as_str(), user.role, user.disabled)).collect();
        assert_eq!(
            told,
            [
                ("Admin", Role::Administrator, true),
                ("Bob", Role::User, true),
                ("carol", Role::User, true),
                ("torn", Role::User, true)
            ]
        );
        assert_eq!((found[0].password.reveal(), found[0].changed), ("hash of Admin", at(2)));
    }
    let database = Database::open(directory.path().join(FILE)).unwrap();
    let read = database.begin_read().unwrap();
    assert_eq!(schema::layout(&read).unwrap(), schema::Layout::Known(SCHEMA));
    let kept = read.open_table(users).unwrap().get("admin").unwrap().unwrap().value().to_owned();
    assert!(
        !String::from_utf8(kept).unwrap().contains("administrator\":"),
        "nothing of the old form is left"
    );
}
