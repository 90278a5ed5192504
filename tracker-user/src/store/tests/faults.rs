//! The file is torn, garbled, cut off or partly older than it should be: it is refused and left as it is, or it works
//! and nobody is back who had ended. Never a panic.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use super::{Place, ended};
use crate::clock::{Anchor, BootTime, boot_now, wall_now};
use crate::session::{Reason, Session, State, What};
use crate::store::content::Batch;
use crate::store::embedded::FILE;
use crate::store::{Entry, Journal, PortableSession, Store, StoreError, StoredSetting, Wanted, revocation};
use crate::types::{ClientAddr, Factors, Identity, Method, SessionId};

fn session(number: u64) -> Session {
    let at = BootTime::default();
    Session {
        id: SessionId::test(number),
        client: client(number),
        connection: None,
        identity: Arc::new(Identity::new(&format!("user{}", number % 17), "EXAMPLE.TEST", "EXAMPLE")),
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
    }
}

fn client(number: u64) -> ClientAddr {
    let [.., a, b] = number.to_be_bytes();
    ClientAddr::from_v4([10, 0, a, b])
}

fn event(number: u64, what: What) -> Entry {
    let Session { client, identity, .. } = session(number);
    Entry::Event(super::event(wall_now(), what, client, number, (*identity).clone()))
}

/// Hands it over and waits until it is on disk.
fn keep(journal: &Journal, entries: Vec<Entry>) {
    let (told, answer) = mpsc::channel();
    journal.submit(entries, Some(Box::new(move |kept| told.send(kept.is_ok()).unwrap())));
    assert!(answer.recv().unwrap());
}

fn login(journal: &Journal, numbers: impl Iterator<Item = u64>) {
    let entries = numbers.flat_map(|number| {
        [Entry::Session(client(number), Some(session(number))), event(number, super::login())]
    });
    keep(journal, entries.collect());
}

fn end(journal: &Journal, numbers: impl Iterator<Item = u64>) {
    let entries = numbers
        .flat_map(|number| [Entry::Session(client(number), None), event(number, ended(Reason::Logout, 0))]);
    keep(journal, entries.collect());
}

/// The same numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

/// One way to damage a file; `older` is what it was some transactions ago.
fn damage(dice: &mut Dice, file: &mut Vec<u8>, older: &[u8]) -> String {
    let pages = file.len() / 4_096;
    // Half of the time where it hurts: the header and the pages behind it.
    let page = if dice.below(2) == 0 { dice.below(16.min(pages)) } else { dice.below(pages) };
    let at = page * 4_096 + dice.below(4_096);
    let most = if dice.below(2) == 0 { 16 } else { 20_000 };
    let length = 1 + dice.below(most);
    let range = at..(at + length).min(file.len());
    match dice.below(6) {
        0 => {
            let length = dice.below(file.len());
            file.truncate(length);
            format!("cut off at {length}")
        }
        1 => {
            file[at] ^= 1 << dice.below(8);
            format!("one bit at {at}")
        }
        2 => {
            file[range.clone()].fill(0);
            format!("zeros at {range:?}")
        }
        3 => {
            for byte in &mut file[range.clone()] {
                *byte = dice.below(256) as u8;
            }
            format!("garbage at {range:?}")
        }
        4 => {
            // Pages that were never written, though the disk said so.
            let count = 1 + dice.below(8);
            let range = page * 4_096..((page + count) * 4_096).min(file.len()).min(older.len());
            if !range.is_empty() {
                file[range.clone()].copy_from_slice(&older[range.clone()]);
            }
            format!("older pages at {range:?}")
        }
        _ => {
            let other = dice.below(pages) * 4_096;
            file.copy_within(other..other + 4_096, page * 4_096);
            format!("page {other} at {}", page * 4_096)
        }
    }
}

struct Image {
    database: Vec<u8>,
    mark: Vec<u8>,
    note: PathBuf,
    /// The sessions that had ended by then.
    ended: HashSet<u64>,
}

impl Image {
    /// What a `kill -9` at this moment would leave.
    fn take(place: &Place, ended: impl Iterator<Item = u64>) -> Self {
        let read = |name| std::fs::read(place.path().join(name)).unwrap();
        Self {
            database: read(FILE),
            mark: read(revocation::FILE),
            note: place.note().1,
            ended: ended.collect(),
        }
    }

