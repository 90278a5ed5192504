use std::sync::mpsc;

use tempfile::TempDir;

use super::*;
use crate::audit::Via;
use crate::store::Store;

const SETTINGS: Settings =
    Settings { max_retries: 3, find_time: Duration::from_secs(1_800), ban_time: Duration::from_secs(1_800) };
const ALICE: &str = "alice@example.test";

fn client(number: u8) -> ClientAddr {
    ClientAddr::from_v4([192, 0, 2, number])
}

/// A regulator on a store; both end with it, in any way.
struct Rig {
    regulator: Regulator,
    audit: Arc<Audit>,
    journal: Arc<Journal>,
    store: Arc<Store>,
}

impl Rig {
    fn start(directory: &TempDir) -> Self {
        let store = Arc::new(Store::open(directory.path(), None).unwrap());
        let journal = Arc::new(Journal::start(Arc::clone(&store)).unwrap());
        let audit = Arc::new(Audit::new(&Registry::new()).unwrap());
        let parts = Parts {
            settings: SETTINGS,
            secret: store.names_secret([3; 32]).unwrap(),
            bans: store.bans().unwrap(),
            unbannable: Box::new(|client| client.ip().is_loopback()),
            keeping: Keeping { journal: Arc::clone(&journal), audit: Arc::clone(&audit) },
        };
        Self { regulator: Regulator::new(parts).unwrap(), audit, journal, store }
    }

    /// What has been handed to the journal is on disk.
    fn settle(&self) {
        let (tell, told) = mpsc::channel();
        self.journal.submit(Vec::new(), Some(Box::new(move |outcome| tell.send(outcome).unwrap())));
        told.recv().unwrap().unwrap();
    }

    fn end(self) {
        self.settle();
        self.journal.close();
        self.store.close();
    }

    fn trail(&self) -> String {
        self.audit.past(|_| true).iter().map(|entry| format!("{entry:?}\n")).collect()
    }
}

fn wrong(regulator: &Regulator, from: u8, account: &str, is_known: bool) -> Result<(), Banned> {
    let one = regulator.begin(client(from), account)?;
    if is_known {
        one.known().failed();
    } else {
        one.failed();
    }
    Ok(())
}

#[test]
fn a_ban_stands_after_a_restart_until_it_is_lifted_for_good() {
    let directory = tempfile::tempdir().unwrap();
    let rig = Rig::start(&directory);
    (0..3).for_each(|_| wrong(&rig.regulator, 1, ALICE, true).unwrap());
    let before = rig.regulator.bans();
    assert_eq!(rig.regulator.begin(client(1), ALICE).map(drop), Err(Banned));
    assert_eq!((before.len(), before[0].tries, before[0].account.as_deref()), (1, 3, Some(ALICE)));
    rig.end();

    let rig = Rig::start(&directory);
    assert_eq!(rig.regulator.bans(), before);
    assert!(rig.regulator.is_banned(client(1), ALICE) && !rig.regulator.is_banned(client(2), ALICE));
    assert_eq!(rig.regulator.begin(client(1), ALICE).map(drop), Err(Banned));
    let (tell, told) = mpsc::channel();
    let lifted = rig.regulator.lift(
        |ban| ban.target.names_address(client(1)),
        &Actor::unknown(Via::Socket),
        Box::new(move |outcome| tell.send(outcome).unwrap()),
    );
    assert_eq!(lifted.len(), 1);
    told.recv().unwrap().unwrap();
    assert_eq!(rig.store.bans().unwrap(), []);
    assert!(rig.trail().contains("lifted before its time"), "{}", rig.trail());
    assert!(rig.regulator.begin(client(1), ALICE).is_ok());
    rig.end();
    assert_eq!(Rig::start(&directory).regulator.bans(), []);
}

#[test]
fn a_password_that_was_typed_for_a_name_is_shown_and_kept_nowhere() {
    const TYPED: &str = "correct horse battery staple";
    let directory = tempfile::tempdir().unwrap();
    let rig = Rig::start(&directory);
    (0..3).for_each(|_| wrong(&rig.regulator, 1, TYPED, false).unwrap());
    let begun = rig.regulator.begin(client(2), TYPED).unwrap();
    assert!(!format!("{begun:?} {:?}", rig.regulator).contains("horse"));
    begun.failed();
    let bans = rig.regulator.bans();
    assert_eq!(bans.iter().map(|ban| ban.target.scope()).collect::<Vec<_>>(), ["user", "pair"]);
    assert!(!format!("{bans:?} {}", rig.trail()).contains("horse"));
    assert!(rig.trail().contains("a name that is no user's, from this address"), "{}", rig.trail());
    rig.end();
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let content = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!content.windows(5).any(|window| window == b"horse"));
        assert!(!content.windows(5).any(|window| window == b"alice"), "nobody tried alice");
    }
    // But it is counted, after a restart too, and whoever knows it can lift the ban.
    let rig = Rig::start(&directory);
    assert_eq!(rig.regulator.begin(client(3), TYPED).map(drop), Err(Banned));
    let key = rig.regulator.key_of(TYPED);
    assert!(rig.regulator.bans().iter().all(|ban| ban.target.name() == Some(key)));
}

