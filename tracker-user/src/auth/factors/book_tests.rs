//! The book: nothing is good twice, nothing is guessed, and what cannot be read is nothing that lets in.

use std::sync::atomic::{AtomicUsize, Ordering};
use zeroize::Zeroizing;

use prometheus::Registry;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::auth::factors::RecoveryCode;
use crate::auth::factors::code::code_of;
use crate::store::SealedRow;

/// A book on a store of its own.
struct Rig {
    book: SecondFactors,
    store: Arc<Store>,
    journal: Arc<Journal>,
    audit: Arc<Audit>,
    directory: TempDir,
}

impl Rig {
    fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap())
    }

    fn on(directory: TempDir) -> Self {
        let store = Arc::new(Store::open(&directory.path().join("state"), None).unwrap());
        let journal = Arc::new(Journal::start(Arc::clone(&store)).unwrap());
        let audit = Arc::new(Audit::new(&Registry::new()).unwrap());
        let sealer = Arc::new(Sealer::open(&directory.path().join("state")).unwrap());
        let kept = Arc::clone(&journal);
        let book =
            SecondFactors::start(&store, sealer, kept, Arc::clone(&audit), Settings::default()).unwrap();
        Self { book, store, journal, audit, directory }
    }

    /// What is on the way to the disk is there, and everything is read from it again.
    fn restart(self) -> Self {
        self.settle();
        let Self { book, store, journal, audit: _, directory } = self;
        store.close();
        drop((book, journal, store));
        Self::on(directory)
    }

    /// What is on the way to the disk is there.
    fn settle(&self) {
        self.journal.close();
    }

    /// Sets up an authenticator for this user, and returns its secret.
    fn enrol(&self, who: &Arc<Identity>, second: i64) -> Zeroizing<Vec<u8>> {
        let enrolment = Enrolment::draw().unwrap();
        let secret = data_encoding::BASE32_NOPAD.decode(enrolment.secret().as_bytes()).unwrap();
        let code = code_of(&secret, second as u64);
        let checked = self.book.enrol(who, &enrolment, &code, at(second), true, |_| ()).unwrap();
        self.journal.submit(checked.entries, None);
        secret.into()
    }

    fn told(&self, what: FactorChange) -> usize {
        self.audit.past(|event| event.cause() == Some(what.as_str())).len()
    }

    fn rows(&self) -> Vec<(String, Vec<u8>)> {
        self.store.sealed(TABLE).unwrap()
    }
}

const START: i64 = 1_700_000_010;
const QUARTER: i64 = 15 * 60;

/// From one client, at this second by both clocks.
fn at(second: i64) -> Sent {
    from(1, second)
}

fn from(client: u8, second: i64) -> Sent {
    Sent {
        client: ClientAddr::from_v4([192, 0, 2, client]),
        at: BootTime::from_nanos((second - START + 1) as u64 * 1_000_000_000),
        wall: Timestamp::from_second(second).unwrap(),
    }
}

fn user(name: &str) -> Arc<Identity> {
    Arc::new(Identity::new(name, "EXAMPLE.TEST", "EXAMPLE.TEST"))
}

fn wrong(rig: &Rig, who: &Arc<Identity>, what: FactorChange, sent: Sent) -> Wrong {
    rig.book.attempt(who, what, sent, |_| Err(Wrong::Code)).unwrap_err()
}

#[test]
fn one_code_by_many_at_once_is_good_once() {
    let rig = Rig::new();
    let alice = user("alice");
    let secret = rig.enrol(&alice, START);
    let code = code_of(&secret, START as u64 + 60);
    let right = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (rig, alice, code, right) = (&rig, &alice, &code, &right);
            scope.spawn(move || {
                for _ in 0..25 {
                    match rig.book.check_code(alice, code, from(thread, START + 60)) {
                        Ok(checked) => {
                            assert_eq!(checked.factor, Factor::Totp);
                            right.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(wrong) => assert!(matches!(wrong, Wrong::Code | Wrong::TooMany), "{wrong:?}"),
                    }
                }
            });
        }
    });
    assert_eq!(right.into_inner(), 1);
    // And spent it is on disk, too: also where nobody hands over what says so, but a later try does.
    let rig = rig.restart();
    assert_eq!(rig.book.check_code(&alice, &code, at(START + 61)).unwrap_err(), Wrong::Code);
}

