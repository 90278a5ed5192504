//! What doors ask: the core with a clock, and with what makes its bans known and lasting.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};
use tokio::sync::{Notify, Semaphore};

use super::ban::{Ban, NameKey, Names, Target};
use super::kept;
use super::ledger::{Change, End, Ledger, Refused, Room, Ticket};
use super::lines::Lines;
use super::settings::Settings;
use crate::audit::{Actor, Audit, BanEvent, Event, TrailEntry};
use crate::auth::outcome::VERIFY_TIMEOUT;
use crate::clock::{Anchor, boot_id, boot_now};
use crate::outside;
use crate::store::{Answer, Entry, Journal, StoredBan};
use crate::types::ClientAddr;

/// So many wait at once for tries of others that are under way.
const WAITING: usize = 1_024;
/// So long operators are told that there was no room for somebody.
const FULL_TOLD: Duration = Duration::from_secs(300);

/// Which addresses have no budget of their own, and are never banned: those that many people come from.
pub type Unbannable = Box<dyn Fn(ClientAddr) -> bool + Send + Sync>;

/// Where bans are kept and told of.
#[derive(Debug)]
pub struct Keeping {
    /// What writes the store.
    pub journal: Arc<Journal>,
    /// The trail.
    pub audit: Arc<Audit>,
}

/// What a regulator works with.
pub struct Parts {
    /// What is counted, and for how long.
    pub settings: Settings,
    /// Hides what is typed for names: [`crate::store::Store::names_secret`].
    pub secret: [u8; 32],
    /// The bans of earlier runs.
    pub bans: Vec<StoredBan>,
    /// Whom nobody bans.
    pub unbannable: Unbannable,
    /// Where bans are kept.
    pub keeping: Keeping,
}

/// Decides who may try a secret. All doors share one.
#[derive(Clone, Debug)]
pub struct Regulator(Arc<Inner>);

struct Inner {
    ledger: Mutex<Ledger>,
    names: Names,
    unbannable: Unbannable,
    keeping: Option<Keeping>,
    boot: String,
    /// Goes up with each ban that begins.
    generation: AtomicU64,
    lines: Mutex<Lines>,
    counted: Counted,
    /// Told of each try that ends.
    ended: Notify,
    waiting: Semaphore,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Regulator").finish_non_exhaustive()
    }
}

struct Counted {
    bans: IntCounterVec,
    active: IntGaugeVec,
    refused: IntCounter,
}

impl Counted {
    fn new() -> prometheus::Result<Self> {
        let opts = Opts::new("tracker_regulation_bans_total", "Bans that began, by what they stand on");
        let bans = IntCounterVec::new(opts, &["scope"])?;
        let opts = Opts::new("tracker_regulation_bans_active", "Bans that stand, by what they stand on");
        let active = IntGaugeVec::new(opts, &["scope"])?;
        for scope in Target::SCOPES {
            bans.with_label_values(&[scope]);
            active.with_label_values(&[scope]);
        }
        let refused = IntCounter::new(
            "tracker_regulation_refused_total",
            "Tries that were not looked at: a ban stood, or a budget was used up",
        )?;
        Ok(Self { bans, active, refused })
    }
}

/// Nothing is looked at for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Banned;

/// A try that is under way. It counts as a wrong one until it is said to be anything else, also where it is dropped: nobody
/// gets more tries by asking for many at once, or by leaving before the answer.
pub struct Try {
    regulator: Arc<Inner>,
    /// Until it has ended.
    ticket: Option<Ticket>,
    account: Arc<str>,
    is_known: bool,
}

impl fmt::Debug for Try {
    /// Without the account: it may be a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Try")
    }
}

impl Regulator {
    /// A regulator that goes on where the last run left off: bans stand, while what had not led to one is forgotten.
    ///
    /// # Errors
    /// Never with these constant names of metrics; passed on.
    pub fn new(parts: Parts) -> prometheus::Result<Self> {
        let Parts { settings, secret, bans, unbannable, keeping } = parts;
        let new = Self::make(settings, &secret, unbannable, Some(keeping))?;
        let inner = &new.0;
        let (now, anchor) = (boot_now(), Anchor::now());
        let mut ledger = inner.ledger();
        let mut gone = Vec::new();
        for stored in &bans {
            match kept::restored(stored, &inner.boot, &anchor, now) {
                Some(ban) => ledger.restore(now, &ban),
                None => gone.push(Entry::Ban(stored.key(), None)),
            }
        }
        inner.keep(&ledger.take_changes(), gone);
        drop(ledger);
        Ok(new)
    }

    fn make(
        settings: Settings,
        secret: &[u8; 32],
        unbannable: Unbannable,
        keeping: Option<Keeping>,
    ) -> prometheus::Result<Self> {
        Ok(Self(Arc::new(Inner {
            ledger: Mutex::new(Ledger::new(settings, Room::default())),
            names: Names::new(secret),
            unbannable,
            keeping,
            boot: boot_id(),
            generation: AtomicU64::new(0),
            lines: Mutex::default(),
            counted: Counted::new()?,
            ended: Notify::new(),
            waiting: Semaphore::new(WAITING),
        })))
    }

