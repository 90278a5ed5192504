//! The book of further factors: see the room.

mod found;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tracing::warn;

use super::account::Account;
use super::account_password::Told;
use super::code::{Checked, Enrolment, Wrong};
use super::counters::{Counters, FactorCollector, Outcome};
use super::devices::Devices;
use super::held::{Book, Held, Known, NoAccount, TABLE, random, told, unseal};
use super::passkeys::Indexed;
use super::recovery_address::Mailboxes;
use crate::audit::{Actor, Audit, Event, FactorChange, SecondFactorEvent, TrailEntry};
use crate::clock::BootTime;
use crate::session::{FactorPolicy, Proven};
use crate::store::{Entry, Journal, Rows, Sealer, Store, StoreError};
use crate::types::{ClientAddr, Factor, Factors, Identity, Method};

/// What factors are demanded and accepted by.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Who must prove one.
    pub policy: FactorPolicy,
    /// Whether passkeys can be added and used,
    pub passkeys: bool,
    /// and are enough alone.
    pub passkey_alone: bool,
    /// So long browsers are remembered; zero: none is.
    pub remember: Duration,
    /// So long a reset by mail waits.
    pub recovery_delay: Duration,
    /// Whether mail can be sent: a recovery address is needed then.
    pub mails: bool,
    /// The name that authenticators show.
    pub issuer: String,
    /// The host that passkeys are made for.
    pub host: String,
    /// What is known of mailboxes: see [`RecoveryAddress::parse`](super::RecoveryAddress::parse).
    pub mailboxes: Mailboxes,
}

/// Where a factor comes from, and when.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// From where.
    pub client: ClientAddr,
    /// When, by the clock that does not jump,
    pub at: BootTime,
    /// and by the one that authenticators go by.
    pub wall: Timestamp,
}

/// See the module.
pub struct SecondFactors {
    sealer: Arc<Sealer>,
    journal: Arc<Journal>,
    audit: Arc<Audit>,
    settings: ArcSwap<Settings>,
    counters: Counters,
    book: Arc<Book>,
    devices: Devices,
    /// Who hears of users that have nothing set up any more.
    on_loss: OnceLock<OnLoss>,
    /// Whose account password was refused a short while ago.
    pub(super) told: Mutex<Told>,
}

/// Who is told of a user that has nothing set up any more, by whatever way.
pub type OnLoss = Box<dyn Fn(&Arc<Identity>) + Send + Sync>;

impl std::fmt::Debug for SecondFactors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecondFactors").finish_non_exhaustive()
    }
}

