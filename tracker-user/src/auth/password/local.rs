//! A password against the gateway's own list of users.
//!
//! The list is in memory, whole, and whoever looks somebody up asks neither the disk nor a lock. Passwords are hashed on
//! threads of their own, as many at once as half of the cores, behind a queue: nobody's request waits for somebody else's
//! password, and however many are sent, they take no more than that.

mod hash;
mod name;
mod strength;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::time::timeout;
use unicode_normalization::{UnicodeNormalization as _, is_nfc};
use zeroize::Zeroizing;

pub use self::hash::HashError;
use self::hash::{Hash, Hasher};
pub use self::name::{BadLocalName, LocalName};
pub use self::strength::Weak;
use super::Cause;
use super::secret::Password;
use crate::auth::outcome::{Failure, VERIFY_TIMEOUT};
use crate::outside;
use crate::store::{PasswordHash, Store, StoredUser};
use crate::threads::{Size, Threads};
use crate::types::Identity;

/// There are never more users: all of them are in memory.
pub const MOST_USERS: usize = 10_000;
/// So many passwords wait to be looked at; one more is refused ([`Failure::Busy`]).
pub(super) const QUEUE: usize = 64;
/// Bits that a letter of a drawn password stands for.
const BITS: u32 = 5;
/// What drawn passwords are made of: no letter that is taken for another.
const LETTERS: [u8; 1 << BITS] = *b"0123456789abcdefghjkmnpqrstvwxyz";
/// So many letters: 100 bits.
const DRAWN: usize = 20;

/// Verifies passwords of the gateway's own users.
pub struct LocalUsers {
    users: Arc<Users>,
    threads: Threads,
}

/// The users, by name in lower case.
type Index = HashMap<Arc<str>, Arc<Entry>>;

struct Users {
    index: ArcSwap<Index>,
    /// Held over a whole change, so that two never mix.
    changes: Mutex<()>,
    /// The next one.
    generation: AtomicU64,
    hasher: Hasher,
    /// What a password is compared with where there is nothing to compare it with.
    nobody: Hash,
    /// Where a hash by new parameters is kept.
    store: Option<Arc<Store>>,
}

/// A user as they are looked up.
struct Entry {
    user: StoredUser,
    /// `None` where it cannot be read: no password fits.
    hash: Option<Hash>,
    generation: u64,
}

impl fmt::Debug for LocalUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalUsers").field("count", &self.count()).finish_non_exhaustive()
    }
}

impl LocalUsers {
    /// The users that `store` has.
    ///
    /// # Errors
    /// When the store cannot be read, or no thread can be started.
    pub fn start(store: Arc<Store>) -> io::Result<Self> {
        let users = store.users().map_err(io::Error::other)?;
        let half = std::thread::available_parallelism().map_or(1, usize::from) / 2;
        Self::with(users, Some(store), Size { least: 1, most: half.max(1), queue: QUEUE })
    }

    fn with(users: Vec<StoredUser>, store: Option<Arc<Store>>, size: Size) -> io::Result<Self> {
        let generation = AtomicU64::new(1);
        let entries = users.into_iter().map(|user| {
            let entry = Entry::new(user, generation.fetch_add(1, Ordering::Relaxed));
            (entry.user.key().into(), Arc::new(entry))
        });
        let users = Users {
            index: ArcSwap::from_pointee(entries.collect()),
            changes: Mutex::new(()),
            generation,
            hasher: Hasher::default(),
            nobody: Hash::of_nobody().map_err(io::Error::other)?,
            store,
        };
        Ok(Self { users: Arc::new(users), threads: Threads::start("password", size)? })
    }

    /// These users with these passwords, whom no store keeps.
    #[cfg(test)]
    pub(crate) fn of(users: &[(&str, &str)]) -> Self {
        let size = Size { least: 1, most: 2, queue: QUEUE };
        let local = Self::with(Vec::new(), None, size).unwrap();
        for (name, password) in users {
            let hash = local.hash(&Password::new(Zeroizing::new((*password).into()))).unwrap();
            let user = StoredUser {
                name: (*name).into(),
                password: hash,
                disabled: false,
                must_change: false,
                role: crate::types::Role::User,
                created: jiff::Timestamp::UNIX_EPOCH,
                changed: jiff::Timestamp::UNIX_EPOCH,
            };
            local.change::<()>(&user.key(), |_, _| Ok(Some(user))).unwrap();
        }
        local
    }

