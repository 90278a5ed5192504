//! Passkeys by a device that the tests have themselves.

use std::sync::mpsc;
use std::time::Duration;

use jiff::Timestamp;
use prometheus::Registry;
use proptest::prelude::*;
use tempfile::TempDir;

use super::soft::SoftKey;
use super::*;
use crate::audit::Audit;
use crate::auth::factors::Settings;
use crate::clock::boot_now;
use crate::session::FactorPolicy;
use crate::store::{Journal, Sealer, Store};

const HOST: &str = "gw.example.test";
const ORIGIN: &str = "https://gw.example.test:4081";

struct Rig {
    passkeys: Passkeys,
    book: Arc<SecondFactors>,
    store: Arc<Store>,
    audit: Arc<Audit>,
    journal: Arc<Journal>,
    directory: TempDir,
}

fn settings() -> Settings {
    Settings {
        passkeys: true,
        passkey_alone: true,
        issuer: "Example".into(),
        host: HOST.into(),
        policy: FactorPolicy {
            realms: [("example.test".into(), Demand::Always)].into(),
            trusted: Vec::new(),
        },
        ..Settings::default()
    }
}

impl Rig {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(directory.path(), None).unwrap());
        let journal = Arc::new(Journal::start(Arc::clone(&store)).unwrap());
        let audit = Arc::new(Audit::new(&Registry::new()).unwrap());
        let book = Self::book(&store, &journal, &audit, &directory);
        Self { passkeys: Passkeys::new(Arc::clone(&book)), book, store, audit, journal, directory }
    }

    fn book(
        store: &Store,
        journal: &Arc<Journal>,
        audit: &Arc<Audit>,
        directory: &TempDir,
    ) -> Arc<SecondFactors> {
        let sealer = Arc::new(Sealer::open(directory.path()).unwrap());
        let book = SecondFactors::start(store, sealer, Arc::clone(journal), Arc::clone(audit), settings());
        Arc::new(book.unwrap())
    }

    /// The book as it is after a restart, once this is on disk.
    fn again(&self, rows: Vec<Entry>) -> Arc<SecondFactors> {
        let (tell, told) = mpsc::channel();
        self.journal.submit(rows, Some(Box::new(move |outcome| tell.send(outcome).unwrap())));
        told.recv().unwrap().unwrap();
        Self::book(&self.store, &self.journal, &self.audit, &self.directory)
    }

    fn add(&self, who: &Identity, id: &[u8], name: &str) -> (SoftKey, Result<Entry, Refused>) {
        let asked = self.passkeys.ask_for_new(who, &asking()).unwrap();
        let key = SoftKey::new(&asked, id);
        let answer = made(&key, &asked);
        let added =
            self.passkeys.add(who, &asking(), New { number: asked.number(), answer, name }, sent(), |_| {});
        (key, added)
    }

    fn show_own(&self, who: &Arc<Identity>, key: &mut SoftKey) -> Result<Checked, Refused> {
        let asked = self.passkeys.ask_for_own(who, &asking()).unwrap();
        let answer = shown_by(key, &asked);
        self.passkeys.check_own(who, &asking(), asked.number(), &answer, sent())
    }

    fn show_any(&self, key: &mut SoftKey) -> Result<(Arc<Identity>, Checked), Refused> {
        let asked = self.passkeys.ask_for_any(&asking()).unwrap();
        let answer = shown_by(key, &asked);
        self.passkeys.check_any(&asking(), asked.number(), &answer, sent())
    }
}

fn asking() -> Asking<'static> {
    let client = ClientAddr::from_v4([192, 0, 2, 1]);
    Asking { client, origin: ORIGIN, host: HOST, browser: "cookie", at: boot_now() }
}

fn sent() -> Sent {
    let wall = Timestamp::from_second(1_700_000_000).unwrap();
    Sent { client: asking().client, at: boot_now(), wall }
}

fn made(key: &SoftKey, asked: &Asked) -> RegisterPublicKeyCredential {
    serde_json::from_value(key.made(asked, HOST, ORIGIN)).unwrap()
}

fn shown_by(key: &mut SoftKey, asked: &Asked) -> PublicKeyCredential {
    serde_json::from_value(key.shown(asked, HOST, ORIGIN)).unwrap()
}

fn alice() -> Arc<Identity> {
    Arc::new(Identity::new("Alice", "EXAMPLE.TEST", "EXAMPLE.TEST"))
}

