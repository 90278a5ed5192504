//! The book, with a store, a sealer and a journal as they are.

use std::net::Ipv4Addr;

use prometheus::Registry;

use super::*;

struct Rig {
    directory: tempfile::TempDir,
    store: Arc<Store>,
    journal: Arc<Journal>,
    audit: Arc<Audit>,
    book: ApplicationPasswords,
}

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn client(number: u8) -> ClientAddr {
    Ipv4Addr::new(192, 0, 2, number).into()
}

fn alice() -> Arc<Identity> {
    Arc::new(Identity::new("alice", "EXAMPLE.TEST", "EXAMPLE"))
}

fn named(name: &str) -> New {
    New { name: name.into(), ..New::default() }
}

impl Rig {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::open(directory)
    }

    fn open(directory: tempfile::TempDir) -> Self {
        let store = Arc::new(Store::open(directory.path(), None).unwrap());
        let journal = Arc::new(Journal::start(Arc::clone(&store)).unwrap());
        let audit = Arc::new(Audit::new(&Registry::new()).unwrap());
        let sealer = Arc::new(Sealer::open(directory.path()).unwrap());
        let kept = Arc::clone(&journal);
        let book = ApplicationPasswords::start(&store, sealer, kept, Arc::clone(&audit)).unwrap();
        Self { directory, store, journal, audit, book }
    }

    /// Stops, and leaves what is on disk.
    fn stopped(self) -> tempfile::TempDir {
        let Self { directory, store, journal, .. } = self;
        journal.close();
        store.close();
        directory
    }

    /// The same after a restart.
    fn restarted(self) -> Self {
        Self::open(self.stopped())
    }

    fn make(&self, who: &Arc<Identity>, new: New) -> (Password, View) {
        let (password, view, row) = self.book.make(who, new, NOW).unwrap();
        self.journal.submit(vec![row], None);
        (password, view)
    }

    fn check(&self, password: &Password, account: &str, from: u8, at: Timestamp) -> Result<Fit, Unfit> {
        self.book.check(&Text::parse(password.reveal()).unwrap(), account, client(from), at)
    }
}

#[test]
fn one_is_good_for_its_owner_there_and_then_and_stays_so_over_a_restart() {
    let rig = Rig::new();
    let new = New {
        name: "  git on the laptop ".into(),
        expires: Some(NOW + jiff::Span::new().hours(1)),
        networks: vec!["192.0.2.0/28".parse().unwrap()],
    };
    let (password, view) = rig.make(&alice(), new);
    assert_eq!((view.name.as_str(), view.used), ("git on the laptop", None));
    assert_eq!(&password.reveal()[4..12], view.id);
    let rig = rig.restarted();
    assert_eq!(rig.book.of(&alice()), [view]);
    let (key, later) = ("alice@example.test", NOW + jiff::Span::new().hours(1));
    assert_eq!(*rig.check(&password, key, 1, NOW).unwrap().owner(), alice());
    assert_eq!(rig.check(&password, "bob@example.test", 1, NOW).err(), Some(Unfit::Wrong));
    assert_eq!(rig.check(&password, "alice", 1, NOW).err(), Some(Unfit::Wrong));
    assert_eq!(rig.check(&password, key, 16, NOW).err(), Some(Unfit::Network));
    assert_eq!(rig.check(&password, key, 1, later).err(), Some(Unfit::Expired));
    let other = Password::new(Text::draw().unwrap().shown());
    assert_eq!(rig.check(&other, key, 1, NOW).err(), Some(Unfit::Wrong));
    assert_eq!(rig.book.expired(NOW, later), [alice()]);
    assert!(rig.book.expired(later, later).is_empty());
}

#[test]
fn another_secret_under_a_name_that_there_is_proves_nothing() {
    let rig = Rig::new();
    let (one, view) = rig.make(&alice(), named("one"));
    let (other, _) = rig.make(&alice(), named("other"));
    // The name of one, the secret of the other, and letters that check both.
    let mixed = format!("{}{}", &one.reveal()[..12], &other.reveal()[12..38]);
    let checked = (0..1024).map(|number: usize| {
        let letters = b"0123456789abcdefghjkmnpqrstvwxyz";
        format!("{mixed}{}{}", char::from(letters[number / 32]), char::from(letters[number % 32]))
    });
    let read: Vec<Text> = checked.filter_map(|text| Text::parse(&text).ok()).collect();
    let [text] = read.as_slice() else { panic!("{}", read.len()) };
    assert_eq!(rig.book.check(text, "alice@example.test", client(1), NOW).err(), Some(Unfit::Wrong));
    rig.book.tell_wrong(text, client(1));
    rig.book.tell_wrong(&Text::draw().unwrap(), client(1));
    let told = rig.audit.past(|_| true);
    assert_eq!(told.len(), 1, "of one that nobody has there is nothing to say");
    let Event::SecondFactor(event) = &told[0].event else { panic!("{told:?}") };
    assert_eq!((event.of.as_deref(), event.what), (Some("one"), FactorChange::WrongApplicationPassword));
    assert!(rig.book.delete(&alice(), &view.id).is_some());
}

