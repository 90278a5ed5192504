//! The door with accounts and a regulation that do as they are told.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::super::accounts::Checked;
use super::super::name::BadAccount;
use super::super::pace::FLOOR;
use super::super::places::OF_CLIENT;
use super::super::regulated::Begun;
use super::*;
use crate::auth::application_passwords::New;
use crate::auth::regulation::Banned;

/// What happened, in order.
#[derive(Debug, Default)]
struct Journal {
    asked: AtomicUsize,
    began: AtomicUsize,
    succeeded: AtomicUsize,
    failed: AtomicUsize,
    void: AtomicUsize,
    bans: AtomicU64,
    /// The only address that the bans are about, where it is not 0: the last number of it.
    only: AtomicU64,
    generation: AtomicU64,
    is_disabled: std::sync::atomic::AtomicBool,
}

#[derive(Clone, Debug)]
struct Fake {
    journal: Arc<Journal>,
    /// Answers wait for one of these each.
    answers: Arc<Semaphore>,
}

impl Accounts for Fake {
    fn find(&self, typed: &str, _rules: &NameRules) -> Result<Target, BadAccount> {
        match typed.strip_prefix("local\\") {
            _ if typed.is_empty() => Err(BadAccount::Length),
            Some(user) => Ok(Target::local(user.into())),
            None => Ok(Target::of_realm(typed.to_lowercase(), None, &format!("{}@r", typed.to_lowercase()))),
        }
    }

    fn generation(&self, target: &Target) -> Option<u64> {
        target.is_local().then(|| self.journal.generation.load(Relaxed))
    }

    fn is_disabled(&self, _target: &Target) -> bool {
        self.journal.is_disabled.load(Relaxed)
    }

    fn check<'a>(&'a self, target: &'a Target, password: Password) -> Checked<'a> {
        Box::pin(async move {
            self.journal.asked.fetch_add(1, Relaxed);
            self.answers.acquire().await.unwrap().forget();
            let user = target.key().split('@').next().unwrap_or_default();
            match (user, password.reveal()) {
                ("down", _) => Err(Failure::Unavailable("no KDC".into())),
                ("full", _) => Err(Failure::Busy),
                ("elsewhere", _) => Err(Failure::rejected(Cause::ForeignRealm, "no such realm")),
                _ if self.journal.is_disabled.load(Relaxed) => {
                    Err(Failure::rejected(Cause::Disabled, "disabled"))
                }
                (_, "right") => Ok(Identity::new(user, "R", "R")),
                _ => Err(Failure::rejected(Cause::WrongPassword, "wrong")),
            }
        })
    }
}

impl Regulation for Fake {
    fn begin_in_turn<'a>(&'a self, client: ClientAddr, account: &'a str) -> Begun<'a> {
        let is_banned = self.is_banned(client, account);
        self.journal.began.fetch_add(1, Relaxed);
        let begun: Box<dyn Trying> = Box::new(self.clone());
        Box::pin(async move { if is_banned { Err(Banned) } else { Ok(begun) } })
    }

    fn is_banned(&self, of: ClientAddr, _account: &str) -> bool {
        let only = u8::try_from(self.journal.only.load(Relaxed)).unwrap();
        self.journal.bans.load(Relaxed) > 0 && (only == 0 || of == client(only))
    }

    fn generation(&self) -> u64 {
        self.journal.bans.load(Relaxed)
    }
}

impl Trying for Fake {
    fn succeeded(self: Box<Self>) {
        self.journal.succeeded.fetch_add(1, Relaxed);
    }

    fn failed(self: Box<Self>, _is_known: bool) {
        self.journal.failed.fetch_add(1, Relaxed);
    }

    fn is_void(self: Box<Self>) {
        self.journal.void.fetch_add(1, Relaxed);
    }
}

struct Rig {
    door: Arc<Passwords>,
    journal: Arc<Journal>,
    answers: Arc<Semaphore>,
    registry: prometheus::Registry,
}

impl Rig {
    /// Answers are there at once.
    fn new() -> Self {
        let rig = Self::slow();
        rig.answers.add_permits(1_000_000);
        rig
    }