impl SecondFactors {
    /// What the store has. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn start(
        store: &Store,
        sealer: Arc<Sealer>,
        journal: Arc<Journal>,
        audit: Arc<Audit>,
        settings: Settings,
    ) -> Result<Self, StoreError> {
        let mut held = Held::default();
        for (key, sealed) in store.sealed(TABLE)? {
            let known = match unseal(&sealer, &key, &sealed) {
                Some(account) => {
                    held.passkeys.add(&key, Indexed::of(&account));
                    Known::of(&account, sealed)
                }
                None => {
                    warn!(
                        user = key,
                        "the second factor of a user cannot be read: they cannot log in until it is reset"
                    );
                    Known::Unreadable
                }
            };
            held.known.insert(key.into(), known);
        }
        let devices = Devices::start(store, &sealer, &journal)?;
        let (settings, book) = (ArcSwap::from_pointee(settings), Arc::new(Book(Mutex::new(held))));
        let (counters, on_loss, told) = (Counters::default(), OnceLock::new(), Mutex::default());
        Ok(Self { sealer, journal, audit, settings, counters, book, devices, on_loss, told })
    }

    /// Has `told` hear of each user that has nothing set up any more, from now on.
    pub fn on_loss(&self, told: OnLoss) {
        // Set once, at start.
        let _ = self.on_loss.set(told);
    }

    fn lost(&self, who: &Identity) {
        if let Some(told) = self.on_loss.get() {
            told(&Arc::new(who.clone()));
        }
    }

    /// Goes by other settings from now on.
    pub fn configure(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// What it goes by.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// The factors that a user has set up. Of one whose account cannot be read: a code, which cannot be right.
    #[must_use]
    pub fn enrolled(&self, who: &Identity) -> Factors {
        match self.book.held().known.get(who.key()) {
            Some(Known::Sealed { factors, .. }) => *factors,
            Some(Known::Unreadable) => Factors::NONE.with(Factor::Totp),
            None => Factors::NONE,
        }
    }

    /// The factor that is missing from whoever has proved themselves by `method` and `factors`.
    #[must_use]
    pub fn missing(&self, who: &Identity, method: Method, factors: Factors) -> Option<Factor> {
        let settings = self.settings.load();
        if !settings.policy.asks_anybody() {
            return None;
        }
        let enrolled = self.enrolled(who);
        settings.policy.missing(&Proven { identity: who, method, factors, enrolled })
    }

    /// How many users have set one up, and of how many it cannot be read.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let (mut enrolled, mut unreadable) = (0, 0);
        for known in self.book.held().known.values() {
            match known {
                Known::Sealed { factors, .. } => enrolled += usize::from(!factors.is_empty()),
                Known::Unreadable => unreadable += 1,
            }
        }
        (enrolled, unreadable)
    }

    /// By [`Identity::key`], everybody of whom there is something set up, or something that cannot be read.
    #[must_use]
    pub fn keys(&self) -> Vec<Box<str>> {
        let mut keys: Vec<Box<str>> = self.book.held().known.keys().cloned().collect();
        keys.sort_unstable();
        keys
    }

    /// Whether there is something of a user that cannot be read.
    #[must_use]
    pub fn is_unreadable(&self, who: &Identity) -> bool {
        matches!(self.book.held().known.get(who.key()), Some(Known::Unreadable))
    }

    /// What has come of tries, and how many users there are, for who scrapes it.
    ///
    /// # Errors
    /// Never with these names; passed on from the library.
    pub fn collector(self: &Arc<Self>) -> prometheus::Result<FactorCollector> {
        let book = Arc::clone(self);
        self.counters.collector(move || book.count())
    }

    /// What a user has set up; `None`: nothing, or it cannot be read.
    #[must_use]
    pub fn account(&self, who: &Identity) -> Option<Account> {
        self.account_of(who.key())
    }

    /// The same, by [`Identity::key`].
    pub(super) fn account_of(&self, key: &str) -> Option<Account> {
        match self.book.held().known.get(key)? {
            Known::Sealed { sealed, .. } => unseal(&self.sealer, key, sealed),
            Known::Unreadable => None,
        }
    }

    /// The resets by mail that wait: by [`Identity::key`], and when each takes effect.
    pub(super) fn waiting_recoveries(&self) -> Vec<(Box<str>, Timestamp)> {
        let held = self.book.held();
        let due = held.known.iter().filter_map(|(key, known)| match known {
            Known::Sealed { due, .. } => Some((key.clone(), (*due)?)),
            Known::Unreadable => None,
        });
        due.collect()
    }

    /// Browsers that are remembered.
    #[must_use]
    pub fn devices(&self) -> &Devices {
        &self.devices
    }

    /// Changes what a user has set up, and returns what `change` does, and what says so on disk: hand it to the journal, in whatever
    /// order; what is written is what the user has set up by then. Of several changes at once each sees the one before. Where
    /// nothing is left, the row goes. Whoever sets up a first factor begins a new generation.
    ///
    /// # Errors
    /// When the account cannot be read; nothing is changed then.
    pub fn change<T>(
        &self,
        who: &Identity,
        change: impl FnOnce(&mut Account) -> T,
    ) -> Result<(T, Entry), NoAccount> {
        let mut held = self.book.held();
        let had = held.has_any(who);
        let changed = held.change(&self.sealer, who, change);
        let is_lost = had && !held.has_any(who);
        drop(held);
        if is_lost {
            self.lost(who);
        }
        Ok((changed?, self.row(who)))
    }

    /// Forgets what a user has set up; whether there was anything, and what says so on disk.
    pub fn reset(&self, who: &Identity) -> (bool, Entry) {
        let mut held = self.book.held();
        if let Ok(account) = held.account(&self.sealer, who) {
            held.passkeys.remove(&Indexed::of(&account));
        }
        let was = held.known.remove(who.key()).is_some();
        held.budget.right(who.key());
        drop(held);
        self.lost(who);
        (was, self.row(who))
    }

    fn row(&self, who: &Identity) -> Entry {
        let book: Arc<dyn Rows> = Arc::<Book>::clone(&self.book);
        Entry::Latest(book, who.key().into())
    }

    /// Whether a code is right, for what is known of its user. It is spent then; a wrong one counts, and stands in the audit trail.
    ///
    /// # Errors
    /// When it is not accepted.
    pub fn check_code(&self, who: &Arc<Identity>, code: &str, sent: Sent) -> Result<Checked, Wrong> {
        self.attempt(who, FactorChange::WrongCode, sent, |account| {
            let authenticator = account.authenticator.as_mut().ok_or(Wrong::NotEnrolled)?;
            let before = authenticator.drift;
            if !authenticator.spend(code, sent.wall) {
                return Err(Wrong::Code);
            }
            Ok((Factor::Totp, told(before, authenticator.drift)))
        })
    }

    /// One try to prove a factor: `check` looks whether it is right, and spends it. All tries of an account, whatever they
    /// are of, share its budgets. Where so many codes were wrong that none is looked at any more ([`Account::is_locked`]), what
    /// nobody guesses still is: passkeys and recovery codes.
    ///
    /// # Errors
    /// What `check` says, and when the budgets are spent. A wrong one ([`Wrong::is_try`]) counts, and stands in the audit trail as
    /// `refused`; what `check` has changed is kept then, too. Of any other error nothing is kept. One that is right stops a reset
    /// by mail that waits: whoever can prove a factor needs none.
    pub fn attempt(
        &self,
        who: &Arc<Identity>,
        refused: FactorChange,
        sent: Sent,
        check: impl FnOnce(&mut Account) -> Result<(Factor, i64), Wrong>,
    ) -> Result<Checked, Wrong> {
        let mut stopped = false;
        let outcome = self.book.held().attempt(&self.sealer, who, refused, sent, |account| {
            let waits = account.recovery.due();
            let proved = check(account)?;
            stopped = account.recovery.proved_otherwise(waits);
            Ok(proved)
        });
        self.counters.count(Outcome::of(&outcome));
        if stopped && outcome.is_ok() {
            self.tell(who, Some(sent.client), FactorChange::RecoveryStopped, None, None);
        }
        let wrong = match outcome {
            Ok((factor, drift)) => return Ok(Checked { factor, drift, entries: vec![self.row(who)] }),
            Err(wrong) => wrong,
        };
        let what = match wrong {
            Wrong::Code | Wrong::Passkey => refused,
            Wrong::PasskeyCounter => FactorChange::PasskeyCounter,
            Wrong::TooMany => FactorChange::TooMany,
            Wrong::Locked => FactorChange::Locked,
            Wrong::NotEnrolled | Wrong::AlreadyEnrolled | Wrong::Unreadable | Wrong::Unable => {
                return Err(wrong);
            }
        };
        if wrong.is_try() {
            self.journal.submit(vec![self.row(who)], None);
        }
        self.tell(who, Some(sent.client), what, None, None);
        Err(wrong)
    }

    /// Takes a new authenticator for the user, if `code` is its code: that code is spent. What was remembered under the one before
    /// counts no more. `also` changes what is set up together with it. Where a factor is set up already, this takes its place only if
    /// `replaces`: if that one was proved.
    ///
    /// # Errors
    /// When the code is not accepted.
    pub fn enrol(
        &self,
        who: &Arc<Identity>,
        enrolment: &Enrolment,
        code: &str,
        sent: Sent,
        replaces: bool,
        also: impl FnOnce(&mut Account),
    ) -> Result<Checked, Wrong> {
        let generation = random().ok_or(Wrong::Unable)?;
        self.attempt(who, FactorChange::WrongCode, sent, |account| {
            if !replaces && !account.factors().is_empty() {
                return Err(Wrong::AlreadyEnrolled);
            }
            let new = enrolment.activate(code, sent.wall).ok_or(Wrong::Code)?;
            let drift = told(0, new.drift);
            account.authenticator = Some(new);
            account.generation = generation;
            also(account);
            Ok((Factor::Totp, drift))
        })
    }

    /// Takes the user's authenticator away, and returns what says so on disk. What was remembered under it counts no more. Where
    /// no passkey is left, the ways to recover go with it.
    ///
    /// # Errors
    /// When the account cannot be read; nothing is changed then.
    pub fn unenrol(&self, who: &Identity) -> Result<Entry, NoAccount> {
        let generation = random().ok_or(NoAccount)?;
        let ((), row) = self.change(who, |account| {
            account.authenticator = None;
            account.generation = generation;
            if account.passkeys.is_empty() {
                *account = Account { generation, wrong: account.wrong, ..Account::of(who) };
            }
        })?;
        Ok(row)
    }

    /// Puts it into the audit trail what was done, or not accepted.
    pub fn tell(
        &self,
        who: &Arc<Identity>,
        client: Option<ClientAddr>,
        what: FactorChange,
        of: Option<&str>,
        actor: Option<Actor>,
    ) {
        self.audit.record(line(who, client, what, of, actor));
    }
}

/// The line of the audit trail that tells what was done, or not accepted.
#[must_use]
pub fn line(
    who: &Arc<Identity>,
    client: Option<ClientAddr>,
    what: FactorChange,
    of: Option<&str>,
    actor: Option<Actor>,
) -> Arc<TrailEntry> {
    let user = Arc::clone(who);
    let event = SecondFactorEvent { user, client, what, of: of.map(Into::into), actor, count: None };
    TrailEntry::now(Event::SecondFactor(event))
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