    /// The same files, and what they were, but for the database.
    fn leave(&self, place: &Place, database: &[u8]) {
        std::fs::write(place.path().join(FILE), database).unwrap();
        std::fs::write(place.path().join(revocation::FILE), &self.mark).unwrap();
        let (path, _) = place.note();
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&self.note, path).unwrap();
    }
}

/// A gateway's life in a few transactions, with an image after each logout.
fn images(place: &Place) -> Vec<Image> {
    let store = Arc::new(place.open().unwrap());
    let journal = Journal::start(Arc::clone(&store)).unwrap();
    login(&journal, 1..400);
    let mut images = vec![Image::take(place, std::iter::empty())];
    for round in 1..6 {
        let setting = StoredSetting { value: round.to_string(), file_value: None, by: None, at: None };
        store.set("timeouts.proxy-auth-timeout", Some(&setting)).unwrap();
        login(&journal, round * 400..round * 400 + 100);
        end(&journal, (round - 1) * 20..round * 20);
        images.push(Image::take(place, 0..round * 20));
    }
    journal.close();
    images
}

#[test]
fn a_damaged_file_is_refused_untouched_or_works_without_anybody_who_had_ended() {
    let life = Place::new();
    let images = images(&life);
    let path = life.path().join(FILE);
    let mut dice = Dice(2_026);
    let (mut refused, mut void, mut whole) = (0, 0, 0);
    // More of them with TRACKER_FAULTS=10000.
    let rounds = std::env::var("TRACKER_FAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    for round in 0..rounds {
        let image = &images[1 + dice.below(images.len() - 1)];
        let older = &images[dice.below(images.len())];
        let mut database = image.database.clone();
        let mut what = damage(&mut dice, &mut database, &older.database);
        if dice.below(4) == 0 {
            what = format!("{what}, {}", damage(&mut dice, &mut database, &older.database));
        }
        image.leave(&life, &database);
        match life.open() {
            Err(error) => {
                assert!(matches!(error, StoreError::Foreign { .. }), "{round}, {what}: {error}");
                assert!(std::fs::read(&path).unwrap() == database, "{round}, {what}: the file was touched");
                refused += 1;
            }
            Ok(store) => {
                let alive = store.sessions().unwrap();
                let back = alive.iter().find(|(session, _)| image.ended.contains(&session.id().number()));
                assert!(back.is_none(), "{round}, {what}: {back:?}");
                *(if store.sessions_are_void() { &mut void } else { &mut whole }) += 1;
                // And it goes on working.
                let store = Arc::new(store);
                let journal = Journal::start(Arc::clone(&store)).unwrap();
                login(&journal, 9_000..9_010);
                journal.close();
                drop(journal);
                assert!(
                    !store
                        .history(&Wanted { client: None, user: None, at: None, most: 5 })
                        .unwrap()
                        .is_empty()
                );
                drop(store);
                let again = life.open().unwrap();
                assert!(!again.sessions_are_void(), "{round}, {what}");
                let alive = again.sessions().unwrap();
                assert!(
                    alive.len() >= 10 && !alive.iter().any(|(s, _)| image.ended.contains(&s.id().number()))
                );
            }
        }
    }
    println!("of {rounds}: {refused} refused, {void} without sessions, {whole} as if nothing had happened");
    assert!(refused > 20 && void > 0 && whole > 10, "{refused} {void} {whole}");
}

#[test]
fn a_whole_image_brings_back_exactly_who_was_there() {
    let life = Place::new();
    for image in images(&life) {
        image.leave(&life, &image.database);
        let store = life.open().unwrap();
        assert!(!store.sessions_are_void());
        let alive = store.sessions().unwrap();
        assert!(!alive.iter().any(|(session, _)| image.ended.contains(&session.id().number())));
        assert!(alive.len() >= 399 - image.ended.len());
    }
}

