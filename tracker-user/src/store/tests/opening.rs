//! What is opened, what is refused, and what is left as it was.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use redb::{Database, TableDefinition};

use super::{Place, login};
use crate::audit::{Actor, TrailEntry, Via};
use crate::clock::{boot_id, boot_now};
use crate::session::{Policy, Timeouts};
use crate::store::content::Batch;
use crate::store::embedded::FILE;
use crate::store::schema::SCHEMA;
use crate::store::{Entry, Journal, RETENTION, Store, StoreError, StoredSetting, revocation};
use crate::types::{ClientAddr, Identity};

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
    let event = |time| -> Arc<TrailEntry> {
        let client = ClientAddr::from_v4([10, 0, 0, 1]);
        super::event(time, login(), client, 1, Identity::new("alice", "EXAMPLE.TEST", "EXAMPLE"))
    };
    let events = (0..10).map(|n| event(at(n / 2))).collect();
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
    store.write(&Batch { events: vec![event(late)], ..Batch::default() }).unwrap();
    assert_eq!(store.events(now, None, 99).unwrap().0.first().map(|event| event.time), Some(at(3)));
}

#[test]
fn a_gateway_keeps_its_number_and_never_uses_that_of_a_session_again() {
    let place = Place::new();
    let first = place.open().unwrap();
    let begun = first.first_session();
    first.write(&Batch::default()).unwrap();
    drop(first);
    for _ in 0..3 {
        let store = place.open().unwrap();
        let next = store.first_session();
        assert_eq!(next.gateway(), begun.gateway());
        assert!(next.number() >= begun.number() + (1 << 40), "whatever the clock says: {next} after {begun}");
        store.write(&Batch::default()).unwrap();
    }
}

#[test]
fn a_copy_of_the_database_is_another_gateways() {
    let place = Place::new();
    let store = place.open().unwrap();
    store.write(&Batch::default()).unwrap();
    let original = store.first_session().gateway();
    drop(store);
    let elsewhere = tempfile::tempdir().unwrap();
    for name in [FILE, revocation::FILE] {
        std::fs::copy(place.path().join(name), elsewhere.path().join(name)).unwrap();
    }
    // Another host's witness knows nothing of it.
    let open = || Store::open(elsewhere.path(), None).unwrap();
    // A start that fails has told the mark that this is the file; nothing but void sessions tells then that it is a copy.
    assert_ne!(open().first_session().gateway(), original);
    let copy = open();
    let other = copy.first_session().gateway();
    assert_ne!(other, original, "also after a start that failed");
    copy.write(&Batch::default()).unwrap();
    // As the journal does after its first transaction.
    copy.lift();
    drop(copy);
    assert_eq!(open().first_session().gateway(), other, "it keeps that");
    assert_eq!(place.open().unwrap().first_session().gateway(), original);
}

#[test]
fn the_policy_in_force_is_kept_as_a_policy() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(directory.path(), None).unwrap());
    assert_eq!(store.policy().unwrap(), None);
    let timeouts = Timeouts { shared_hosts: vec!["10.0.0.0/8".parse().unwrap()], ..Timeouts::default() };
    let policy = Policy {
        timeouts,
        max_users: 7,
        devices_per_user: 5,
        guests: Vec::new(),
        factors: crate::session::FactorPolicy::default(),
        since: boot_now(),
    };
    let journal = Journal::start(Arc::clone(&store)).unwrap();
    journal.submit(vec![Entry::Policy(Box::new(policy.clone()))], None);
    journal.close();
    let kept = store.policy().unwrap().unwrap();
    assert_eq!(kept.restore(&boot_id()), policy);
}