#[test]
fn a_passkey_is_made_shown_as_second_factor_and_alone_and_is_there_after_a_restart() {
    let (rig, alice) = (Rig::new(), alice());
    let asked = rig.passkeys.ask_for_new(&alice, &asking()).unwrap();
    let options = asked.options();
    assert_eq!(options["authenticatorSelection"]["residentKey"], "preferred");
    assert_eq!(options["authenticatorSelection"]["userVerification"], "required");
    assert_eq!((&options["rp"]["id"], &options["timeout"]), (&HOST.into(), &60_000.into()));
    let (mut phone, added) = rig.add(&alice, b"phone", " Phone ");
    added.unwrap();
    let (mut laptop, added) = rig.add(&alice, b"laptop", "Laptop");
    added.unwrap();
    assert_eq!((phone.handle.len(), &phone.handle), (16, &laptop.handle), "one handle for both");
    assert!(!phone.handle.windows(5).any(|piece| piece.eq_ignore_ascii_case(b"alice")));
    assert!(rig.book.enrolled(&alice).has(Factor::Passkey));
    let names: Vec<_> = rig.book.account(&alice).unwrap().passkeys.into_iter().map(|own| own.name).collect();
    assert_eq!(names, ["Phone", "Laptop"]);
    let asked = rig.passkeys.ask_for_new(&alice, &asking()).unwrap();
    assert_eq!(asked.options()["excludeCredentials"].as_array().unwrap().len(), 2);

    let checked = rig.show_own(&alice, &mut phone).unwrap();
    assert_eq!((checked.factor, checked.drift), (Factor::Passkey, 0));
    let (who, checked) = rig.show_any(&mut laptop).unwrap();
    assert!(who.is_spelled_like(&alice));
    assert!(rig.book.account(&alice).unwrap().passkeys[1].used.is_some());

    // Counters and handles are kept.
    let rig = Rig { book: rig.again(checked.entries), ..rig };
    let rig = Rig { passkeys: Passkeys::new(Arc::clone(&rig.book)), ..rig };
    laptop.counter -= 1;
    assert_eq!(rig.show_any(&mut laptop).unwrap_err(), Wrong::PasskeyCounter.into());
    rig.show_any(&mut laptop).unwrap();
}

#[test]
fn a_counter_that_does_not_go_on_is_refused_unless_there_is_none() {
    let (rig, alice) = (Rig::new(), alice());
    let (mut key, added) = rig.add(&alice, b"key", "Key");
    added.unwrap();
    rig.show_own(&alice, &mut key).unwrap();
    key.counter = 0;
    for _ in 0..2 {
        assert_eq!(
            rig.show_own(&alice, &mut key).unwrap_err(),
            Wrong::PasskeyCounter.into(),
            "{}",
            key.counter
        );
    }
    rig.show_own(&alice, &mut key).unwrap();
    // Those that are copied from device to device have none.
    let asked = rig.passkeys.ask_for_new(&alice, &asking()).unwrap();
    let mut synced = SoftKey::new(&asked, b"synced");
    synced.counts = false;
    rig.passkeys
        .add(
            &alice,
            &asking(),
            New { number: asked.number(), answer: made(&synced, &asked), name: "Synced" },
            sent(),
            |_| {},
        )
        .unwrap();
    for _ in 0..3 {
        rig.show_own(&alice, &mut synced).unwrap();
    }
}

#[test]
fn what_is_not_good_is_refused_and_counts() {
    let (rig, alice) = (Rig::new(), alice());
    let (mut key, added) = rig.add(&alice, b"key", "Key");
    added.unwrap();
    let bob = Arc::new(Identity::new("bob", "EXAMPLE.TEST", ""));
    let (mut bobs, added) = rig.add(&bob, b"bob's", "Key");
    added.unwrap();
    let wrong = Refused::Wrong(Wrong::Passkey);
    assert_eq!(rig.show_own(&alice, &mut bobs).unwrap_err(), wrong, "somebody else's");
    // Whose handle it has been given does not make it theirs.
    bobs.handle = key.handle.clone();
    assert_eq!(rig.show_any(&mut bobs).unwrap_err(), wrong);
    let own = std::mem::replace(&mut key.handle, vec![7; 16]);
    assert_eq!(rig.show_own(&alice, &mut key).unwrap_err(), wrong, "another handle");
    assert_eq!(rig.show_any(&mut key).unwrap_err(), Refused::Unknown);
    key.handle = own;
    key.verifies = false;
    assert_eq!(rig.show_any(&mut key).unwrap_err(), wrong, "its user was not verified");
    key.verifies = true;
    let asked = rig.passkeys.ask_for_own(&alice, &asking()).unwrap();
    for (host, origin) in
        [(HOST, "https://evil.test"), ("evil.test", ORIGIN), (HOST, "http://gw.example.test:4081")]
    {
        let asked = rig.passkeys.ask_for_own(&alice, &asking()).unwrap();
        let answer = serde_json::from_value(key.shown(&asked, host, origin)).unwrap();
        let refused = rig.passkeys.check_own(&alice, &asking(), asked.number(), &answer, sent()).unwrap_err();
        assert_eq!(refused, wrong, "{host} {origin}");
    }
    let other = rig.passkeys.ask_for_own(&alice, &asking()).unwrap();
    let answer = shown_by(&mut key, &other);
    let refused = rig.passkeys.check_own(&alice, &asking(), asked.number(), &answer, sent()).unwrap_err();
    assert_eq!(refused, wrong, "another challenge");
    let tries = rig.book.account(&alice).unwrap().wrong;
    assert_eq!(tries, 8);
    for _ in tries..10 {
        bobs.counter += 1;
        rig.show_own(&alice, &mut bobs).unwrap_err();
    }
    assert_eq!(rig.show_own(&alice, &mut key).unwrap_err(), Wrong::TooMany.into());
}

