//! The book of further factors: see the room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use ring::rand::{SecureRandom as _, SystemRandom};
use tracing::warn;
use zeroize::Zeroizing;

use super::account::Account;
use super::budget::Budget;
use super::code::{Checked, Enrolment, Wrong};
use super::devices::Devices;
use super::recovery_address::Mailboxes;
use crate::audit::{Actor, Audit, Event, FactorChange, SecondFactorEvent, TrailEntry};
use crate::clock::BootTime;
use crate::session::{FactorPolicy, Proven};
use crate::store::{Entry, Journal, SealedRow, SealedTable, Sealer, Store, StoreError};
use crate::types::{ClientAddr, Factor, Factors, Identity, Method};

/// So many codes may be wrong since one was right; then none is looked at any more. Whoever guesses patiently, below what is
/// allowed in a quarter of an hour, would be right within months.
const WRONG: u32 = 100;

const TABLE: SealedTable = SealedTable::SecondFactors;

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
    /// Whether mail can be sent: a recovery address is needed then.
    pub mails: bool,
    /// So long a reset by mail waits.
    pub recovery_delay: Duration,
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
    held: Mutex<Held>,
    devices: Devices,
}

#[derive(Default)]
struct Held {
    /// By [`Identity::key`].
    known: HashMap<Box<str>, Known>,
    budget: Budget,
}

/// An account, as it stands in memory.
enum Known {
    /// Sealed.
    Sealed { sealed: Vec<u8>, factors: Factors, due: Option<Timestamp> },
    /// It cannot be opened: its user is asked for a factor, and none is good.
    Unreadable,
}

impl Known {
    fn of(account: &Account, sealed: Vec<u8>) -> Self {
        Self::Sealed { sealed, factors: account.factors(), due: account.recovery.due() }
    }
}

