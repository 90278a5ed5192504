//! The gateway's own users on disk.

use jiff::Timestamp;

use super::*;
use crate::audit::{Actor, Event as TrailEvent, LocalUserEvent, Via};
use crate::store::{Entry, Journal, PasswordHash, StoredUser};
use crate::types::Role;

fn user(name: &str) -> StoredUser {
    StoredUser {
        name: name.into(),
        password: PasswordHash::new(format!("hash of {name}")),
        disabled: false,
        must_change: true,
        role: Role::Administrator,
        created: Timestamp::from_second(1).unwrap(),
        changed: Timestamp::from_second(2).unwrap(),
    }
}

fn line(name: &str) -> Arc<TrailEntry> {
    let user = Arc::new(Identity::local(name));
    let actor = Actor::unknown(Via::Signal);
    TrailEntry::now(TrailEvent::LocalUser(LocalUserEvent {
        user,
        how: "added",
        role: None,
        before: None,
        actor,
    }))
}

#[test]
fn users_are_kept_with_the_line_that_tells_of_them_over_a_crash_and_in_a_copy() {
    let place = Place::new();
    let store = place.open().unwrap();
    assert!(!store.has_had_users().unwrap());
    store.put_user(&user("Bob"), Some(&line("Bob"))).unwrap();
    store.put_user(&user("älva"), None).unwrap();
    store.die();
    let store = place.open().unwrap();
    assert_eq!(store.users().unwrap(), [user("Bob"), user("älva")]);
    assert_eq!(store.events(Timestamp::UNIX_EPOCH, None, 9).unwrap().0.len(), 1);
    assert!(!format!("{:?}", store.users()).contains("hash of"));
    store.remove_user("bob", &line("Bob")).unwrap();
    store.remove_user("älva", &line("älva")).unwrap();
    assert!(store.users().unwrap().is_empty() && store.has_had_users().unwrap());
    store.put_user(&user("carol"), None).unwrap();
    drop(store);
    // Users are what a copy says, like settings; who is logged in is not.
    let copy = tempfile::tempdir().unwrap();
    for name in ["tracker.redb", "revoked"] {
        std::fs::copy(place.path().join(name), copy.path().join(name)).unwrap();
    }
    let store = place.open_at(copy.path()).unwrap();
    assert!(store.sessions_are_void() && store.has_had_users().unwrap());
    assert_eq!(store.users().unwrap(), [user("carol")]);
}

#[test]
fn a_user_that_another_version_wrote_is_there_and_lets_nobody_in() {
    let place = Place::new();
    let store = place.open().unwrap();
    let table = redb::TableDefinition::<&str, &[u8]>::new("users");
    store
        .transaction(|write| {
            write.open_table(table)?.insert("bob", &b"{\"name\":7}"[..])?;
            Ok(())
        })
        .unwrap();
    let [bob] = &store.users().unwrap()[..] else { panic!() };
    assert!(bob.name == "bob" && bob.disabled);
    assert!(store.has_had_users().unwrap());
}

#[test]
fn a_login_is_noted_of_users_that_there_are() {
    let place = Place::new();
    let store = Arc::new(place.open().unwrap());
    store.put_user(&user("Bob"), None).unwrap();
    let journal = Journal::start(Arc::clone(&store)).unwrap();
    let client = ClientAddr::from_v4([10, 0, 0, 1]);
    let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
    let events = [
        event(at(1), login(), client, 1, Identity::local("BOB")),
        event(at(2), renewed(), client, 1, Identity::local("bob")),
        event(at(3), ended(Reason::Logout, 9), client, 1, Identity::local("bob")),
        event(at(4), login(), client, 2, Identity::new("bob", "LOCAL", "LOCAL")),
        event(at(5), login(), client, 3, Identity::local("nobody")),
    ];
    journal.submit(events.into_iter().map(Entry::Event).collect(), None);
    journal.close();
    let logins: Vec<_> = store.last_logins().unwrap().into_iter().collect();
    assert_eq!(logins, [("bob".to_owned(), at(2))]);
    store.remove_user("bob", &line("Bob")).unwrap();
    assert!(store.last_logins().unwrap().is_empty());
}

#[test]
fn the_first_password_is_for_the_daemon_alone_and_leaves_nothing_behind() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let store = place.open().unwrap();
    let file = store.first_password_file();
    // Something that was planted there is not written through.
    let elsewhere = place.memory.path().join("elsewhere");
    std::os::unix::fs::symlink(&elsewhere, file.with_extension("new")).unwrap();
    store.write_first_password("drawn").unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "drawn\n");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!elsewhere.exists());
    store.remove_first_password().unwrap();
    store.remove_first_password().unwrap();
    let left: Vec<_> =
        std::fs::read_dir(place.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("administrator")), "{left:?}");
}