#[test]
fn an_answer_is_good_once_in_time_from_its_browser_for_its_user_and_its_purpose() {
    let (rig, alice) = (Rig::new(), alice());
    let (mut key, added) = rig.add(&alice, b"key", "Key");
    added.unwrap();
    let late = Refused::Late;
    let asked = rig.passkeys.ask_for_own(&alice, &asking()).unwrap();
    let answer = shown_by(&mut key, &asked);
    let check = |asking: &Asking<'_>, who: &Arc<Identity>| {
        rig.passkeys.check_own(who, asking, asked.number(), &answer, sent()).map(drop)
    };
    let elsewhere = [
        Asking { browser: "another", ..asking() },
        Asking { client: ClientAddr::from_v4([192, 0, 2, 2]), ..asking() },
    ];
    for asking in elsewhere {
        assert_eq!(check(&asking, &alice), Err(late.clone()));
    }
    assert_eq!(check(&asking(), &alice), Ok(()), "others' tries have not used it up");
    assert_eq!(check(&asking(), &alice), Err(late.clone()), "once");
    for (asks, who) in [
        (Asking { at: boot_now().after(Duration::from_secs(61)), ..asking() }, &alice),
        (Asking { origin: "https://gw.example.test", ..asking() }, &alice),
        (asking(), &Arc::new(Identity::local("alice"))),
    ] {
        let asked = rig.passkeys.ask_for_own(&alice, &asking()).unwrap();
        let answer = shown_by(&mut key, &asked);
        let checked = rig.passkeys.check_own(who, &asks, asked.number(), &answer, sent());
        assert_eq!(checked.map(drop), Err(late.clone()), "{asks:?}");
    }
    let asked = rig.passkeys.ask_for_own(&alice, &asking()).unwrap();
    let answer = shown_by(&mut key, &asked);
    assert_eq!(
        rig.passkeys.check_any(&asking(), asked.number(), &answer, sent()).map(drop),
        Err(late.clone())
    );
    for number in ["", "0", "zz", &"0".repeat(32), &"0".repeat(4_000)] {
        assert_eq!(rig.passkeys.check_any(&asking(), number, &answer, sent()).map(drop), Err(late.clone()));
    }
    assert_eq!(rig.book.account(&alice).unwrap().wrong, 0, "none of these is a try");
}

#[test]
fn however_many_ask_only_so_many_are_remembered_and_one_address_does_not_push_others_out() {
    let (rig, alice) = (Rig::new(), alice());
    let (mut key, added) = rig.add(&alice, b"key", "Key");
    added.unwrap();
    let mine = rig.passkeys.ask_for_any(&asking()).unwrap();
    let other = Asking { client: ClientAddr::from_v4([192, 0, 2, 2]), ..asking() };
    let first = rig.passkeys.ask_for_any(&other).unwrap();
    for _ in 0..32 {
        rig.passkeys.ask_for_any(&Asking { at: boot_now(), ..other }).unwrap();
    }
    let answer = shown_by(&mut key, &first);
    assert_eq!(rig.passkeys.check_any(&other, first.number(), &answer, sent()).map(drop), Err(Refused::Late));
    let answer = shown_by(&mut key, &mine);
    rig.passkeys.check_any(&asking(), mine.number(), &answer, sent()).unwrap();
}