/// The user has set up nothing, or it cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the user's second factor cannot be read, or the system has no randomness")]
pub struct NoAccount;

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
                Some(account) => Known::of(&account, sealed),
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
        let (settings, held) = (ArcSwap::from_pointee(settings), Mutex::new(held));
        Ok(Self { sealer, journal, audit, settings, held, devices })
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

    /// Browsers that are remembered.
    #[must_use]
    pub fn devices(&self) -> &Devices {
        &self.devices
    }

    /// The factors that a user has set up. Of one whose account cannot be read: a code, which cannot be right.
    #[must_use]
    pub fn enrolled(&self, who: &Identity) -> Factors {
        match self.held().known.get(who.key()) {
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
        let held = self.held();
        let unreadable = held.known.values().filter(|known| matches!(known, Known::Unreadable)).count();
        (held.known.len(), unreadable)
    }

    /// What a user has set up; `None`: nothing, or it cannot be read.
    #[must_use]
    pub fn account(&self, who: &Identity) -> Option<Account> {
        self.account_of(who.key())
    }

    /// The same, by [`Identity::key`].
    pub(super) fn account_of(&self, key: &str) -> Option<Account> {
        match self.held().known.get(key)? {
            Known::Sealed { sealed, .. } => unseal(&self.sealer, key, sealed),
            Known::Unreadable => None,
        }
    }

    /// The resets by mail that wait: by [`Identity::key`], and when each takes effect.
    pub(super) fn waiting_recoveries(&self) -> Vec<(Box<str>, Timestamp)> {
        let held = self.held();
        let due = held.known.iter().filter_map(|(key, known)| match known {
            Known::Sealed { due, .. } => Some((key.clone(), (*due)?)),
            Known::Unreadable => None,
        });
        due.collect()
    }

    /// Changes what a user has set up, and returns what `change` does, and the row that says so on disk: hand it to the journal. Of
    /// several changes at once each sees the one before. Where nothing is left, the row goes.
    ///
    /// # Errors
    /// When the account cannot be read; nothing is changed then.
    pub fn change<T>(
        &self,
        who: &Identity,
        change: impl FnOnce(&mut Account) -> T,
    ) -> Result<(T, Entry), NoAccount> {
        self.held().change(&self.sealer, who, change)
    }

    /// Forgets what a user has set up; whether there was anything, and the row that says so on disk.
    pub fn reset(&self, who: &Identity) -> (bool, Entry) {
        let mut held = self.held();
        let was = held.known.remove(who.key()).is_some();
        held.budget.right(who.key());
        (was, Entry::Sealed(SealedRow { table: TABLE, key: who.key().to_owned(), value: None }))
    }

    /// Whether a code is right, for what is known of its user. It is spent then; a wrong one counts, and stands in the audit trail.
    ///
    /// # Errors
    /// When it is not accepted.
    pub fn check_code(&self, who: &Arc<Identity>, code: &str, sent: Sent) -> Result<Checked, Wrong> {
        self.attempt(who, FactorChange::WrongCode, sent, |account| {
            let authenticator = account.authenticator.as_mut().ok_or(Wrong::NotEnrolled)?;
            if !authenticator.spend(code, sent.wall) {
                return Err(Wrong::Code);
            }
            Ok((Factor::Totp, authenticator.drift))
        })
    }

    /// One try to prove a factor: `check` looks whether it is right, and spends it. All tries of an account, whatever they
    /// are of, share its budgets.
    ///
    /// # Errors
    /// What `check` says, and when the budgets are spent. A wrong one counts, and stands in the audit trail as `refused`. One that is
    /// right stops a reset by mail that waits: whoever can prove a factor needs none.
    pub fn attempt(
        &self,
        who: &Arc<Identity>,
        refused: FactorChange,
        sent: Sent,
        check: impl FnOnce(&mut Account) -> Result<(Factor, i64), Wrong>,
    ) -> Result<Checked, Wrong> {
        let mut guard = self.held();
        let held = &mut *guard;
        let mut stopped = false;
        let outcome = match held.may_try(&self.sealer, who, sent, refused) {
            Ok(()) => match held.change(&self.sealer, who, |account| {
                let waits = account.recovery.due();
                let checked = check(account);
                match checked {
                    Ok(_) => {
                        account.wrong = 0;
                        stopped = account.recovery.proved_otherwise(waits);
                    }
                    Err(Wrong::Code) => account.wrong = account.wrong.saturating_add(1),
                    Err(_) => {}
                }
                checked
            }) {
                Ok((Ok((factor, drift)), row)) => Ok(Checked { factor, drift, entries: vec![row] }),
                Ok((Err(wrong), row)) => {
                    if wrong == Wrong::Code {
                        held.budget.wrong(who.key(), sent.client, sent.at);
                        self.journal.submit(vec![row], None);
                    }
                    Err(wrong)
                }
                Err(NoAccount) => Err(Wrong::Unable),
            },
            Err(wrong) => Err(wrong),
        };
        if outcome.is_ok() {
            held.budget.right(who.key());
        }
        drop(guard);
        if stopped {
            self.tell(who, Some(sent.client), FactorChange::RecoveryStopped, None, None);
        }
        if let Err(wrong) = &outcome {
            let what = match wrong {
                Wrong::Code => refused,
                Wrong::TooMany => FactorChange::TooMany,
                Wrong::Locked => FactorChange::Locked,
                Wrong::NotEnrolled | Wrong::AlreadyEnrolled | Wrong::Unreadable | Wrong::Unable => {
                    return outcome;
                }
            };
            self.tell(who, Some(sent.client), what, None, None);
        }
        outcome
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
            let drift = new.drift;
            account.authenticator = Some(new);
            account.generation = generation;
            also(account);
            Ok((Factor::Totp, drift))
        })
    }

    /// Takes the user's authenticator away, and returns the row that says so on disk. What was remembered under it counts no more. Where
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
        let user = Arc::clone(who);
        let event = SecondFactorEvent { user, client, what, of: of.map(Into::into), actor };
        self.audit.record(TrailEntry::now(Event::SecondFactor(event)));
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn may_try(
        &mut self,
        sealer: &Sealer,
        who: &Identity,
        sent: Sent,
        kind: FactorChange,
    ) -> Result<(), Wrong> {
        self.budget.check(who.key(), sent.client, sent.at).map_err(|_| Wrong::TooMany)?;
        match self.known.get(who.key()) {
            None => Ok(()),
            Some(Known::Unreadable) => Err(Wrong::Unreadable),
            Some(Known::Sealed { sealed, .. }) => {
                let account = unseal(sealer, who.key(), sealed).ok_or(Wrong::Unreadable)?;
                // Nobody guesses a recovery code: it is the way back.
                let is_recovery = kind == FactorChange::WrongRecoveryCode;
                if account.wrong >= WRONG && !is_recovery { Err(Wrong::Locked) } else { Ok(()) }
            }
        }
    }

    fn change<T>(
        &mut self,
        sealer: &Sealer,
        who: &Identity,
        change: impl FnOnce(&mut Account) -> T,
    ) -> Result<(T, Entry), NoAccount> {
        let key = who.key();
        let mut account = match self.known.get(key) {
            None => Account::of(who),
            Some(Known::Unreadable) => return Err(NoAccount),
            Some(Known::Sealed { sealed, .. }) => unseal(sealer, key, sealed).ok_or(NoAccount)?,
        };
        let before = (account.generation, account.factors());
        let done = change(&mut account);
        if before.1.is_empty() && !account.factors().is_empty() && account.generation == before.0 {
            // The first factor: whatever was remembered before a reset is worth nothing.
            account.generation = random().ok_or(NoAccount)?;
        }
        if account.is_empty() {
            self.known.remove(key);
            return Ok((done, Entry::Sealed(SealedRow { table: TABLE, key: key.to_owned(), value: None })));
        }
        let row = seal(sealer, key, &account).ok_or(NoAccount)?;
        if let Some(sealed) = row.value.clone() {
            self.known.insert(key.into(), Known::of(&account, sealed));
        }
        Ok((done, Entry::Sealed(row)))
    }
}

fn unseal(sealer: &Sealer, key: &str, sealed: &[u8]) -> Option<Account> {
    let plain = sealer.open_row(TABLE, key, sealed)?;
    serde_json::from_slice(&plain).ok()
}

fn seal(sealer: &Sealer, key: &str, account: &Account) -> Option<SealedRow> {
    // As large as it becomes: a buffer that grew would leave pieces of it behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(64 << 10));
    serde_json::to_writer(&mut *plain, account).ok()?;
    sealer.seal(TABLE, key, &plain)
}

fn random() -> Option<u64> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(u64::from_ne_bytes(bytes))
}
