//! The one door for names with passwords.
//!
//! Whoever sends one is regulated before anything is looked at, and told nothing by how long the answer takes. What is asked
//! runs to its end whether the client waits for it or not: nobody gets more tries by leaving, and its place is taken until
//! then. One and the same password that comes several times at once is one try, and so is one that was wrong a while ago.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::accounts::{Accounts, Real, Target};
use super::cause::Cause;
use super::counters::{By, Counters};
use super::kdc::Kdc;
use super::local::LocalUsers;
use super::memory::{Before, Memory, Secrets, Sent, Tag, Wrong};
use super::pace::{Pace, Place as InPace};
use super::places::{OwnPlace, Places};
use super::regulated::{Regulation, Trying};
use super::secret::Password;
use crate::auth::application_passwords::{ApplicationPasswords, is_meant};
use crate::auth::credentials::BadBasic;
use crate::auth::kerberos::NameRules;
use crate::auth::outcome::{Failure, Proved};
use crate::auth::regulation::Regulator;
use crate::clock::{BootTime, boot_now};
use crate::types::{ClientAddr, Factors, Identity, Method};

/// The longest password, in characters,
const MAX_CHARACTERS: usize = 128;
/// and in bytes.
const MAX_BYTES: usize = 512;

/// What was refused for another reason than its password is asked about again after this long, without counting as another
/// try: whoever was disabled may have been enabled.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// What the door works with.
#[derive(Debug)]
pub struct Parts {
    /// Realms.
    pub kdc: Arc<Kdc>,
    /// The gateway's own users.
    pub local: Arc<LocalUsers>,
    /// Who may try.
    pub regulator: Regulator,
    /// Application passwords.
    pub applications: Arc<ApplicationPasswords>,
    /// What is counted.
    pub counters: Counters,
    /// What it goes by at first.
    pub settings: Settings,
}

/// What the door goes by. It may change while it is open.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How typed names are read.
    pub names: NameRules,
    /// So long one and the same wrong password of a client is one try: the time within which tries are counted.
    pub counts_once_for: Duration,
}

/// See the module. Cheap to clone: all clones are the same door.
#[derive(Clone, Debug)]
pub struct Passwords {
    inner: Arc<Inner>,
}

/// Where a name and a password were typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On a page of the portal, where the account's own password is asked for.
    Page,
    /// At the proxy, by a program: application passwords are good there, too.
    Proxy,
}

/// What a password is, by how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The account's own.
    Account,
    /// An application password.
    Application,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) accounts: Box<dyn Accounts>,
    pub(super) regulation: Box<dyn Regulation>,
    pub(super) applications: Option<Arc<ApplicationPasswords>>,
    counters: Counters,
    pub(super) settings: ArcSwap<Settings>,
    secrets: Secrets,
    memory: Mutex<Memory>,
    /// What is being asked at this moment, and who waits for it.
    asked: Mutex<HashMap<Tag, watch::Receiver<Option<Answer>>>>,
    pace: Pace,
    places: Places,
}

/// What came of a password.
type Answer = Result<(Identity, By), Failure>;

/// A place for one of the clients, of those that there are for all.
type Held = Arc<(OwnPlace, InPace)>;

