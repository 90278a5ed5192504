//! Copies of the state directory, hot and cold, put back in every way: nobody comes back, and it is said. A crash, an
//! orderly end and a directory that was moved bring everybody back.

use std::path::Path;
use std::process::Command;

use super::Place;
use crate::clock::{Anchor, BootTime, boot_id};
use crate::session::{Session, State};
use crate::store::content::Batch;
use crate::store::embedded::FILE;
use crate::store::{PortableSession, Store, StoredSetting, revocation};
use crate::types::{ClientAddr, Factors, Identity, Method, SessionId};

const ALICE: ClientAddr = ClientAddr::from_v4([10, 0, 0, 1]);

/// Alice's session begins or ends.
fn alice(store: &Store, is_in: bool) {
    let at = BootTime::default();
    let session = Session {
        id: SessionId::test(7),
        client: ALICE,
        connection: None,
        identity: Identity::new("alice", "EXAMPLE.TEST", "EXAMPLE").into(),
        method: Method::Kerberos,
        factors: Factors::NONE,
        enrolled: Factors::NONE,
        device: None,
        created: at,
        authenticated: at,
        judged_from: at,
        counted_from: at,
        state: State::Active,
        traffic_before: None,
    };
    let kept = is_in.then(|| PortableSession::new(&session, &boot_id(), &Anchor::now()));
    store.write(&Batch { sessions: [(ALICE, kept)].into(), ..Batch::default() }).unwrap();
}

fn cp(from: &Path, to: &Path, how: &[&str]) {
    let files = [FILE, revocation::FILE].map(|name| from.join(name));
    let done = Command::new("cp").args(how).args(files).arg(to).status().unwrap();
    assert!(done.success());
}

fn is_back(store: &Store) -> bool {
    !store.sessions().unwrap().is_empty()
}

/// Nobody is in, it is said why, and it stays so until it is settled, also over another crash and another end.
#[track_caller]
fn is_refused(place: &Place, directory: &Path, why: &str) {
    for end in [Store::die, drop::<Store>] {
        let store = place.open_at(directory).unwrap();
        assert!(store.sessions_are_void() && !is_back(&store));
        // A setting is no settlement.
        let setting = StoredSetting { value: "x".into(), file_value: None, by: None, at: None };
        store.set("a.b", Some(&setting)).unwrap();
        end(store);
        assert!(
            place.open_at(directory).map(|store| (store.sessions_are_void(), store.die()).0).unwrap(),
            "{why}"
        );
    }
}

/// What is said at the first start.
#[track_caller]
fn says(place: &Place, directory: &Path, why: &str) {
    let store = place.open_at(directory).unwrap();
    let said = store.replaced().unwrap_or("nothing").to_owned();
    assert!(said.contains(why), "{said}");
    store.die();
    is_refused(place, directory, why);
}

#[test]
fn who_is_in_stays_in_over_a_crash_an_end_and_a_move() {
    let place = Place::new();
    let store = place.open().unwrap();
    alice(&store, true);
    store.die();
    for _ in 0..3 {
        let store = place.open().unwrap();
        assert!(is_back(&store), "{:?}", store.replaced());
        store.die();
    }
    // Killed before anything was written, then ended in order.
    drop(place.open().unwrap());
    // Without the witness, an orderly end is enough, also elsewhere on the same file system.
    drop(Store::open(place.path(), None).unwrap());
    let there = tempfile::tempdir().unwrap();
    let moved = there.path().join("moved");
    std::fs::rename(place.path(), &moved).unwrap();
    let store = Store::open(&moved, None).unwrap();
    assert!(is_back(&store), "{:?}", store.replaced());
    drop(store);
    std::fs::rename(&moved, place.path()).unwrap();
}

#[test]
fn a_transaction_that_is_on_disk_but_was_not_told_of_is_gone_on_with() {
    let place = Place::new();
    let store = place.open().unwrap();
    alice(&store, true);
    let (path, before) = place.note();
    store.set("a.b", None).unwrap();
    store.die();
    // As it was while the last one was being written.
    let (_, after) = place.note();
    let words = |note: &Path| note.to_str().unwrap().split(' ').map(str::to_owned).collect::<Vec<_>>();
    let during = format!("good {} {}", words(&before)[1], words(&after)[1]);
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(during, &path).unwrap();
    assert!(is_back(&place.open().unwrap()));
}

#[test]
fn without_a_witness_a_crash_brings_nobody_back() {
    let place = Place::new();
    let store = Store::open(place.path(), None).unwrap();
    alice(&store, true);
    store.die();
    let store = Store::open(place.path(), None).unwrap();
    assert!(!is_back(&store) && store.replaced().is_some());
}