    /// Answers wait until they are given.
    fn slow() -> Self {
        let fake = Fake { journal: Arc::default(), answers: Arc::new(Semaphore::new(0)) };
        let registry = prometheus::Registry::new();
        let counters = Counters::new(&registry).unwrap();
        let settings = Settings { counts_once_for: Duration::from_secs(120), ..Settings::default() };
        let (journal, answers) = (Arc::clone(&fake.journal), Arc::clone(&fake.answers));
        let door = Passwords::with(Box::new(fake.clone()), Box::new(fake), None, counters, settings).unwrap();
        Self { door: Arc::new(door), journal, answers, registry }
    }

    async fn ask(&self, user: &str, password: &str) -> Result<Proved, Failure> {
        self.door.verify(user, typed(password), Place::Page, client(1), BootTime::from_nanos(42)).await
    }

    fn recall(&self, user: &str, password: &str) -> Option<Proved> {
        self.door.recall(user, &typed(password), client(1), BootTime::from_nanos(43))
    }

    /// How often somebody was asked, and how tries ended: right, wrong, void.
    fn counts(&self) -> [usize; 4] {
        let Journal { asked, succeeded, failed, void, .. } = &*self.journal;
        [asked, succeeded, failed, void].map(|count| count.load(Relaxed))
    }

    fn counted(&self, line: &str) -> bool {
        prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap().contains(line)
    }
}

fn client(number: u8) -> ClientAddr {
    Ipv4Addr::new(10, 0, 0, number).into()
}

fn typed(password: &str) -> Password {
    Password::new(Zeroizing::new(password.into()))
}

