//! What is opened, what is refused, and what is left as it was.

use std::path::Path;

use jiff::Timestamp;
use redb::{Database, TableDefinition};

use crate::audit::{Actor, AuditEvent, Kind, Via};
use crate::store::content::{Batch, EVENTS};
use crate::store::embedded::FILE;
use crate::store::schema::SCHEMA;
use crate::store::{RETENTION, Store, StoreError, StoredSetting, Wanted, revocation};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Opens in vain: the error, and the file is as it was.
fn refused(directory: &Path) -> StoreError {
    let path = directory.join(FILE);
    let before = std::fs::read(&path).unwrap();
    let error = Store::open(directory, None).unwrap_err();
    assert!(std::fs::read(&path).unwrap() == before, "the file was touched: {error}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
    error
}

#[test]
fn a_setting_survives_reopening_and_can_be_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let setting = StoredSetting {
        value: "10m".into(),
        file_value: Some("5m".into()),
        by: Some(Actor::unknown(Via::Socket)),
        at: None,
    };
    Store::open(directory.path(), None).unwrap().set("a.b", Some(&setting)).unwrap();
    let store = Store::open(directory.path(), None).unwrap();
    assert_eq!(store.settings().unwrap().get("a.b"), Some(&setting));
    store.set("a.b", None).unwrap();
    assert!(store.settings().unwrap().is_empty());
    assert!(store.size() > 0 && store.path().ends_with(FILE));
}

#[test]
fn a_foreign_or_empty_file_is_refused_and_left_alone() {
    for content in ["", "not a database, but somebody's notes"] {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE), content).unwrap();
        let error = refused(directory.path());
        assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains("move it away"), "{error}");
    }
}

#[test]
fn another_programs_database_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::create(directory.path().join(FILE)).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(TableDefinition::<u64, u64>::new("theirs")).unwrap().insert(1, 2).unwrap();
    write.commit().unwrap();
    drop(database);
    assert!(matches!(refused(directory.path()), StoreError::Foreign { .. }));
}

#[test]
fn a_newer_layout_is_refused_with_the_remedy_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    drop(Store::open(directory.path(), None).unwrap());
    let database = Database::open(directory.path().join(FILE)).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(META).unwrap().insert("schema", SCHEMA + 1).unwrap();
    write.commit().unwrap();
    drop(database);
    let error = refused(directory.path());
    assert!(matches!(error, StoreError::Newer { .. }), "{error}");
    assert!(error.to_string().contains("newer trackerd"), "{error}");
}

#[test]
fn layout_1_is_brought_up_to_date_and_its_events_become_tenures() {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::create(directory.path().join(FILE)).unwrap();
    let write = database.begin_write().unwrap();
    write.open_table(META).unwrap().insert("schema", 1).unwrap();
    let login = AuditEvent {
        client: Some("10.0.0.1".into()),
        user: Some("alice".into()),
        session: Some("0000000000000007".into()),
        ..AuditEvent::new(Timestamp::from_second(1_800_000_000).unwrap(), Kind::Login)
    };
    let end = AuditEvent {
        time: Timestamp::from_second(1_800_000_060).unwrap(),
        event: Kind::Ended,
        reason: Some("logout".into()),
        ..login.clone()
    };
    for event in [&login, &end] {
        let value = serde_json::to_vec(event).unwrap();
        let mut events = write.open_table(EVENTS).unwrap();
        events.insert((event.time.as_microsecond(), 0), value.as_slice()).unwrap();
    }
    write.commit().unwrap();
    drop(database);
    for _ in 0..2 {
        let store = Store::open(directory.path(), None).unwrap();
        let found = store.history(&Wanted { client: None, user: None, at: None, most: 9 }).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].until, found[0].reason.as_deref()), (Some(end.time), Some("logout")));
        // That version did not know its own file.
        assert!(store.sessions_are_void());
    }
}

#[test]
fn one_daemon_per_state_directory() {
    let directory = tempfile::tempdir().unwrap();
    let first = Store::open(directory.path(), None).unwrap();
    assert!(matches!(Store::open(directory.path(), None), Err(StoreError::InUse { .. })));
    drop(first);
    Store::open(directory.path(), None).unwrap();
}

#[test]
fn a_making_that_was_cut_short_is_begun_again() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("tracker.redb.new"), "half a data").unwrap();
    let store = Store::open(directory.path(), None).unwrap();
    assert!(store.settings().unwrap().is_empty());
    let names = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, [revocation::FILE, FILE]);
}

#[test]
fn an_older_copy_of_the_database_brings_nobody_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    let store = Store::open(directory.path(), None).unwrap();
    store.write(&Batch::default()).unwrap();
    let copy = std::fs::read(&path).unwrap();
    store.write(&Batch::default()).unwrap();
    assert!(!store.sessions_are_void());
    drop(store);
    std::fs::write(&path, copy).unwrap();
    for _ in 0..2 {
        assert!(
            Store::open(directory.path(), None).unwrap().sessions_are_void(),
            "until it has been settled"
        );
    }
}

#[test]
fn a_database_that_was_moved_away_is_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), None).unwrap();
    (0..3).for_each(|_| store.write(&Batch::default()).unwrap());
    drop(store);
    std::fs::rename(directory.path().join(FILE), directory.path().join("old")).unwrap();
    let store = Store::open(directory.path(), None).unwrap();
    assert!(!store.sessions_are_void());
    store.write(&Batch::default()).unwrap();
    drop(store);
    assert!(!Store::open(directory.path(), None).unwrap().sessions_are_void());
}

#[test]
fn events_are_read_from_a_moment_on_in_pages() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), None).unwrap();
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let at = |second: i64| now + jiff::SignedDuration::from_secs(second);
    let events: Vec<AuditEvent> = (0..10).map(|n| AuditEvent::new(at(n / 2), Kind::Login)).collect();
    store.write(&Batch { events, ..Batch::default() }).unwrap();
    let (mut after, mut read) = (None, Vec::new());
    loop {
        let (page, last) = store.events(at(1), after, 3).unwrap();
        read.extend(page.iter().map(|event| event.time));
        if last.is_none() {
            break;
        }
        after = last;
    }
    assert_eq!(read, (2..10).map(|n| at(n / 2)).collect::<Vec<_>>());
    let late = at(i64::try_from(RETENTION.as_secs()).unwrap() + 3);
    let newest = vec![AuditEvent::new(late, Kind::Login)];
    store.write(&Batch { events: newest, ..Batch::default() }).unwrap();
    assert_eq!(store.events(now, None, 99).unwrap().0.first().map(|event| event.time), Some(at(3)));
}