#[test]
fn names_are_bounded_and_a_users_own_and_a_user_has_ten() {
    let (rig, alice) = (Rig::new(), alice());
    for (name, refused) in [
        ("", Refused::Name),
        (" \t", Refused::Name),
        ("a\u{202e}b", Refused::Name),
        ("a\nb", Refused::Name),
        (&"a".repeat(65), Refused::Name),
    ] {
        assert_eq!(rig.add(&alice, b"key", name).1.map(drop), Err(refused), "{name:?}");
    }
    let (mut first, added) = rig.add(&alice, b"first", &"ä".repeat(64));
    added.unwrap();
    assert_eq!(rig.add(&alice, b"second", &"Ä".repeat(64)).1.map(drop), Err(Refused::NameTaken));
    let bob = Identity::new("bob", "EXAMPLE.TEST", "");
    assert_eq!(
        rig.add(&bob, b"first", "Key").1.map(drop),
        Err(Refused::Known),
        "the same passkey of another user"
    );
    assert!(rig.book.account(&bob).is_none());
    for number in 1..10 {
        rig.add(&alice, format!("key{number}").as_bytes(), &format!("Key {number}")).1.unwrap();
    }
    assert_eq!(rig.passkeys.ask_for_new(&alice, &asking()).map(drop), Err(Refused::Full));

    let passkeys = &rig.passkeys;
    let id = |id: &str| data_encoding::BASE64URL_NOPAD.encode(id.as_bytes());
    let remove = |who: &Identity, of: &str| passkeys.remove(who, &id(of)).map(|(name, _)| name);
    assert_eq!(passkeys.rename(&alice, &id("key1"), "key 2").map(drop), Err(Refused::NameTaken));
    assert_eq!(passkeys.rename(&alice, &id("key1"), "KEY 1").map(drop), Ok(()));
    for none in [&id("other"), "", "=", "key1"] {
        assert_eq!(passkeys.rename(&alice, none, "Other").map(drop), Err(Refused::Gone), "{none}");
    }
    assert_eq!(remove(&alice, "first"), Ok("ä".repeat(64)));
    assert_eq!(rig.show_any(&mut first).unwrap_err(), Wrong::Passkey.into(), "deleted");
    assert_eq!(remove(&alice, "first"), Err(Refused::Gone));
    for number in 2..10 {
        remove(&alice, &format!("key{number}")).unwrap();
    }
    assert_eq!(remove(&alice, "key1"), Err(Refused::Last));
    rig.book.configure(Settings { policy: FactorPolicy::default(), ..settings() });
    assert_eq!(remove(&alice, "key1"), Ok("KEY 1".into()));
    assert!(rig.book.enrolled(&alice).is_empty());
    assert_eq!(rig.show_any(&mut first).unwrap_err(), Refused::Unknown, "none is left");
    assert_eq!(remove(&bob, "first"), Err(Refused::Gone));
    assert!(rig.book.account(&bob).is_none(), "looking for one makes no account");
    rig.book.reset(&alice);
    rig.add(&bob, b"key1", "Key").1.unwrap();
}

#[test]
fn where_the_host_has_changed_passkeys_stop_and_go_on_when_it_is_put_back() {
    let (rig, alice) = (Rig::new(), alice());
    let (mut key, added) = rig.add(&alice, b"key", "Key");
    added.unwrap();
    rig.show_any(&mut key).unwrap();
    let asked = rig.passkeys.ask_for_any(&asking()).unwrap();
    rig.book.configure(Settings { host: "moved.test".into(), ..settings() });
    let moved = Asking { host: "moved.test", origin: "https://moved.test", ..asking() };
    let stopped = Err(Refused::Unusable(Unusable::Stopped));
    for asking in [asking(), moved] {
        assert_eq!(rig.passkeys.ask_for_new(&alice, &asking).map(drop), stopped);
        assert_eq!(rig.passkeys.ask_for_any(&asking).map(drop), stopped);
    }
    let answer = shown_by(&mut key, &asked);
    assert_eq!(rig.passkeys.check_any(&asking(), asked.number(), &answer, sent()).map(drop), stopped);
    // Below the host that they were made for they go on.
    rig.book.configure(Settings { host: "new.gw.example.test".into(), ..settings() });
    let below = Asking { host: "new.gw.example.test", origin: "https://new.gw.example.test", ..asking() };
    let asked = rig.passkeys.ask_for_any(&below).unwrap();
    assert_eq!(asked.options()["rpId"], HOST);
    let answer = serde_json::from_value(key.shown(&asked, HOST, below.origin)).unwrap();
    rig.passkeys.check_any(&below, asked.number(), &answer, sent()).unwrap();
    rig.book.configure(Settings { passkey_alone: false, ..settings() });
    assert_eq!(rig.passkeys.ask_for_any(&asking()).map(drop), Err(Unusable::Off.into()));
    rig.show_own(&alice, &mut key).unwrap();
    rig.book.configure(Settings { passkeys: false, ..settings() });
    assert_eq!(rig.passkeys.ask_for_own(&alice, &asking()).map(drop), Err(Unusable::Off.into()));
    // With the last one of the old host, the new one is taken.
    rig.book.configure(Settings { host: "moved.test".into(), ..settings() });
    rig.book.reset(&alice);
    assert_eq!(rig.passkeys.ask_for_new(&alice, &moved).unwrap().options()["rp"]["id"], "moved.test");
}