/// Alice is in, a copy is taken while the store is open or after it was closed, and she is logged out.
fn copied(hot: bool) -> (Place, tempfile::TempDir) {
    let (place, copy) = (Place::new(), tempfile::tempdir().unwrap());
    let store = place.open().unwrap();
    alice(&store, true);
    let store = if hot {
        cp(place.path(), copy.path(), &["-a"]);
        store
    } else {
        drop(store);
        cp(place.path(), copy.path(), &["-a"]);
        place.open().unwrap()
    };
    assert!(is_back(&store));
    alice(&store, false);
    drop(store);
    (place, copy)
}

#[test]
fn a_copy_put_back_over_the_files_brings_nobody_back() {
    for hot in [true, false] {
        let (place, copy) = copied(hot);
        cp(copy.path(), place.path(), &[]);
        says(&place, place.path(), "earlier state");
        let (place, copy) = copied(hot);
        cp(copy.path(), place.path(), &["-a"]);
        says(&place, place.path(), "earlier state");
    }
}

#[test]
fn a_copy_put_in_the_place_of_the_files_brings_nobody_back() {
    for hot in [true, false] {
        let (place, copy) = copied(hot);
        cp(copy.path(), place.path(), &["-a", "--remove-destination"]);
        says(&place, place.path(), "it is a copy");
        let (place, copy) = copied(hot);
        for name in [FILE, revocation::FILE] {
            std::fs::rename(copy.path().join(name), place.path().join(name)).unwrap();
        }
        says(&place, place.path(), "it is a copy");
    }
}

#[test]
fn a_copy_elsewhere_brings_nobody_back() {
    for hot in [true, false] {
        let (place, copy) = copied(hot);
        says(&place, copy.path(), "it is a copy");
        // Of another gateway, with a witness of its own.
        let (_place, copy) = copied(hot);
        says(&Place::new(), copy.path(), "it is a copy");
    }
}

#[test]
fn one_of_the_files_from_a_copy_brings_nobody_back() {
    for name in [FILE, revocation::FILE] {
        for hot in [true, false] {
            let (place, copy) = copied(hot);
            std::fs::write(place.path().join(name), std::fs::read(copy.path().join(name)).unwrap()).unwrap();
            let store = place.open().unwrap();
            assert!(!is_back(&store), "{name}");
        }
    }
}

#[test]
fn a_missing_mark_brings_nobody_back() {
    for hot in [true, false] {
        let (place, copy) = copied(hot);
        cp(copy.path(), place.path(), &[]);
        std::fs::remove_file(place.path().join(revocation::FILE)).unwrap();
        says(&place, place.path(), "is missing");
        // Also of the very database that alice is in.
        let place = Place::new();
        let store = place.open().unwrap();
        alice(&store, true);
        drop(store);
        std::fs::remove_file(place.path().join(revocation::FILE)).unwrap();
        says(&place, place.path(), "is missing");
    }
}

#[test]
fn a_mark_put_back_does_not_bring_back_who_ended_on_a_full_disk() {
    let place = Place::new();
    let store = place.open().unwrap();
    alice(&store, true);
    let mark = std::fs::read(place.path().join(revocation::FILE)).unwrap();
    // As the journal does when the disk takes no transaction.
    store.revoke().unwrap();
    store.die();
    std::fs::write(place.path().join(revocation::FILE), mark).unwrap();
    says(&place, place.path(), "could not be written");
}

#[test]
fn a_file_replaced_while_it_is_open_brings_nobody_back() {
    let (place, copy) = copied(true);
    let store = place.open().unwrap();
    std::fs::rename(copy.path().join(FILE), place.path().join(FILE)).unwrap();
    // Opened again, as after an error of the disk.
    store.fail();
    let error = store.set("a.b", None).unwrap_err();
    assert!(error.to_string().contains("was replaced while it was in use"), "{error}");
    drop(store);
    says(&place, place.path(), "it is a copy");
}

#[test]
fn a_store_that_was_replaced_goes_on_when_it_is_settled() {
    let (place, copy) = copied(true);
    cp(copy.path(), place.path(), &[]);
    let store = std::sync::Arc::new(place.open().unwrap());
    assert!(store.sessions_are_void());
    let journal = crate::store::Journal::start(std::sync::Arc::clone(&store)).unwrap();
    journal.close();
    assert!(!store.sessions_are_void());
    alice(&store, true);
    drop(journal);
    std::sync::Arc::into_inner(store).unwrap().die();
    let store = place.open().unwrap();
    assert_eq!((is_back(&store), store.replaced()), (true, None));
}