#[test]
fn all_tries_of_an_account_share_its_budget_and_another_has_its_own() {
    let rig = Rig::new();
    let (alice, bob) = (user("alice"), user("bob"));
    let (secret, bobs) = (rig.enrol(&alice, START), rig.enrol(&bob, START));
    let kinds = [FactorChange::WrongCode, FactorChange::WrongPasskey, FactorChange::WrongRecoveryCode];
    for number in 0..10 {
        let what = kinds[usize::from(number) % 3];
        assert_eq!(wrong(&rig, &alice, what, from(number, START)), Wrong::Code);
    }
    for what in kinds {
        assert_eq!(wrong(&rig, &alice, what, from(99, START)), Wrong::TooMany);
    }
    let code = |secret: &[u8], second: i64| code_of(secret, second as u64);
    let right = code(&secret, START + 30);
    assert_eq!(rig.book.check_code(&alice, &right, at(START + 30)).unwrap_err(), Wrong::TooMany);
    rig.book.check_code(&bob, &code(&bobs, START + 30), at(START + 30)).unwrap();
    let later = START + QUARTER;
    rig.book.check_code(&alice, &code(&secret, later), at(later)).unwrap();
    assert_eq!(rig.told(FactorChange::WrongCode), 4);
    assert_eq!(rig.told(FactorChange::TooMany), 4);
}

#[test]
fn whoever_guesses_patiently_is_locked_out_and_what_nobody_guesses_still_counts() {
    let mut rig = Rig::new();
    let alice = user("alice");
    let secret = rig.enrol(&alice, START);
    let mut now = START;
    for number in 0..100 {
        now += QUARTER;
        let what = if number % 2 == 0 { FactorChange::WrongCode } else { FactorChange::WrongRecoveryCode };
        assert_eq!(wrong(&rig, &alice, what, at(now)), Wrong::Code, "{number}");
        if number % 33 == 0 {
            // Nobody gets the tries back by a crash.
            rig = rig.restart();
        }
    }
    rig = rig.restart();
    now += QUARTER;
    assert!(rig.book.account(&alice).unwrap().is_locked());
    let right = code_of(&secret, now as u64);
    assert_eq!(rig.book.check_code(&alice, &right, at(now)).unwrap_err(), Wrong::Locked);
    assert_eq!(rig.told(FactorChange::Locked), 1);
    // A recovery code that is right unlocks,
    let recovery = |_: &mut Account| Ok((Factor::RecoveryCode, 0));
    rig.book.attempt(&alice, FactorChange::WrongRecoveryCode, at(now), recovery).unwrap();
    rig.book.check_code(&alice, &right, at(now)).unwrap();
    // and so does a reset, after which nothing is left.
    rig.book.change(&alice, |account| account.wrong = 100).unwrap();
    assert_eq!(rig.book.check_code(&alice, &right, at(now)).unwrap_err(), Wrong::Locked);
    let (was, row) = rig.book.reset(&alice);
    rig.journal.submit(vec![row], None);
    assert!(was && rig.book.keys().is_empty());
    let rig = rig.restart();
    assert_eq!((rig.book.enrolled(&alice), rig.rows().len()), (Factors::NONE, 0));
}

