//! A password against the realm's KDC: who is asked, how many at once, and for how long.
//!
//! The library blocks, and does so for many seconds where a KDC is silent; nothing stops it. So it is called on threads of
//! its own, apart from those that verify tickets; each realm may hold most of them, but not all; and a realm whose KDC was
//! silent is not asked again for a while: whoever comes meanwhile is told so at once, and their password counts as not tried.
//! Only realms are asked that the operator has named (krb5.conf, the keytab, `kerberos.domains`).

mod breaker;
mod lane;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use self::lane::{Lane, Lanes};
use super::cause::Cause;
use super::secret::Password;
use crate::auth::kerberos::negotiate::Options;
use crate::auth::kerberos::password::{self as kerberos, KnownRealms, Unproved};
use crate::auth::outcome::{Failure, VERIFY_TIMEOUT};
use crate::clock::{BootTime, boot_now};
use crate::threads::{Size, Threads};
use crate::types::Identity;

/// The threads, of which some always wait for what comes.
const THREADS: Size = Size { least: 1, most: 8, queue: 64 };
/// So many of them one realm may hold.
const SLOTS: usize = 6;
/// A KDC that has not answered for so long is taken for silent: the library asks three of them in that time.
const SILENCE: Duration = Duration::from_secs(8);
/// The longest password, in bytes.
const LONGEST: usize = 1024;
/// How old may be what is known of the realms.
const FRESH: Duration = Duration::from_secs(2);
/// So long is waited for it where it counts.
const READING: Duration = Duration::from_secs(1);
/// A KDC that was silent is named for so long, unless it answers before.
const TOLD: Duration = Duration::from_mins(5);
/// How often it is looked, at the end, whether the threads are out of the library, and how long each time is waited for that.
const LOOKS_AT_THE_END: u32 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// Verifies passwords with the KDC of their realm.
pub struct Kdc {
    threads: Threads,
    shared: Arc<Shared>,
    lanes: Lanes,
}

/// What the threads use too.
struct Shared {
    state: Mutex<State>,
    /// The realms are being read.
    reading: AtomicBool,
    /// So many threads are in the library.
    inside: AtomicUsize,
}

struct State {
    options: Arc<Options>,
    realms: Arc<KnownRealms>,
    read: BootTime,
}

impl fmt::Debug for Kdc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kdc").finish_non_exhaustive()
    }
}