impl Passwords {
    /// A door.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub fn new(parts: Parts) -> io::Result<Self> {
        let Parts { kdc, local, regulator, applications, counters, settings } = parts;
        let accounts = Box::new(Real::new(kdc, local));
        Self::with(accounts, Box::new(regulator), Some(applications), counters, settings)
    }

    pub(super) fn with(
        accounts: Box<dyn Accounts>,
        regulation: Box<dyn Regulation>,
        applications: Option<Arc<ApplicationPasswords>>,
        counters: Counters,
        settings: Settings,
    ) -> io::Result<Self> {
        let secrets = Secrets::new().ok_or_else(|| io::Error::other("the system has no randomness"))?;
        Ok(Self {
            inner: Arc::new(Inner {
                accounts,
                regulation,
                applications,
                counters,
                settings: ArcSwap::from_pointee(settings),
                secrets,
                memory: Mutex::default(),
                asked: Mutex::default(),
                pace: Pace::default(),
                places: Places::default(),
            }),
        })
    }

    /// Goes by other settings from now on. What was remembered by the ones before is forgotten.
    pub fn configure(&self, settings: Settings) {
        self.inner.settings.store(Arc::new(settings));
        self.inner.memory().clear();
    }

    /// Whatever was right or wrong a moment ago is looked at anew.
    pub fn forget_all(&self) {
        self.inner.memory().clear();
    }

    /// The user has logged out at this client, or was logged out there: their password is asked for anew.
    pub fn forget(&self, client: ClientAddr, user: &Identity) {
        self.inner.memory().forget(client, user);
    }

    /// Whose name and password these are, where they were right a moment ago from this client, or are those of an application. Asks
    /// nobody, and never waits.
    #[must_use]
    pub fn recall(
        &self,
        user: &str,
        password: &Password,
        client: ClientAddr,
        at: BootTime,
    ) -> Option<Proved> {
        let (identity, by) = match kind(password) {
            Kind::Account => (self.inner.recall(user, password, client)?, By::Remembered),
            Kind::Application => (self.inner.find_application(user, password, client)?, By::Application),
        };
        self.inner.counters.accepted(by);
        Some(proved(identity, by, at))
    }

    /// The refusal of what came in the place of a name and a password. Nobody learns from it who there is, and it is no try.
    pub(in crate::auth) fn refuse(&self, bad: &BadBasic) -> Failure {
        let failure = rejected(Cause::Name, &bad.to_string());
        self.inner.counters.refused(&failure);
        failure
    }

    /// Whose name and password these are, which were typed there.
    ///
    /// # Errors
    /// [`Failure::Rejected`] with a [`Cause`], always after about the same time; [`Failure::Unavailable`] where nobody
    /// answers who knows the account; [`Failure::Busy`] where too many are asked about.
    pub async fn verify(
        &self,
        user: &str,
        password: Password,
        place: Place,
        client: ClientAddr,
        at: BootTime,
    ) -> Result<Proved, Failure> {
        if place == Place::Page && kind(&password) == Kind::Application {
            // It is not looked at: so nobody learns anything by it, and it is no try.
            let failure =
                rejected(Cause::ApplicationPasswordOnPage, "an application password was typed on a page");
            self.inner.counters.refused(&failure);
            return Err(failure);
        }
        let begun = boot_now();
        let answer = match self.inner.enter(client) {
            Ok(held) => {
                let answer = self.inner.look(user, password, client, &held).await;
                if matches!(answer, Err(Failure::Rejected(_))) {
                    let now = boot_now();
                    let until = self.inner.pace.until(begun, now, random());
                    tokio::time::sleep(until.since(now)).await;
                }
                answer
            }
            Err(failure) => Err(failure),
        };
        match answer {
            Ok((identity, by)) => {
                self.inner.counters.accepted(by);
                Ok(proved(identity, by, at))
            }
            Err(failure) => {
                self.inner.counters.refused(&failure);
                Err(failure)
            }
        }
    }
}

impl Inner {
    /// A place to be looked at, and to wait for the answer.
    fn enter(&self, client: ClientAddr) -> Result<Held, Failure> {
        let own = self.places.enter(client).ok_or(Failure::Busy)?;
        Ok(Arc::new((own, self.pace.enter()?)))
    }

    async fn look(
        self: &Arc<Self>,
        user: &str,
        password: Password,
        client: ClientAddr,
        held: &Held,
    ) -> Answer {
        let length = password.reveal().len();
        if length == 0 {
            return refused(Cause::Length, "the password is empty");
        }
        if length > MAX_BYTES || password.reveal().chars().nth(MAX_CHARACTERS).is_some() {
            return refused(Cause::Length, "the password is longer than any that is accepted");
        }
        let target = match self.accounts.find(user, &self.settings.load().names) {
            Ok(target) => target,
            Err(bad) => return refused(Cause::Name, &bad.to_string()),
        };
        let mut answer = self.ask(target, password, client, held);
        let answer = match answer.wait_for(Option::is_some).await {
            Ok(answer) => answer.clone(),
            // Who asks has panicked, or the runtime is gone: the process ends.
            Err(_) => None,
        };
        answer.unwrap_or_else(|| Err(Failure::Unavailable("the password could not be verified".into())))
    }

    /// Has somebody asked, unless that is under way: the answer will be there.
    fn ask(
        self: &Arc<Self>,
        target: Target,
        password: Password,
        client: ClientAddr,
        held: &Held,
    ) -> watch::Receiver<Option<Answer>> {
        let tag = self.secrets.sent(client, target.key(), password.reveal()).tag;
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = asked.get(&tag) {
            return answer.clone();
        }
        let (tell, answer) = watch::channel(None);
        asked.insert(tag, answer.clone());
        drop(asked);
        let (inner, held) = (Arc::clone(self), Arc::clone(held));
        let kind = kind(&password);
        let asking = Asking { inner, held, target, kind, client, tag };
        tokio::spawn(async move {
            let answer = asking.answer(password).await;
            // Whoever comes from now on finds what was learned.
            tell.send_replace(Some(answer));
        });
        answer
    }

    /// Whose name and password these are, where that is known.
    fn recall(&self, user: &str, password: &Password, client: ClientAddr) -> Option<Identity> {
        if self.memory().is_stranger(client) {
            return None;
        }
        let target = self.accounts.find(user, &self.settings.load().names).ok()?;
        let sent = self.secrets.sent(client, target.key(), password.reveal());
        self.recall_sent(&sent, self.accounts.generation(&target))
    }