    /// Whether there is a local user of this name (in lower case), disabled or not.
    #[must_use]
    pub fn knows(&self, user: &str) -> bool {
        self.generation(user).is_some()
    }

    /// Whether there is a local user of this name (in lower case) who is not disabled.
    #[must_use]
    pub fn is_enabled(&self, user: &str) -> bool {
        self.users.entry(user).is_some_and(|entry| !entry.user.disabled)
    }

    /// A number that stands for what is known of this user (name in lower case): another one as soon as the password, or
    /// whether it counts, has changed; `None` where there is no such user any more. It is never used again, for nobody. Whoever
    /// remembers that a password was right remembers this with it, **read before the password was verified**, and believes the
    /// memory only while it is the same. Costs a look into a table in memory, and no allocation for names in ASCII.
    #[must_use]
    pub fn generation(&self, user: &str) -> Option<u64> {
        let index = self.users.index.load();
        if is_nfc(user) {
            return index.get(user).map(|entry| entry.generation);
        }
        index.get(&*user.nfc().collect::<String>()).map(|entry| entry.generation)
    }

    /// Whose password this is. A name that nobody has takes as long as one that somebody has.
    ///
    /// # Errors
    /// [`Failure::Rejected`] with a [`super::Cause`], or [`Failure::Busy`].
    pub async fn check(&self, user: &str, password: Password) -> Result<Identity, Failure> {
        if !strength::has_a_length(&password) {
            return Err(Failure::rejected(Cause::Length, "the password is empty, or longer than any"));
        }
        let name = outside::shown(user, outside::NAME).into_owned();
        let entry = self.users.entry(user);
        let users = Arc::clone(&self.users);
        let answer = self.threads.run(move || users.verify(entry.as_deref(), &name, &password));
        match timeout(VERIFY_TIMEOUT, answer.map_err(|_| Failure::Busy)?).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Failure::Unavailable("the gateway is stopping".into())),
            Err(_) => Err(Failure::TimedOut),
        }
    }

    /// What a password is to be kept as. Blocks for as long as that takes: some hundredths of a second.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn hash(&self, password: &Password) -> Result<PasswordHash, HashError> {
        let _wanted = self.users.hasher.want();
        self.users.hasher.make(strength::prepared(password).as_bytes())
    }

    /// Whether the user of this name may be given this password.
    ///
    /// # Errors
    /// What speaks against it.
    pub fn judge(name: &str, password: &Password) -> Result<(), Weak> {
        strength::judge(name, password)
    }

    /// A password that nobody can guess: 100 random bits, in letters that can be read aloud and typed.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn draw() -> Result<Password, HashError> {
        let drawn = Zeroizing::new(hash::random::<DRAWN>()?);
        let mut text = Zeroizing::new(String::with_capacity(DRAWN + DRAWN / 5));
        for (place, byte) in drawn.iter().enumerate() {
            if place > 0 && place % 5 == 0 {
                text.push('-');
            }
            let letter = LETTERS.get(usize::from(byte % (1 << BITS)));
            text.push(letter.copied().unwrap_or_default().into());
        }
        Ok(Password::new(text))
    }

    /// Changes one user: `decide` is given what the user is now and how many users there are, has what they are to be written
    /// to the store, and returns it; `None` is nobody. When this returns, everybody who asks goes by it. Blocks: one change at
    /// a time.
    ///
    /// # Errors
    /// Those of `decide`: nothing has changed then.
    pub fn change<E>(
        &self,
        user: &str,
        decide: impl FnOnce(Option<&StoredUser>, usize) -> Result<Option<StoredUser>, E>,
    ) -> Result<(), E> {
        self.users.change(user, decide)
    }

    /// How many users there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.users.index.load().len()
    }

    /// What is known of the user of this name (in lower case).
    #[must_use]
    pub fn user(&self, user: &str) -> Option<StoredUser> {
        self.users.entry(user).map(|entry| entry.user.clone())
    }

    /// Whether somebody other than this user (name in lower case) may administer the gateway now.
    #[must_use]
    pub fn has_another_administrator(&self, user: &str) -> bool {
        let index = self.users.index.load();
        index.iter().any(|(key, entry)| **key != *user && entry.user.administers())
    }

    /// All users, by name.
    #[must_use]
    pub fn all(&self) -> Vec<StoredUser> {
        let mut all: Vec<StoredUser> =
            self.users.index.load().values().map(|entry| entry.user.clone()).collect();
        all.sort_by_cached_key(StoredUser::key);
        all
    }
}