#[test]
fn keys_that_are_none_are_refused_when_they_are_made_or_shown() {
    let rsa = |n: &[u8; 256], e: &[u8; 3]| {
        [b"\xa4\x01\x03\x03\x39\x01\x00\x20\x59\x01\x00", &n[..], b"\x21\x43", e].concat()
    };
    let ec = |x: &[u8; 32], y: &[u8; 32]| {
        [b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20", &x[..], b"\x22\x58\x20", y].concat()
    };
    let mut even = [0xff; 256];
    even[255] = 0xfe;
    let mut one = [0; 256];
    one[255] = 1;
    let good = &[1, 0, 1];
    for key in [
        rsa(&[0; 256], good),
        rsa(&one, good),
        rsa(&even, good),
        rsa(&[0xff; 256], &[0, 0, 0]),
        rsa(&[0xff; 256], &[0, 0, 1]),
        rsa(&[0xff; 256], &[0xff; 3]),
        rsa(&[0xff; 256], good),
        ec(&[0; 32], &[0; 32]),
        ec(&[0xff; 32], &[0xff; 32]),
        b"\xa0".to_vec(),
        [0x81].repeat(5_000),
        [0xa1].repeat(5_000),
        [0xbf].repeat(5_000),
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
    ] {
        let (rig, alice) = (Rig::new(), alice());
        let asked = rig.passkeys.ask_for_new(&alice, &asking()).unwrap();
        let mut made = SoftKey::new(&asked, b"key");
        let answer = serde_json::from_value(made.made_with(&asked, HOST, ORIGIN, &key)).unwrap();
        match rig.passkeys.add(
            &alice,
            &asking(),
            New { number: asked.number(), answer, name: "Key" },
            sent(),
            |_| {},
        ) {
            Err(refused) => assert_eq!(refused, Refused::NotMade),
            Ok(_) => assert_eq!(rig.show_any(&mut made).unwrap_err(), Wrong::Passkey.into()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever bytes are other ones: it is refused, and nothing ends.
    #[test]
    fn nothing_that_a_browser_says_ends_anything(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let change = |text: &Value| {
            let mut bytes = data_encoding::BASE64URL_NOPAD.decode(text.as_str().unwrap().as_bytes()).unwrap();
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Value::from(data_encoding::BASE64URL_NOPAD.encode(&bytes))
        };
        thread_local! {
            static RIG: Rig = Rig::new();
        }
        RIG.with(|rig| {
            let alice = alice();
            rig.book.reset(&alice);
            for field in ["attestationObject", "clientDataJSON"] {
                let asked = rig.passkeys.ask_for_new(&alice, &asking()).unwrap();
                let key = SoftKey::new(&asked, b"a passkey");
                let mut said = key.made(&asked, HOST, ORIGIN);
                said["response"][field] = change(&said["response"][field]);
                if let Ok(answer) = serde_json::from_value(said) {
                    let _ = rig.passkeys.add(&alice, &asking(), New { number: asked.number(), answer, name: "Changed" }, sent(), |_| {});
                }
            }
            rig.book.reset(&alice);
            let (mut key, added) = rig.add(&alice, b"a passkey", "Key");
            added.unwrap();
            for field in ["authenticatorData", "clientDataJSON", "signature", "userHandle"] {
                let asked = rig.passkeys.ask_for_any(&asking()).unwrap();
                let was = key.shown(&asked, HOST, ORIGIN);
                let mut said = was.clone();
                said["response"][field] = change(&was["response"][field]);
                if let Ok(answer) = serde_json::from_value(said.clone()) {
                    let checked = rig.passkeys.check_any(&asking(), asked.number(), &answer, sent());
                    assert!(checked.is_err() || said == was, "{said}");
                }
            }
        });
    }
}