    /// The same. Nobody is told of whom it was known who is banned meanwhile: it is forgotten.
    fn recall_sent(&self, sent: &Sent<'_>, generation: Option<u64>) -> Option<Identity> {
        let bans = self.regulation.generation();
        let mut memory = self.memory();
        let recalled = memory.recall(sent, generation, boot_now())?;
        if recalled.bans != bans {
            if self.regulation.is_banned(sent.client, sent.account) {
                memory.forget_banned(sent.client, sent.account);
                return None;
            }
            recalled.bans = bans;
        }
        Some(recalled.identity.clone())
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // Nobody panics while holding it.
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A password that somebody is being asked about.
struct Asking {
    inner: Arc<Inner>,
    /// Its place is taken until it is done, whether somebody waits for it or not.
    #[expect(dead_code, reason = "held for its drop")]
    held: Held,
    target: Target,
    kind: Kind,
    client: ClientAddr,
    tag: Tag,
}

impl Asking {
    async fn answer(&self, password: Password) -> Answer {
        let Self { inner, target, .. } = self;
        let sent = self.sent();
        let known = Before {
            // All of it read before anything is looked at.
            generation: inner.accounts.generation(target),
            bans: inner.regulation.generation(),
            forgotten: inner.memory().forgotten(sent.client),
        };
        // Nothing is forgotten for it: whoever is banned may name whom they like. What is remembered is of no use to who is.
        let Ok(attempt) = inner.regulation.begin_in_turn(sent.client, sent.account).await else {
            return refused(Cause::Banned, "too many wrong passwords were sent before");
        };
        let now = boot_now();
        let wrong = inner.memory().wrong(&sent, known.generation, now);
        let is_known = |wrong: &Wrong| wrong.cause.is_lasting() || now.since(wrong.asked) < ASK_AGAIN;
        if let Some(wrong) = wrong.filter(is_known) {
            attempt.is_void();
            return refused(wrong.cause, "the same name and password were refused before");
        }
        if self.kind == Kind::Application {
            let counts = wrong.is_none();
            let answer = inner.check_application(target, &password, sent.client, counts);
            self.learn(&answer, attempt, counts, &known);
            return answer.map(|identity| (identity, By::Application));
        }
        if let Some(identity) = inner.recall_sent(&sent, known.generation) {
            attempt.is_void();
            return Ok((identity, By::Remembered));
        }
        let answer = inner.accounts.check(target, password).await;
        self.learn(&answer, attempt, wrong.is_none(), &known);
        let by = if target.is_local() { By::Local } else { By::Kdc };
        answer.map(|identity| (identity, by))
    }

    fn sent(&self) -> Sent<'_> {
        Sent { client: self.client, account: self.target.key(), tag: self.tag }
    }

    /// Tells the regulation what came of it, and remembers it. `counts`: it is a try of its own, not one that was counted before.
    fn learn(
        &self,
        answer: &Result<Identity, Failure>,
        attempt: Box<dyn Trying>,
        counts: bool,
        before: &Before,
    ) {
        let (inner, sent) = (&self.inner, self.sent());
        match answer {
            // It says nothing of the account's own password, and is not remembered.
            Ok(_) if self.kind == Kind::Application => attempt.is_void(),
            Ok(identity) => {
                attempt.succeeded();
                inner.memory().accept(&sent, identity.clone(), before, boot_now());
            }
            Err(failure) => match try_of(failure) {
                Some(cause) => {
                    if counts {
                        attempt.failed(cause != Cause::UnknownUser);
                    } else {
                        attempt.is_void();
                    }
                    let counts_once_for = inner.settings.load().counts_once_for;
                    inner.memory().refuse(&sent, cause, before.generation, counts_once_for, boot_now());
                    if inner.regulation.is_banned(sent.client, sent.account) {
                        inner.memory().forget_banned(sent.client, sent.account);
                    }
                }
                None => attempt.is_void(),
            },
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.inner.asked.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.tag);
    }
}

/// Why a try at a secret has failed, if it was one.
fn try_of(failure: &Failure) -> Option<Cause> {
    let Failure::Rejected(rejection) = failure else { return None };
    match rejection.cause {
        crate::auth::Cause::Password(cause) => Some(cause).filter(|cause| cause.counts_as_try()),
        _ => None,
    }
}

fn refused<T>(cause: Cause, what: &str) -> Result<T, Failure> {
    Err(rejected(cause, what))
}

pub(super) fn rejected(cause: Cause, what: &str) -> Failure {
    let why = match cause.remedy() {
        "" => format!("{what} ({})", cause.label()),
        remedy => format!("{what} ({}): {remedy}", cause.label()),
    };
    Failure::rejected(cause, why)
}

const fn proved(identity: Identity, by: By, at: BootTime) -> Proved {
    let method = match by {
        By::Application => Method::ApplicationPassword,
        By::Local | By::Kdc | By::Remembered => Method::Password,
    };
    Proved { identity, method, factors: Factors::NONE, at, mutual: None, ticket: None }
}

/// By how it looks: what begins like an application password reaches neither a KDC nor a hash.
fn kind(password: &Password) -> Kind {
    if is_meant(password.reveal()) { Kind::Application } else { Kind::Account }
}

/// A number that nobody can guess.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
#[path = "door_tests.rs"]
mod tests;
