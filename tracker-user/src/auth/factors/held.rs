//! What there is of further factors in memory: each account sealed, as it is on disk.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use super::account::Account;
use super::book::Sent;
use super::budget::Budget;
use super::code::Wrong;
use super::passkeys::{Index, Indexed};
use crate::audit::FactorChange;
use crate::store::{Rows, SealedRow, SealedTable, Sealer};
use crate::types::{Factor, Factors, Identity};

pub(super) const TABLE: SealedTable = SealedTable::SecondFactors;

/// What there is in memory, for whoever changes it and for the journal, which writes what it is by then.
#[derive(Default)]
pub(super) struct Book(pub(super) Mutex<Held>);
#[derive(Default)]
pub(super) struct Held {
    /// By [`Identity::key`].
    pub(super) known: HashMap<Box<str>, Known>,
    /// What of their passkeys is looked up.
    pub(super) passkeys: Index,
    pub(super) budget: Budget,
}

/// An account, as it stands in memory.
pub(super) enum Known {
    /// Sealed.
    Sealed { sealed: Vec<u8>, factors: Factors, due: Option<Timestamp> },
    /// It cannot be opened: its user is asked for a factor, and none is good.
    Unreadable,
}

impl Known {
    pub(super) fn of(account: &Account, sealed: Vec<u8>) -> Self {
        Self::Sealed { sealed, factors: account.factors(), due: account.recovery.due() }
    }
}

/// The user has set up nothing, or it cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the user's second factor cannot be read, or the system has no randomness")]
pub struct NoAccount;

impl std::fmt::Debug for Book {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Book").finish_non_exhaustive()
    }
}

impl Rows for Book {
    fn row(&self, key: &str) -> Option<SealedRow> {
        let value = match self.held().known.get(key) {
            Some(Known::Sealed { sealed, .. }) => Some(sealed.clone()),
            None => None,
            // Nothing changes it but a reset, after which it is gone.
            Some(Known::Unreadable) => return None,
        };
        Some(SealedRow { table: TABLE, key: key.to_owned(), value })
    }
}

impl Book {
    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Whether a factor is set up, as far as it can be read.
    pub(super) fn has_any(&self, who: &Identity) -> bool {
        match self.known.get(who.key()) {
            Some(Known::Sealed { factors, .. }) => !factors.is_empty(),
            Some(Known::Unreadable) => true,
            None => false,
        }
    }

    /// What the user has set up; nothing yet, where there is no account.
    pub(super) fn account(&self, sealer: &Sealer, who: &Identity) -> Result<Account, NoAccount> {
        match self.known.get(who.key()) {
            None => Ok(Account::of(who)),
            Some(Known::Unreadable) => Err(NoAccount),
            Some(Known::Sealed { sealed, .. }) => unseal(sealer, who.key(), sealed).ok_or(NoAccount),
        }
    }

    /// Takes an account as it is now; `before` was indexed of it.
    pub(super) fn keep(
        &mut self,
        sealer: &Sealer,
        who: &Identity,
        before: &Indexed,
        account: &Account,
    ) -> Result<(), NoAccount> {
        if account.is_empty() {
            self.known.remove(who.key());
            self.passkeys.remove(before);
            return Ok(());
        }
        let sealed = seal(sealer, who.key(), account).ok_or(NoAccount)?;
        let after = Indexed::of(account);
        if *before != after {
            self.passkeys.remove(before);
            self.passkeys.add(who.key(), after);
        }
        self.known.insert(who.key().into(), Known::of(account, sealed));
        Ok(())
    }

    pub(super) fn change<T>(
        &mut self,
        sealer: &Sealer,
        who: &Identity,
        change: impl FnOnce(&mut Account) -> T,
    ) -> Result<T, NoAccount> {
        let mut account = self.account(sealer, who)?;
        let (before, indexed) = ((!account.factors().is_empty(), account.generation), Indexed::of(&account));
        let done = change(&mut account);
        account.begin_generation(before).ok_or(NoAccount)?;
        self.keep(sealer, who, &indexed, &account)?;
        Ok(done)
    }

    pub(super) fn attempt(
        &mut self,
        sealer: &Sealer,
        who: &Identity,
        refused: FactorChange,
        sent: Sent,
        check: impl FnOnce(&mut Account) -> Result<(Factor, i64), Wrong>,
    ) -> Result<(Factor, i64), Wrong> {
        self.budget.check(who.key(), sent.client, sent.at).map_err(|_| Wrong::TooMany)?;
        let mut after = self.account(sealer, who).map_err(|NoAccount| Wrong::Unreadable)?;
        if after.is_locked() && refused == FactorChange::WrongCode {
            return Err(Wrong::Locked);
        }
        let (before, indexed) = ((!after.factors().is_empty(), after.generation), Indexed::of(&after));
        match check(&mut after) {
            Ok(proved) => {
                after.wrong = 0;
                after.begin_generation(before).ok_or(Wrong::Unable)?;
                self.keep(sealer, who, &indexed, &after).map_err(|NoAccount| Wrong::Unable)?;
                self.budget.right(who.key());
                Ok(proved)
            }
            Err(wrong) if wrong.is_try() => {
                self.budget.wrong(who.key(), sent.client, sent.at);
                after.wrong = after.wrong.saturating_add(1);
                // Where it cannot be counted, the budgets in memory do.
                let _ = self.keep(sealer, who, &indexed, &after);
                Err(wrong)
            }
            Err(wrong) => Err(wrong),
        }
    }
}

/// What is told of a clock: that it is ahead, or that it was behind twice in a row. Once, it may be that somebody has typed slowly.
pub(super) const fn told(before: i64, now: i64) -> i64 {
    if now < 0 && before >= 0 { 0 } else { now }
}

pub(super) fn unseal(sealer: &Sealer, key: &str, sealed: &[u8]) -> Option<Account> {
    let plain = sealer.open_row(TABLE, key, sealed)?;
    serde_json::from_slice(&plain).ok()
}

pub(super) fn seal(sealer: &Sealer, key: &str, account: &Account) -> Option<Vec<u8>> {
    // As large as it becomes: a buffer that grew would leave pieces of it behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(64 << 10));
    serde_json::to_writer(&mut *plain, account).ok()?;
    sealer.seal(TABLE, key, &plain)?.value
}

impl Account {
    /// A new generation, where a first factor was set up since it had some, or none, in the one before; `None` where the system has no
    /// randomness.
    pub(super) fn begin_generation(&mut self, (had, generation): (bool, u64)) -> Option<()> {
        if !had && !self.factors().is_empty() && self.generation == generation {
            self.generation = random()?;
        }
        Some(())
    }
}

pub(super) fn random() -> Option<u64> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(u64::from_ne_bytes(bytes))
}