    /// One that keeps nothing and tells nobody, for tests of doors.
    #[cfg(test)]
    pub(crate) fn alone(settings: Settings) -> Self {
        Self::make(settings, &[0; 32], Box::new(|_| false), None).unwrap()
    }

    /// Has its metrics scraped.
    ///
    /// # Errors
    /// When one is registered already.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.0.counted.bans.clone()))?;
        registry.register(Box::new(self.0.counted.refused.clone()))?;
        registry.register(Box::new(Active(Arc::clone(&self.0))))
    }

    /// Begins a try of a secret for `account` ([`crate::types::Identity::key`], or what was typed in lower case where it
    /// names nobody). Refused as well while tries under way take what is left of a budget: a program that opens several
    /// connections with the right password at once should go by [`Self::begin_in_turn`].
    ///
    /// # Errors
    /// While a ban stands on the address, the account, or the two together, or the try could not be counted.
    pub fn begin(&self, client: ClientAddr, account: &str) -> Result<Try, Banned> {
        self.0.begin(client, account).map_err(|_| self.0.refuse())
    }

    /// The same, but where it depends on tries that are under way, it waits for them (10 s at most, and 1,024 at once).
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub async fn begin_in_turn(&self, client: ClientAddr, account: &str) -> Result<Try, Banned> {
        let inner = &self.0;
        let turn = async {
            let mut place = None;
            loop {
                // Before it is tried: no end in between is missed.
                let ended = inner.ended.notified();
                tokio::pin!(ended);
                ended.as_mut().enable();
                match inner.begin(client, account) {
                    Ok(begun) => return Some(begun),
                    Err(Refused::Banned | Refused::NoRoom) => return None,
                    Err(Refused::Pending) if place.is_none() => {
                        place = Some(inner.waiting.try_acquire().ok()?);
                    }
                    Err(Refused::Pending) => {}
                }
                ended.await;
            }
        };
        tokio::time::timeout(VERIFY_TIMEOUT, turn).await.ok().flatten().ok_or_else(|| inner.refuse())
    }

    /// Whether a ban stands that concerns this.
    #[must_use]
    pub fn is_banned(&self, client: ClientAddr, account: &str) -> bool {
        let (name, by_address) = (self.0.names.of(account), !(self.0.unbannable)(client));
        let mut ledger = self.0.ledger();
        let is_banned = ledger.is_banned(boot_now(), client, name, by_address);
        self.0.keep(&ledger.take_changes(), Vec::new());
        is_banned
    }

    /// Changes whenever a ban begins. Whoever remembers what was proved keeps this with it, and asks [`Self::is_banned`] when
    /// it has changed: one load as long as nobody is banned.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// Puts other settings in force. Bans that stand stay as they are, unless nothing is counted any more: then they are over.
    pub fn configure(&self, settings: Settings) {
        let mut ledger = self.0.ledger();
        ledger.configure(boot_now(), settings);
        self.0.keep(&ledger.take_changes(), Vec::new());
        drop(ledger);
        self.0.ended.notify_waiters();
    }

    /// The bans that stand, the newest first.
    #[must_use]
    pub fn bans(&self) -> Vec<Ban> {
        let mut ledger = self.0.ledger();
        let mut bans = ledger.bans(boot_now());
        self.0.keep(&ledger.take_changes(), Vec::new());
        drop(ledger);
        bans.sort_by_key(|ban| std::cmp::Reverse((ban.since, ban.target)));
        bans
    }

    /// How many bans stand.
    #[must_use]
    pub fn banned(&self) -> usize {
        self.0.ledger().banned(boot_now()).into_iter().sum()
    }

    /// The key under which `account` is counted.
    #[must_use]
    pub fn key_of(&self, account: &str) -> NameKey {
        self.0.names.of(account)
    }

    /// Lifts the bans that are wanted, by order of `actor`. `answer` is told when that is on disk, or why it is not.
    pub fn lift(&self, wanted: impl Fn(&Ban) -> bool, actor: &Actor, answer: Answer) -> Vec<Ban> {
        let mut ledger = self.0.ledger();
        let lifted = ledger.lift(boot_now(), wanted);
        self.0.keep(&ledger.take_changes(), Vec::new());
        drop(ledger);
        let Some(Keeping { journal, audit }) = &self.0.keeping else { return lifted };
        for ban in &lifted {
            let why = format!("{}: lifted before its time", subject(ban));
            audit.record(TrailEntry::now(Event::Ban(event(ban, why, None, Some(actor.clone())))));
        }
        journal.submit(Vec::new(), Some(answer));
        self.0.ended.notify_waiters();
        lifted
    }

    /// What an operator should look at.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let is_full = self.0.ledger().is_full(boot_now(), FULL_TOLD);
        let full = is_full.then(|| {
            "wrong passwords are sent for so many names, or from so many addresses, that there is no room to count more: \
             who is not known yet is refused where passwords are asked for (trackerctl events shows from where)"
                .to_owned()
        });
        full.into_iter().collect()
    }
}