impl Entry {
    fn new(user: StoredUser, generation: u64) -> Self {
        Self { hash: Hash::read(&user.password), user, generation }
    }
}

impl Users {
    /// The user of a name, however it was typed.
    fn entry(&self, typed: &str) -> Option<Arc<Entry>> {
        // No name is longer; what is, is not made into anything.
        let name = LocalName::parse(typed).ok()?;
        self.index.load().get(&*name.key()).cloned()
    }

    /// Hashes, whoever it is, and then says.
    fn verify(&self, entry: Option<&Entry>, name: &str, password: &Password) -> Result<Identity, Failure> {
        let _wanted = self.hasher.want();
        let hash = entry.and_then(|entry| entry.hash.as_ref());
        let prepared = strength::prepared(password);
        let fits = self.hasher.verify(prepared.as_bytes(), hash.unwrap_or(&self.nobody));
        let fits = fits.map_err(|error| Failure::Unavailable(error.to_string()))? && hash.is_some();
        let refused = |cause: Cause, what: &str| {
            let remedy = cause.remedy();
            let remedy = if remedy.is_empty() { String::new() } else { format!(": {remedy}") };
            Err(Failure::rejected(cause, format!("{what}{remedy}")))
        };
        let Some(entry) = entry else {
            // Without the name: what nobody is called may be a password.
            return refused(Cause::UnknownUser, "no local user has this name");
        };
        if entry.user.disabled {
            return refused(Cause::Disabled, &format!("the local user {name} is disabled"));
        }
        if !fits {
            return refused(Cause::WrongPassword, &format!("not the password of the local user {name}"));
        }
        if entry.user.must_change {
            let what =
                format!("the local user {name} has to change the password before it is good for anything");
            return refused(Cause::MustChange, &what);
        }
        if hash.is_some_and(Hash::is_outdated) {
            self.hash_anew(entry, prepared.as_bytes());
        }
        Ok(Identity::local(&entry.user.name))
    }

    /// Keeps the hash that is made of a right password by the parameters of now. It is the same password: who remembers it
    /// may go on.
    fn hash_anew(&self, entry: &Entry, password: &[u8]) {
        let Some(store) = &self.store else { return };
        let Ok(hash) = self.hasher.make(password) else { return };
        let done = self.change_as(entry.user.key().as_str(), Some(entry.generation), |now, _| match now {
            // Another password was set meanwhile.
            Some(now) if now.password != entry.user.password => Ok(Some(now.clone())),
            Some(now) => {
                let user = StoredUser { password: hash, ..now.clone() };
                store.put_user(&user, None).map(|()| Some(user))
            }
            None => Ok(None),
        });
        if let Err(error) = done {
            tracing::warn!(%error, "a password's hash by the parameters of now could not be kept: at the next login");
        }
    }

    fn change<E>(
        &self,
        user: &str,
        decide: impl FnOnce(Option<&StoredUser>, usize) -> Result<Option<StoredUser>, E>,
    ) -> Result<(), E> {
        self.change_as(user, None, decide)
    }

    /// The same; a user of the generation `keeps` has it afterwards, too.
    fn change_as<E>(
        &self,
        key: &str,
        keeps: Option<u64>,
        decide: impl FnOnce(Option<&StoredUser>, usize) -> Result<Option<StoredUser>, E>,
    ) -> Result<(), E> {
        let _one = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.index.load_full();
        let now = before.get(key);
        let changed = decide(now.map(|entry| &entry.user), before.len())?;
        let mut index = (*before).clone();
        match changed {
            Some(user) => {
                let is_kept = now
                    .is_some_and(|entry| entry.user.is_proved_like(&user) || keeps == Some(entry.generation));
                let generation = match now.filter(|_| is_kept) {
                    Some(entry) => entry.generation,
                    None => self.generation.fetch_add(1, Ordering::Relaxed),
                };
                index.insert(key.into(), Arc::new(Entry::new(user, generation)));
            }
            None => drop(index.remove(key)),
        }
        self.index.store(Arc::new(index));
        Ok(())
    }
}