#[test]
fn what_cannot_be_read_is_asked_for_and_nothing_is_good_until_it_is_reset() {
    let rig = Rig::new();
    let (alice, bob, carol) = (user("alice"), user("bob"), user("carol"));
    let secret = rig.enrol(&alice, START);
    rig.enrol(&bob, START);
    rig.enrol(&carol, START);
    rig.settle();
    // Bob's row is Alice's, and Carol's is damaged.
    let mut rows = rig.rows();
    let of_alice = rows[0].1.clone();
    rows[2].1[40] ^= 1;
    let put = [(1, of_alice), (2, rows[2].1.clone())].map(|(number, value): (usize, _)| SealedRow {
        table: TABLE,
        key: rows[number].0.clone(),
        value: Some(value),
    });
    rig.store.put_sealed(&put, None).unwrap();
    let rig = rig.restart();
    assert_eq!(rig.book.count(), (1, 2));
    let code = code_of(&secret, START as u64 + 60);
    let asked = Factors::NONE.with(Factor::Totp);
    for who in [&bob, &carol] {
        assert!(rig.book.is_unreadable(who) && rig.book.account(who).is_none());
        assert_eq!(rig.book.enrolled(who), asked);
        assert_eq!(rig.book.check_code(who, &code, at(START + 60)).unwrap_err(), Wrong::Unreadable);
        let all_is_well = |_: &mut Account| Ok((Factor::Passkey, 0));
        let tried = rig.book.attempt(who, FactorChange::WrongPasskey, at(START + 60), all_is_well);
        assert_eq!(tried.unwrap_err(), Wrong::Unreadable);
        assert_eq!(rig.book.change(who, |_| ()).unwrap_err(), NoAccount);
        let enrolment = Enrolment::draw().unwrap();
        let enrolled = rig.book.enrol(who, &enrolment, "000000", at(START + 60), true, |_| ());
        assert_eq!(enrolled.unwrap_err(), Wrong::Unreadable, "nobody sets up a factor of somebody else's");
    }
    rig.book.check_code(&alice, &code, at(START + 60)).unwrap();
    let rig = rig.restart();
    assert_eq!(rig.rows().len(), 3, "what cannot be read stays: the key may come back");
    let (was, row) = rig.book.reset(&bob);
    rig.journal.submit(vec![row], None);
    assert!(was);
    rig.enrol(&bob, START + 90);
    let rig = rig.restart();
    assert_eq!((rig.book.enrolled(&bob), rig.book.is_unreadable(&bob)), (asked, false));
    assert_eq!(rig.book.count(), (2, 1));
}

#[test]
fn nothing_is_kept_of_who_has_set_up_nothing() {
    let rig = Rig::new();
    let mallory = user("mallory");
    assert_eq!(rig.book.check_code(&mallory, "123456", at(START)).unwrap_err(), Wrong::NotEnrolled);
    assert_eq!(wrong(&rig, &mallory, FactorChange::WrongRecoveryCode, at(START)), Wrong::Code);
    let enrolment = Enrolment::draw().unwrap();
    let tried = rig.book.enrol(&mallory, &enrolment, "nonsense", at(START), true, |_| ());
    assert_eq!(tried.unwrap_err(), Wrong::Code);
    let ((), row) = rig.book.change(&mallory, |account| account.wrong = 7).unwrap();
    rig.journal.submit(vec![row], None);
    assert!(rig.book.keys().is_empty() && rig.book.account(&mallory).is_none());
    assert_eq!((rig.book.enrolled(&mallory), rig.book.count()), (Factors::NONE, (0, 0)));
    let (was, row) = rig.book.reset(&mallory);
    rig.journal.submit(vec![row], None);
    rig.settle();
    assert!(!was && rig.rows().is_empty());
    // The tries counted all the same.
    for _ in 0..8 {
        wrong(&rig, &mallory, FactorChange::WrongCode, at(START));
    }
    assert_eq!(rig.told(FactorChange::TooMany), 0);
}