impl Inner {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self) -> Banned {
        self.counted.refused.inc();
        Banned
    }

    fn begin(self: &Arc<Self>, client: ClientAddr, account: &str) -> Result<Try, Refused> {
        let (name, by_address) = (self.names.of(account), !(self.unbannable)(client));
        let mut ledger = self.ledger();
        let begun = ledger.begin(boot_now(), client, name, by_address);
        let changes = ledger.take_changes();
        self.keep(&changes, Vec::new());
        drop(ledger);
        self.tell(&changes);
        let regulator = Arc::clone(self);
        begun.map(|ticket| Try { regulator, ticket: Some(ticket), account: account.into(), is_known: false })
    }

    fn end(&self, ticket: Ticket, end: End, account: Option<&Arc<str>>) {
        let mut ledger = self.ledger();
        ledger.end(boot_now(), ticket, end, account);
        let changes = ledger.take_changes();
        self.keep(&changes, Vec::new());
        drop(ledger);
        self.tell(&changes);
        self.ended.notify_waiters();
    }

    /// Hands to the journal what has changed, in the order in which it did: the ledger is held meanwhile. Nobody waits for
    /// the disk.
    fn keep(&self, changes: &[Change], mut entries: Vec<Entry>) {
        if changes.is_empty() && entries.is_empty() {
            return;
        }
        if changes.iter().any(|change| matches!(change, Change::Banned(_))) {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        let Some(Keeping { journal, .. }) = &self.keeping else { return };
        let anchor = Anchor::now();
        entries.extend(changes.iter().map(|change| match change {
            Change::Banned(ban) => {
                Entry::Ban(kept::key(ban.target), Some(Box::new(kept::stored(ban, &self.boot, &anchor))))
            }
            Change::Over(target) => Entry::Ban(kept::key(*target), None),
        }));
        journal.submit(entries, None);
    }

    /// Tells operators of bans that began.
    fn tell(&self, changes: &[Change]) {
        for change in changes {
            let Change::Banned(ban) = change else { continue };
            self.counted.bans.with_label_values(&[ban.target.scope()]).inc();
            let Some(Keeping { audit, .. }) = &self.keeping else { continue };
            let line = self.lines.lock().unwrap_or_else(PoisonError::into_inner).ask(ban.since);
            let Some(held_back) = line else { continue };
            let until = Anchor::now().wall(ban.until);
            let why = format!(
                "{}: nothing is looked at until {until:.0}, after {} wrong passwords",
                subject(ban),
                ban.tries
            );
            let count = Some(held_back).filter(|count| *count > 0);
            audit.record(TrailEntry::now(Event::Ban(event(ban, why, count, None))));
        }
    }
}

/// What a ban stands on, in words; nobody is named who is not known.
fn subject(ban: &Ban) -> String {
    let whom = if ban.account.is_some() { "this user" } else { "a name that is no user's" };
    match ban.target {
        Target::Address(address) if address.ip().is_ipv6() => format!("everybody from {address}/64"),
        Target::Address(_) => "everybody from this address".into(),
        Target::User(_) => format!("{whom}, from everywhere"),
        Target::Pair(..) => format!("{whom}, from this address"),
    }
}

fn event(ban: &Ban, why: String, count: Option<u64>, actor: Option<Actor>) -> BanEvent {
    BanEvent {
        is_lifted: actor.is_some(),
        scope: ban.target.scope(),
        client: ban.target.address(),
        user: ban.identity().map(Arc::new),
        why: why.into(),
        count,
        actor,
    }
}

impl Try {
    /// There is such an account: operators may be shown what it is called. What was typed for no account's name may be a
    /// password, and is shown to nobody.
    #[must_use]
    pub fn known(mut self) -> Self {
        self.is_known = true;
        self
    }

    /// The secret was right.
    pub fn succeeded(mut self) {
        self.is_known = true;
        self.end(End::Right);
    }

    /// The secret was wrong.
    pub fn failed(mut self) {
        self.end(End::Wrong);
    }

    /// Nobody looked at the secret, or it was refused for another reason: it is as if it had not been tried.
    pub fn is_void(mut self) {
        self.end(End::Void);
    }

    fn end(&mut self, end: End) {
        let Some(ticket) = self.ticket.take() else { return };
        let is_shown = self.is_known && self.account.len() <= 2 * outside::NAME;
        self.regulator.end(ticket, end, is_shown.then_some(&self.account));
    }
}

impl Drop for Try {
    fn drop(&mut self) {
        self.end(End::Wrong);
    }
}

/// Counts the bans that stand when it is asked.
struct Active(Arc<Inner>);

impl Collector for Active {
    fn desc(&self) -> Vec<&Desc> {
        self.0.counted.active.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let banned: [usize; 3] = self.0.ledger().banned(boot_now());
        for (scope, count) in Target::SCOPES.iter().zip(banned) {
            self.0.counted.active.with_label_values(&[scope]).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.0.counted.active.collect()
    }
}

#[cfg(test)]
#[path = "regulator_tests.rs"]
mod tests;