#[test]
fn who_leaves_has_tried_and_what_is_void_has_not() {
    let regulator = Regulator::alone(SETTINGS);
    for _ in 0..50 {
        regulator.begin(client(1), ALICE).unwrap().is_void();
    }
    (0..3).for_each(|_| drop(regulator.begin(client(1), ALICE).unwrap()));
    assert_eq!(regulator.begin(client(1), ALICE).map(drop), Err(Banned));
    assert_eq!(regulator.banned(), 1);
    // A right one makes room for the pair.
    for _ in 0..5 {
        wrong(&regulator, 2, "bob@example.test", true).unwrap();
        regulator.begin(client(2), "bob@example.test").unwrap().succeeded();
    }
    assert_eq!(regulator.banned(), 1);
}

#[test]
fn a_hundred_at_once_get_no_more_than_the_budget() {
    let regulator = Regulator::alone(SETTINGS);
    let begun: Vec<Result<Try, Banned>> = (0..100).map(|_| regulator.begin(client(1), ALICE)).collect();
    assert_eq!(begun.iter().filter(|one| one.is_ok()).count(), 3);
    assert_eq!(regulator.banned(), 0, "it depends on them");
    drop(begun);
    assert_eq!(regulator.banned(), 1);
}

#[tokio::test]
async fn a_hundred_at_once_with_the_right_secret_are_all_served_in_turn() {
    let regulator = Regulator::alone(SETTINGS);
    let all = async |is_right: bool| {
        let mut all = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let regulator = regulator.clone();
            all.spawn(async move {
                let begun = regulator.begin_in_turn(client(1), ALICE).await?;
                tokio::task::yield_now().await;
                if is_right {
                    begun.succeeded();
                } else {
                    begun.failed();
                }
                Ok::<(), Banned>(())
            });
        }
        all.join_all().await.iter().filter(|one| one.is_ok()).count()
    };
    assert_eq!(all(true).await, 100);
    assert_eq!(all(false).await, 3, "with a wrong one they are not");
    assert_eq!(regulator.banned(), 1);
}

#[test]
fn an_address_that_many_come_from_is_not_banned_but_each_of_its_pairs() {
    let directory = tempfile::tempdir().unwrap();
    let rig = Rig::start(&directory);
    let here = ClientAddr::from_v4([127, 0, 0, 1]);
    for number in 0..200 {
        rig.regulator.begin(here, &format!("user{number}@example.test")).unwrap().failed();
    }
    assert_eq!(rig.regulator.bans(), []);
    (0..3).for_each(|_| rig.regulator.begin(here, ALICE).unwrap().failed());
    assert_eq!(rig.regulator.begin(here, ALICE).map(drop), Err(Banned));
    assert_eq!(rig.regulator.banned(), 1);
}

#[test]
fn whoever_remembers_passwords_learns_of_bans_and_who_counts_of_them_too() {
    let regulator = Regulator::alone(SETTINGS);
    let registry = Registry::new();
    regulator.register(&registry).unwrap();
    let before = regulator.generation();
    (0..2).for_each(|_| wrong(&regulator, 1, ALICE, true).unwrap());
    assert_eq!(regulator.generation(), before, "nobody is banned yet");
    wrong(&regulator, 1, ALICE, true).unwrap();
    assert_ne!(regulator.generation(), before);
    assert_eq!(regulator.begin(client(1), ALICE).map(drop), Err(Banned));
    let page = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for line in [
        r#"tracker_regulation_bans_active{scope="pair"} 1"#,
        r#"tracker_regulation_bans_active{scope="user"} 0"#,
        r#"tracker_regulation_bans_total{scope="pair"} 1"#,
        "tracker_regulation_refused_total 1",
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
    // Switched off, nothing is counted and nobody banned.
    regulator.configure(Settings { max_retries: 0, ..SETTINGS });
    (0..50).for_each(|_| wrong(&regulator, 1, ALICE, true).unwrap());
    assert_eq!(regulator.banned(), 0);
}