#[test]
fn what_is_enrolled_follows_changes_and_a_first_factor_begins_a_new_generation() {
    let rig = Rig::new();
    let alice = user("Alice");
    let generation = || rig.book.account(&alice).unwrap().generation;
    let address = |text: &str| Some(Zeroizing::new(text.to_owned()));
    rig.book.change(&alice, |account| account.recovery_address = address("a@example.org")).unwrap();
    assert_eq!((rig.book.enrolled(&alice), rig.book.count()), (Factors::NONE, (0, 0)));
    rig.enrol(&alice, START);
    let first = generation();
    assert_eq!(rig.book.enrolled(&user("ALICE")), Factors::NONE.with(Factor::Totp), "in any case");
    rig.book.change(&alice, |account| account.recovery_codes.push(RecoveryCode([7; 32]))).unwrap();
    assert_eq!(generation(), first, "what is remembered goes on");
    rig.enrol(&alice, START + 30);
    let second = generation();
    assert_ne!(second, first, "another authenticator");
    rig.book.change(&alice, |account| account.authenticator = None).unwrap();
    assert_eq!(rig.book.enrolled(&alice), Factors::NONE);
    assert_eq!(generation(), second, "the rest is still there");
    // Whatever sets up a first factor, by whatever way: it is not the generation of the one before.
    let put_back = rig.book.account(&alice).unwrap();
    rig.enrol(&alice, START + 60);
    let whole = rig.book.account(&alice).unwrap();
    rig.book.change(&alice, |account| *account = put_back).unwrap();
    rig.book.change(&alice, |account| account.authenticator = whole.authenticator.clone()).unwrap();
    assert!(![first, second, whole.generation].contains(&generation()));
    rig.book.change(&alice, |account| *account = Account::of(&alice)).unwrap();
    assert!(rig.book.keys().is_empty(), "where nothing is left, nothing is kept");
}

#[test]
fn changes_may_come_to_the_journal_in_any_order() {
    let rig = Rig::new();
    let alice = user("alice");
    let secret = rig.enrol(&alice, START);
    let code = |second: i64| code_of(&secret, second as u64);
    let first = rig.book.check_code(&alice, &code(START + 60), at(START + 60)).unwrap();
    let second = rig.book.check_code(&alice, &code(START + 90), at(START + 90)).unwrap();
    rig.journal.submit(second.entries, None);
    rig.journal.submit(first.entries, None);
    let rig = rig.restart();
    let tried = rig.book.check_code(&alice, &code(START + 90), at(START + 100));
    assert_eq!(tried.unwrap_err(), Wrong::Code, "it was spent");
    let ((), late) = rig.book.change(&alice, |account| account.wrong = 3).unwrap();
    let (_, row) = rig.book.reset(&alice);
    rig.journal.submit(vec![row], None);
    rig.journal.submit(vec![late], None);
    let rig = rig.restart();
    assert!(rig.rows().is_empty(), "what was reset does not come back");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whenever the gateway is started anew, and whatever is typed: a code is good within a step of now, and behind the last one.
    #[test]
    fn steps_only_go_forward(
        tries in prop::collection::vec((0_i64..90, -3_i64..=3, any::<bool>()), 1..12)
    ) {
        let mut rig = Rig::new();
        let alice = user("alice");
        let secret = rig.enrol(&alice, START);
        let (mut now, mut last) = (START, START / 30);
        for (passed, off, restarts) in tries {
            now += passed;
            if restarts {
                rig = rig.restart();
            }
            let step = now / 30 + off;
            let outcome = rig.book.check_code(&alice, &code_of(&secret, (step * 30) as u64), at(now));
            let is_right = off.abs() <= 1 && step > last;
            // One in a million is another step's as well.
            prop_assert_eq!(outcome.is_ok(), is_right, "{} {} {}", now, step, last);
            if let Ok(checked) = outcome {
                // Whoever is behind is told so from the second time on.
                prop_assert!([0, off].contains(&checked.drift), "{}", checked.drift);
                rig.journal.submit(checked.entries, None);
                last = step;
            }
        }
        rig.settle();
    }
}