#[test]
fn the_mark_voids_what_is_on_disk_until_the_first_transaction_has_settled_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(directory.path(), None).unwrap());
    let journal = Journal::start(Arc::clone(&store)).unwrap();
    login(&journal, 1..4);
    journal.close();
    // As the journal does when the disk takes no transaction; then the daemon is killed.
    store.revoke().unwrap();
    drop((journal, store));

    let store = Arc::new(Store::open(directory.path(), None).unwrap());
    assert!(store.sessions_are_void());
    assert_eq!(store.sessions().unwrap(), []);
    drop(store);
    let store = Arc::new(Store::open(directory.path(), None).unwrap());
    assert!(store.sessions_are_void(), "killed again before anything was written");
    let journal = Journal::start(Arc::clone(&store)).unwrap();
    login(&journal, 4..5);
    journal.close();
    let running = |store: &Store| {
        let all = store.history(&Wanted { client: None, user: None, at: None, most: 9 }).unwrap();
        all.into_iter()
            .filter(|entry| entry.until.is_none())
            .map(|entry| entry.session.number())
            .collect::<Vec<_>>()
    };
    assert_eq!(running(&store), [4], "those whose end was lost are ended");
    drop((journal, store));
    let store = Store::open(directory.path(), None).unwrap();
    assert!(!store.sessions_are_void());
    let back: Vec<u64> = store.sessions().unwrap().iter().map(|(session, _)| session.id().number()).collect();
    assert_eq!(back, [4]);
}

#[test]
fn whoever_hands_something_over_is_answered_also_at_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(directory.path(), None).unwrap());
    let journal = Arc::new(Journal::start(store).unwrap());
    let (told, answers) = mpsc::channel();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (journal, told) = (Arc::clone(&journal), told.clone());
            std::thread::spawn(move || {
                for _ in 0..200 {
                    let told = told.clone();
                    journal.submit(
                        vec![event(1, super::login())],
                        Some(Box::new(move |kept| told.send(kept).unwrap())),
                    );
                }
            })
        })
        .collect();
    journal.close();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    drop((told, journal));
    // An answer may be that it came too late, or be lost with the journal: then nobody was told it was kept.
    assert!(answers.iter().count() <= 800);
}

#[test]
fn notes_of_who_was_seen_keep_nobody_waiting_and_are_all_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(directory.path(), None).unwrap());
    let journal = Journal::start(Arc::clone(&store)).unwrap();
    let all = 2_000;
    login(&journal, 0..all);
    let noted = |store: &Store| store.sessions().unwrap().iter().filter(|(_, seen)| seen.is_some()).count();
    // While the writer is held up, everybody is noted, one of them twice, and then somebody logs in.
    let (go_on, held) = mpsc::channel::<()>();
    journal.submit(
        vec![event(1, What::Stale(Reason::ClosedTimeout))],
        Some(Box::new(move |_| held.recv().unwrap())),
    );
    let seen = |numbers: std::ops::Range<u64>, at: u64| {
        numbers.map(|number| (client(number), BootTime::from_nanos(at))).collect::<Vec<_>>()
    };
    journal.note_seen(seen(0..all, 1));
    journal.note_seen(seen(7..8, 2));
    let (told, answer) = mpsc::channel();
    let on_disk = Arc::clone(&store);
    journal.submit(
        vec![Entry::Session(client(all), Some(session(all)))],
        Some(Box::new(move |kept| told.send((kept.is_ok(), noted(&on_disk))).unwrap())),
    );
    go_on.send(()).unwrap();
    let (kept, before) = answer.recv().unwrap();
    assert!(kept && before < 1_000, "it waited for {before} notes");
    journal.close();
    assert_eq!(noted(&store), 2_000);
    let stored = store.sessions().unwrap();
    let of_seven =
        stored.iter().find(|(session, _)| session.id() == SessionId::test(7)).map(|(_, seen)| *seen);
    assert_eq!(of_seven, Some(Some(2)), "a later note replaces an earlier one");
}

#[test]
fn what_was_seen_in_another_boot_does_not_outlive_the_session_it_belongs_to() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), None).unwrap();
    let kept = |boot: &str| Some(PortableSession::new(&session(1), boot, &Anchor::now()));
    let seen = boot_now().as_nanos().cast_signed();
    let mut first = Batch::default();
    first.sessions.insert(client(1), kept("first"));
    first.seen.insert(client(1), seen);
    first.seen.insert(client(2), seen);
    store.write(&first).unwrap();
    assert_eq!(store.sessions().unwrap()[0].1, Some(seen));
    let mut second = Batch::default();
    second.sessions.insert(client(1), kept("second"));
    store.write(&second).unwrap();
    assert_eq!(store.sessions().unwrap()[0].1, None);
}