#[test]
fn what_is_deleted_is_good_no_more_and_comes_back_by_no_restart() {
    let rig = Rig::new();
    let (one, view) = rig.make(&alice(), named("one"));
    let (other, _) = rig.make(&alice(), named("other"));
    let bob = Arc::new(Identity::local("bob"));
    let (third, _) = rig.make(&bob, named("one"));
    assert!(rig.book.delete(&bob, &view.id).is_none(), "it is not his");
    assert!(rig.book.delete(&alice(), "").is_none());
    let (_, row) = rig.book.delete(&alice(), &view.id).unwrap();
    assert_eq!(rig.check(&one, "alice@example.test", 1, NOW).err(), Some(Unfit::Wrong));
    rig.journal.submit(vec![row], None);
    let rig = rig.restarted();
    assert_eq!(rig.check(&one, "alice@example.test", 1, NOW).err(), Some(Unfit::Wrong));
    assert!(rig.check(&other, "alice@example.test", 1, NOW).is_ok());
    assert_eq!(rig.book.owners(&"alice".into()), [alice()]);
    assert_eq!(rig.book.delete_all(&alice()).len(), 1);
    assert!(rig.book.owners(&"alice".into()).is_empty() && rig.book.delete_all(&alice()).is_empty());
    assert!(rig.check(&third, bob.key(), 1, NOW).is_ok());
    assert_eq!(rig.book.count(), (1, 0));
}

#[test]
fn when_it_was_used_is_noted_and_nothing_is_noted_twice() {
    let rig = Rig::new();
    let (password, view) = rig.make(&alice(), named("one"));
    let known = rig.check(&password, "alice@example.test", 1, NOW).unwrap();
    assert!(!known.is_used(client(1), NOW, 0, || true), "banned");
    assert_eq!(rig.book.of(&alice())[0].used, None);
    assert!(known.is_used(client(1), NOW, 0, || false));
    assert!(known.is_used(client(1), NOW, 0, || panic!("nobody was banned since")));
    assert!(!known.is_used(client(1), NOW, 1, || true), "a ban has begun");
    assert!(!known.is_used(client(2), NOW, 0, || true), "from elsewhere");
    assert!(known.is_unnoted());
    rig.book.note_uses();
    assert!(!known.is_unnoted());
    drop(known);
    let rig = rig.restarted();
    assert_eq!(rig.book.of(&alice()), [View { used: Some((NOW, client(1))), ..view }]);
    let known = rig.check(&password, "alice@example.test", 1, NOW).unwrap();
    assert!(!known.is_unnoted());
}

#[test]
fn a_row_that_was_copied_or_has_lost_its_key_is_not_read() {
    let rig = Rig::new();
    let (password, view) = rig.make(&alice(), named("one"));
    // Whatever was to be written is.
    rig.journal.close();
    let [(id, sealed)] = rig.store.sealed(SealedTable::ApplicationPasswords).unwrap().try_into().unwrap();
    assert_eq!(id, view.id);
    let copied = SealedRow {
        table: SealedTable::ApplicationPasswords,
        key: "0".repeat(8),
        value: Some(sealed.clone()),
    };
    rig.store.put_sealed(&[copied], None).unwrap();
    for secret in [&password.reveal()[12..38], "alice", "one"] {
        let secret = secret.as_bytes();
        assert!(!sealed.windows(secret.len()).any(|part| part == secret), "in the clear");
    }
    let rig = rig.restarted();
    assert_eq!(rig.book.count(), (1, 1));
    // Another key of the file's: none is read, and new ones can be made all the same.
    let directory = rig.stopped();
    let file = directory.path().join("second-factor.key");
    let kept = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let rig = Rig::open(directory);
    assert_eq!(rig.book.count(), (0, 2));
    let (later, _) = rig.make(&alice(), named("later"));
    assert!(rig.check(&later, "alice@example.test", 1, NOW).is_ok());
    // The backup of the file brings the others back.
    let directory = rig.stopped();
    std::fs::write(&file, kept).unwrap();
    let rig = Rig::open(directory);
    assert!(rig.check(&password, "alice@example.test", 1, NOW).is_ok());
}

#[test]
fn what_a_user_may_have_is_bounded() {
    let rig = Rig::new();
    let make = |new: New| rig.book.make(&alice(), new, NOW).map(|(_, view, _)| view.name);
    for name in ["", "   ", "a\nb", "a\u{202e}b", &"x".repeat(MOST_NAME + 1)] {
        assert_eq!(make(named(name)), Err(NotMade::Name), "{name:?}");
    }
    let networks = vec!["192.0.2.0/24".parse().unwrap(); MOST_NETWORKS + 1];
    assert_eq!(make(New { networks, ..named("x") }), Err(NotMade::Networks));
    assert_eq!(make(New { expires: Some(NOW), ..named("x") }), Err(NotMade::Expired));
    for number in 0..MOST {
        assert_eq!(make(named(&format!("ü{number}"))), Ok(format!("ü{number}")));
    }
    assert_eq!(make(named("Ü1")), Err(NotMade::SameName));
    assert_eq!(make(named("x")), Err(NotMade::TooMany));
    let first = rig.book.of(&alice())[0].id.clone();
    assert!(rig.book.delete(&alice(), &first).is_some());
    assert_eq!(make(named("x")), Ok("x".into()));
}