impl Kdc {
    /// Verifies by these options, of which the keytab and the rules for names count: those of the tickets. Reads krb5.conf and
    /// the keytab; what is wrong with them is no error here, since it may be mended.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(options: Options) -> io::Result<Self> {
        let threads = Threads::start("kdc", THREADS)?;
        let realms = Arc::new(KnownRealms::read(&options));
        let state = State { options: Arc::new(options), realms, read: boot_now() };
        let shared =
            Shared { state: Mutex::new(state), reading: AtomicBool::new(false), inside: AtomicUsize::new(0) };
        Ok(Self { threads, shared: Arc::new(shared), lanes: Lanes::new(SLOTS) })
    }

    /// Goes by other options from now on. Blocks for a moment: it reads krb5.conf and the keytab.
    pub fn configure(&self, options: Options) {
        if *self.shared.lock().options == options {
            return;
        }
        let realms = Arc::new(KnownRealms::read(&options));
        *self.shared.lock() = State { options: Arc::new(options), realms, read: boot_now() };
    }

    /// The key ([`Identity::key`]) of the user that is meant, whether there is one or not; `None` where the realm is none that
    /// can be asked. All ways to write a user have the same one.
    #[must_use]
    pub fn key(&self, user: &str, realm: Option<&str>) -> Option<String> {
        let realms = Arc::clone(&self.shared.lock().realms);
        let realm = realm.map_or_else(|| realms.default_realm(), |typed| realms.meant(typed))?;
        Some(Identity::new(user, realm, "").key().to_owned())
    }

    /// Whose password this is. `realm`: in any case; `None` is the default realm. The password is wiped when the library is
    /// done with it.
    ///
    /// # Errors
    /// [`Failure::Rejected`] with a [`super::Cause`]; [`Failure::Unavailable`] where no KDC answers; [`Failure::Busy`].
    pub async fn check(
        &self,
        user: &str,
        realm: Option<&str>,
        password: Password,
    ) -> Result<Identity, Failure> {
        let checked = tokio::time::timeout(VERIFY_TIMEOUT, self.ask(user, realm, password));
        checked.await.unwrap_or(Err(Failure::TimedOut))
    }

    /// What an operator should look at: realms whose passwords nobody could verify lately.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let lately = self.lanes.silent().into_iter().filter(|(_, silent)| *silent < TOLD);
        let line = |(realm, silent): (String, Duration)| {
            let why = format!("a password was to be verified {} s ago, and got 503", silent.as_secs());
            kerberos::silent(&realm, &why)
        };
        lately.map(line).collect()
    }

    async fn ask(&self, user: &str, realm: Option<&str>, password: Password) -> Result<Identity, Failure> {
        let text = password.reveal();
        if text.is_empty() || text.len() > LONGEST {
            return Err(kerberos::rejected(Cause::Length, "the password is empty, or longer than any"));
        }
        // For the library it would end there: one that merely begins like it would do.
        if text.contains('\0') {
            return Err(kerberos::rejected(Cause::WrongPassword, "no password has a NUL character"));
        }
        let (options, realms) = self.known(realm).await;
        let realm = match realm {
            Some(typed) => realms.meant(typed).ok_or_else(|| {
                kerberos::rejected(Cause::ForeignRealm, "the name is of a realm that is not known here")
            })?,
            None => realms.default_realm().ok_or_else(|| {
                Failure::Unavailable("krb5.conf names no default_realm for users without a realm".into())
            })?,
        };
        // What is no user's name does not come in the way of those that are.
        if let Err(bad) = options.names.typed(user, realm) {
            return Err(kerberos::rejected(Cause::Name, &bad.to_string()));
        }
        let lane = self.lanes.of(realm)?;
        let _place = lane.enter()?;
        let dead = |_| Failure::Unavailable(kerberos::silent(realm, "it was silent a moment ago"));
        let pass = lane.turn().await.map_err(dead)?;

        let begun = Arc::new(Mutex::new(None));
        let job = {
            let (shared, lane, begun) = (Arc::clone(&self.shared), Arc::clone(&lane), Arc::clone(&begun));
            let (user, realm) = (user.to_owned(), realm.to_owned());
            let default = realms.default_realm().map(str::to_owned);
            move || {
                let (_pass, _inside) = (pass, Inside::new(&shared.inside));
                let now = boot_now();
                *begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
                let proved = kerberos::prove(&options, default.as_deref(), &user, &realm, &password);
                drop(password);
                tell(&lane, now, &proved);
                proved.map_err(|unproved| unproved.failure)
            }
        };
        let answer = self.threads.run(job).map_err(|_| Failure::Busy)?;
        match tokio::time::timeout(SILENCE, answer).await {
            Ok(Ok(result)) => result,
            // Every password that is taken up gets an answer; without one, nothing is proved.
            Ok(Err(_)) => {
                Err(Failure::Unavailable("verifying the password failed inside the gateway".into()))
            }
            Err(_) => match *begun.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(begun) => {
                    lane.silent(begun);
                    let why = format!("none within {} s", SILENCE.as_secs());
                    Err(Failure::Unavailable(kerberos::silent(realm, &why)))
                }
                // It is others who hold the threads.
                None => Err(Failure::Busy),
            },
        }
    }

    /// What is known of the realms. What is old is read anew, which is waited for only where it may change the answer: the
    /// realm that was typed is not known yet.
    async fn known(&self, typed: Option<&str>) -> (Arc<Options>, Arc<KnownRealms>) {
        let (known, fresh) = self.shared.known();
        let reading = if fresh { None } else { Reading::begin(&self.shared) };
        let Some(reading) = reading else { return known };
        let is_known = typed.map_or_else(|| known.1.default_realm(), |typed| known.1.meant(typed)).is_some();
        // Where too much waits to be done, what was known counts.
        let Ok(read) = self.threads.run(move || reading.read()) else { return known };
        if is_known {
            // Somebody has to wait for it, or it is not done.
            tokio::spawn(read);
            return known;
        }
        // As above, without an answer in time.
        let _ = tokio::time::timeout(READING, read).await;
        self.shared.known().0
    }
}

impl Drop for Kdc {
    fn drop(&mut self) {
        // A thread that is still in the library while the process ends may make it abort. One that hangs must not hang the
        // daemon's end.
        for _ in 0..LOOKS_AT_THE_END {
            if self.shared.inside.load(Ordering::Acquire) == 0 {
                break;
            }
            thread::sleep(BETWEEN_LOOKS);
        }
    }
}

/// What a password tells of the realm's KDC.
fn tell(lane: &Lane, begun: BootTime, proved: &Result<Identity, Unproved>) {
    match proved.as_ref().map_err(|unproved| unproved.kdc) {
        Ok(_) | Err(kerberos::Kdc::Answered) => lane.heard(),
        Err(kerberos::Kdc::Silent) => lane.silent(begun),
        Err(kerberos::Kdc::Unknown) => {}
    }
}

impl Shared {
    fn known(&self) -> ((Arc<Options>, Arc<KnownRealms>), bool) {
        let state = self.lock();
        let fresh = boot_now().since(state.read) < FRESH;
        ((Arc::clone(&state.options), Arc::clone(&state.realms)), fresh)
    }

    /// Reads the realms anew.
    fn read(&self) {
        let _inside = Inside::new(&self.inside);
        let options = Arc::clone(&self.lock().options);
        let realms = Arc::new(KnownRealms::read(&options));
        let mut state = self.lock();
        // Other options came meanwhile, with what was read for them.
        if Arc::ptr_eq(&state.options, &options) {
            (state.realms, state.read) = (realms, boot_now());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The only one to read the realms, until it is dropped, whether they were read or not.
struct Reading(Arc<Shared>);

impl Reading {
    /// `None` where another reads them.
    fn begin(shared: &Arc<Shared>) -> Option<Self> {
        (!shared.reading.swap(true, Ordering::AcqRel)).then(|| Self(Arc::clone(shared)))
    }

    fn read(self) {
        self.0.read();
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.reading.store(false, Ordering::Release);
    }
}

/// Counts a thread that is in the library.
struct Inside<'a>(&'a AtomicUsize);

impl<'a> Inside<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod real;