fn cause(result: Result<Proved, Failure>) -> Cause {
    match result {
        Err(Failure::Rejected(rejection)) => match rejection.cause {
            crate::auth::Cause::Password(cause) => cause,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_right_password_is_asked_for_once_in_a_while() {
    let rig = Rig::new();
    assert!(rig.recall("alice", "right").is_none());
    let proved = rig.ask("alice", "right").await.unwrap();
    assert_eq!(
        (proved.identity.key(), proved.method, proved.at),
        ("alice@r", Method::Password, BootTime::from_nanos(42))
    );
    for _ in 0..3 {
        assert_eq!(rig.ask("ALICE", "right").await.unwrap().identity.user(), "alice");
        assert_eq!(rig.recall("alice", "right").unwrap().at, BootTime::from_nanos(43));
    }
    assert_eq!(rig.counts(), [1, 1, 0, 3]);
    assert!(rig.recall("alice", "wrong").is_none() && rig.recall("bob", "right").is_none());
    let other = rig.door.recall("alice", &typed("right"), client(2), BootTime::default());
    assert!(other.is_none(), "another address proves itself anew");
    for line in ["by=\"kdc\"} 1\n", "by=\"remembered\"} 6\n"] {
        assert!(rig.counted(line), "{line}");
    }
}

#[tokio::test]
async fn it_is_forgotten_at_logout_ban_change_and_reload() {
    let rig = Rig::new();
    let alice = Identity::new("alice", "R", "R");
    for account in ["alice", "local\\alice"] {
        rig.ask(account, "right").await.unwrap();
        assert!(rig.recall(account, "right").is_some());
    }
    rig.journal.generation.fetch_add(1, Relaxed);
    assert!(
        rig.recall("local\\alice", "right").is_none() && rig.recall("alice", "right").is_some(),
        "changed"
    );
    rig.door.forget(client(2), &alice);
    assert!(rig.recall("alice", "right").is_some(), "elsewhere");
    // It is not known by another name either.
    rig.ask("local\\alice", "right").await.unwrap();
    rig.door.forget(client(1), &alice);
    assert!(
        rig.recall("alice", "right").is_none() && rig.recall("local\\alice", "right").is_none(),
        "logout"
    );

    rig.ask("alice", "right").await.unwrap();
    rig.door.configure(Settings::default());
    assert!(rig.recall("alice", "right").is_none(), "reload");

    rig.ask("alice", "right").await.unwrap();
    rig.journal.bans.store(1, Relaxed);
    assert!(rig.recall("alice", "right").is_none(), "ban");
    assert_eq!(cause(rig.ask("alice", "right").await), Cause::Banned);
    rig.journal.bans.store(0, Relaxed);
    assert!(rig.recall("alice", "right").is_none(), "and after it");
}

/// Neither what is remembered of the user nor what is about to be, however often a banned address sends the name.
#[tokio::test]
async fn who_is_banned_has_nothing_forgotten_of_others() {
    let rig = Rig::slow();
    rig.answers.add_permits(1);
    rig.ask("alice", "right").await.unwrap();
    rig.journal.only.store(9, Relaxed);
    rig.journal.bans.store(1, Relaxed);
    let try_of_9 =
        async |user| rig.door.verify(user, typed("x"), Place::Page, client(9), BootTime::default()).await;
    assert_eq!(cause(try_of_9("alice").await), Cause::Banned);
    assert!(rig.recall("alice", "right").is_some(), "it is still known");

    let door = Arc::clone(&rig.door);
    let asking = tokio::spawn(async move {
        door.verify("bob", typed("right"), Place::Page, client(1), BootTime::default()).await
    });
    while rig.counts()[0] < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(cause(try_of_9("nobody").await), Cause::Banned);
    rig.answers.add_permits(1);
    asking.await.unwrap().unwrap();
    assert!(rig.recall("bob", "right").is_some(), "and is remembered");
}

#[tokio::test]
async fn what_is_forgotten_while_it_is_asked_for_is_not_remembered() {
    let rig = Rig::slow();
    let door = Arc::clone(&rig.door);
    let asking = tokio::spawn(async move {
        door.verify("alice", typed("right"), Place::Page, client(1), BootTime::default()).await
    });
    while rig.counts()[0] == 0 {
        tokio::task::yield_now().await;
    }
    rig.door.forget(client(1), &Identity::new("alice", "R", "R"));
    rig.answers.add_permits(1);
    assert!(asking.await.unwrap().is_ok());
    assert!(rig.recall("alice", "right").is_none());
}

#[tokio::test]
async fn one_wrong_password_is_one_try_however_often_it_comes() {
    let rig = Rig::new();
    for _ in 0..4 {
        assert_eq!(cause(rig.ask("alice", "left-over").await), Cause::WrongPassword);
    }
    assert_eq!(rig.counts(), [1, 0, 1, 3], "nobody is asked again, and it counts once");
    assert_eq!(cause(rig.ask("alice", "another").await), Cause::WrongPassword);
    assert_eq!(rig.counts(), [2, 0, 2, 3]);
    assert!(rig.counted("cause=\"wrong-password\"} 5\n"));
    // From another address it is another try.
    let elsewhere =
        rig.door.verify("alice", typed("left-over"), Place::Page, client(2), BootTime::default()).await;
    assert_eq!(cause(elsewhere), Cause::WrongPassword);
    assert_eq!(rig.counts(), [3, 0, 3, 3]);
}

#[tokio::test]
async fn a_password_that_is_no_longer_right_is_forgotten() {
    let rig = Rig::new();
    rig.ask("alice", "right").await.unwrap();
    rig.journal.is_disabled.store(true, Relaxed);
    rig.door.forget(client(1), &Identity::new("alice", "R", "R"));
    assert_eq!(cause(rig.ask("alice", "right").await), Cause::Disabled);
    assert_eq!(cause(rig.ask("alice", "right").await), Cause::Disabled);
    assert_eq!(rig.counts(), [2, 1, 1, 1], "for a while nobody is asked");
}

#[tokio::test]
async fn what_cannot_be_a_name_and_a_password_is_no_try() {
    let rig = Rig::new();
    let long = "x".repeat(MAX_CHARACTERS + 1);
    let wide = "\u{10ffff}".repeat(MAX_CHARACTERS);
    assert_eq!(wide.len(), MAX_BYTES);
    assert_eq!(cause(rig.ask("alice", "").await), Cause::Length);
    assert_eq!(cause(rig.ask("alice", &long).await), Cause::Length);
    assert_eq!(cause(rig.ask("", "right").await), Cause::Name);
    assert_eq!((rig.counts(), rig.journal.began.load(Relaxed)), ([0, 0, 0, 0], 0));
    assert_eq!(cause(rig.ask("alice", &wide).await), Cause::WrongPassword);
    assert_eq!(rig.counts(), [1, 0, 1, 0]);
}

#[tokio::test]
async fn what_nobody_looked_at_is_no_try() {
    let rig = Rig::new();
    assert!(matches!(rig.ask("down", "x").await, Err(Failure::Unavailable(_))));
    assert!(matches!(rig.ask("full", "x").await, Err(Failure::Busy)));
    assert_eq!(cause(rig.ask("elsewhere", "x").await), Cause::ForeignRealm);
    assert_eq!(rig.counts(), [3, 0, 0, 3]);
    assert!(matches!(rig.ask("down", "x").await, Err(Failure::Unavailable(_))), "and it is asked again");
    assert_eq!(rig.counts(), [4, 0, 0, 4]);
}

#[tokio::test]
async fn one_password_that_comes_several_times_at_once_is_one_try() {
    let rig = Rig::slow();
    let waiting: Vec<_> = (0..8)
        .map(|number| {
            let (door, password) = (Arc::clone(&rig.door), if number < 6 { "right" } else { "wrong" });
            tokio::spawn(async move {
                door.verify("alice", typed(password), Place::Page, client(1), BootTime::default()).await
            })
        })
        .collect();
    while rig.counts()[0] < 2 {
        tokio::task::yield_now().await;
    }
    rig.answers.add_permits(2);
    let mut right = 0;
    for one in waiting {
        right += usize::from(one.await.unwrap().is_ok());
    }
    assert_eq!((right, rig.counts()), (6, [2, 1, 1, 0]));
}

#[tokio::test]
async fn a_client_that_leaves_has_tried_all_the_same() {
    let rig = Rig::slow();
    let door = Arc::clone(&rig.door);
    let leaving = tokio::spawn(async move {
        door.verify("alice", typed("wrong"), Place::Page, client(1), BootTime::default()).await
    });
    while rig.counts()[0] == 0 {
        tokio::task::yield_now().await;
    }
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    rig.answers.add_permits(1);
    while rig.counts() != [1, 0, 1, 0] {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn one_client_cannot_take_all_the_places() {
    let rig = Rig::slow();
    let door = |number| {
        let door = Arc::clone(&rig.door);
        async move { door.verify("alice", typed("x"), Place::Page, client(number), BootTime::default()).await }
    };
    let waiting: Vec<_> = (0..OF_CLIENT).map(|_| tokio::spawn(door(1))).collect();
    while rig.counts()[0] == 0 {
        tokio::task::yield_now().await;
    }
    assert!(matches!(door(1).await, Err(Failure::Busy)));
    rig.answers.add_permits(2);
    assert_eq!(cause(door(2).await), Cause::WrongPassword);
    for one in waiting {
        assert_eq!(cause(one.await.unwrap()), Cause::WrongPassword);
    }
}

/// The sentence for the person, and the time that it takes, are the same for all of them.
#[tokio::test]
async fn no_refusal_tells_which_it_is() {
    let rig = Rig::new();
    for (user, password) in [
        ("alice", "wrong"),
        ("alice", "wrong"),
        ("", "x"),
        ("alice", ""),
        ("elsewhere", "x"),
        ("local\\x", "x"),
    ] {
        let begun = boot_now();
        let failure = rig.ask(user, password).await.unwrap_err();
        assert!(boot_now().since(begun) >= FLOOR, "{user}");
        let Failure::Rejected(rejection) = &failure else { panic!("{failure:?}") };
        assert_eq!(failure.user_message(), Cause::WrongPassword.user_message());
        assert_eq!(rejection.cause.page_label(), "password");
    }
}

/// An application password of `account@r`, in a book of its own.
fn applications(account: &str, new: New) -> (Arc<ApplicationPasswords>, Password, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(crate::store::Store::open(directory.path(), None).unwrap());
    let journal = Arc::new(crate::store::Journal::start(Arc::clone(&store)).unwrap());
    let audit = Arc::new(crate::audit::Audit::new(&prometheus::Registry::new()).unwrap());
    let sealer = Arc::new(crate::store::Sealer::open(directory.path()).unwrap());
    let book = ApplicationPasswords::start(&store, sealer, journal, audit).unwrap();
    let (password, ..) =
        book.make(&Arc::new(Identity::new(account, "R", "R")), new, crate::clock::wall_now()).unwrap();
    (Arc::new(book), password, directory)
}

impl Rig {
    /// A door that knows application passwords.
    fn knowing(book: &Arc<ApplicationPasswords>) -> Self {
        let fake = Fake { journal: Arc::default(), answers: Arc::new(Semaphore::new(1_000_000)) };
        let registry = prometheus::Registry::new();
        let counters = Counters::new(&registry).unwrap();
        let settings = Settings { counts_once_for: Duration::from_secs(120), ..Settings::default() };
        let (journal, answers) = (Arc::clone(&fake.journal), Arc::clone(&fake.answers));
        let book = Some(Arc::clone(book));
        let door = Passwords::with(Box::new(fake.clone()), Box::new(fake), book, counters, settings).unwrap();
        Self { door: Arc::new(door), journal, answers, registry }
    }

    async fn at_proxy(&self, user: &str, password: &str) -> Result<Proved, Failure> {
        self.door.verify(user, typed(password), Place::Proxy, client(1), BootTime::from_nanos(42)).await
    }
}

#[tokio::test]
async fn an_application_password_is_known_at_once_and_asks_nobody() {
    let (book, password, _directory) = applications("alice", New { name: "git".into(), ..New::default() });
    let rig = Rig::knowing(&book);
    for user in ["alice", "ALICE"] {
        let proved = rig.recall(user, password.reveal()).unwrap();
        assert_eq!((proved.identity.key(), proved.method), ("alice@r", Method::ApplicationPassword));
        assert_eq!(rig.at_proxy(user, password.reveal()).await.unwrap().method, Method::ApplicationPassword);
    }
    assert_eq!(rig.counts(), [0, 0, 0, 2], "no KDC, no hash, and a try that is none");
    assert!(rig.counted("by=\"app-password\"} 4\n"));
    // Who is banned is refused with the next request, and so is who is disabled.
    rig.journal.bans.store(1, Relaxed);
    assert!(rig.recall("alice", password.reveal()).is_none());
    assert_eq!(cause(rig.at_proxy("alice", password.reveal()).await), Cause::Banned);
    rig.journal.bans.store(0, Relaxed);
    rig.journal.is_disabled.store(true, Relaxed);
    assert!(rig.recall("alice", password.reveal()).is_none());
    assert_eq!(cause(rig.at_proxy("alice", password.reveal()).await), Cause::Disabled);
}

#[tokio::test(start_paused = true)]
async fn what_is_deleted_is_refused_with_the_next_request_and_counts_once() {
    let (book, password, _directory) = applications("alice", New { name: "git".into(), ..New::default() });
    let rig = Rig::knowing(&book);
    assert!(rig.recall("alice", password.reveal()).is_some());
    assert_eq!(book.delete_all(&Identity::new("alice", "R", "R")).len(), 1);
    for _ in 0..3 {
        assert!(rig.recall("alice", password.reveal()).is_none());
        assert_eq!(cause(rig.at_proxy("alice", password.reveal()).await), Cause::WrongApplicationPassword);
    }
    assert_eq!(rig.counts(), [0, 0, 1, 2], "a program that goes on sending it bans nobody");
    assert_eq!(cause(rig.at_proxy("bob", password.reveal()).await), Cause::WrongApplicationPassword);
    assert_eq!(rig.counts(), [0, 0, 2, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_is_right_or_was_mistyped_counts_as_no_try() {
    let networks = vec!["192.0.2.0/24".parse().unwrap()];
    let (book, password, _directory) =
        applications("alice", New { name: "git".into(), networks, ..New::default() });
    let rig = Rig::knowing(&book);
    let text = password.reveal();
    let last = if text.ends_with('0') { "1" } else { "0" };
    let mistyped = format!("{}{last}", &text[..text.len() - 1]);
    for (typed, why) in [
        (text, Cause::ApplicationPasswordNetwork),
        (&mistyped, Cause::Mistyped),
        ("tap_", Cause::Mistyped),
        ("tap_right", Cause::Mistyped),
    ] {
        assert!(rig.recall("alice", typed).is_none());
        assert_eq!(cause(rig.at_proxy("alice", typed).await), why, "{typed}");
    }
    assert_eq!(rig.counts(), [0, 0, 0, 4]);
}

/// Whatever begins like one reaches neither a KDC nor a hash; on a page it is not even looked at.
#[tokio::test]
async fn on_a_page_an_application_password_is_refused_unseen() {
    let (book, password, _directory) = applications("alice", New { name: "git".into(), ..New::default() });
    let rig = Rig::knowing(&book);
    for typed in [password.reveal(), "tap_right", "tap_"] {
        let failure = rig.ask("alice", typed).await.unwrap_err();
        assert!(failure.user_message().as_str().contains("application password"));
        assert_eq!(cause(Err(failure)), Cause::ApplicationPasswordOnPage);
    }
    assert_eq!((rig.counts(), rig.journal.began.load(Relaxed)), ([0; 4], 0));
    assert!(rig.counted("cause=\"app-password-on-page\"} 3\n"));
}
