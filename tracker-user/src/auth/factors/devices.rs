//! Browsers in which a further factor was proved not long ago, and which were told to be remembered: each by the hash of a secret
//! that it has as a cookie.
//!
//! One is its user's, and of the enrolment under which it was remembered: after a reset, or with another authenticator, it is worth
//! nothing. It is forgotten when it was not used for as long as browsers are remembered.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::store::{Entry, Journal, SealedRow, SealedTable, Sealer, Store, StoreError};
use crate::types::{ClientAddr, Identity};

/// So many of a user, and in all; the one that was unused for the longest gives way.
const PER_USER: usize = 20;
const MOST: usize = 50_000;
/// A secret has so many bytes.
const SECRET: usize = 16;
/// So many characters of its key are its name.
const NAME: usize = 16;

const TABLE: SealedTable = SealedTable::RememberedDevices;

/// A browser that is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Whose: [`Identity::key`].
    user: Box<str>,
    /// Under which enrolment.
    generation: u64,
    /// Since when.
    pub since: Timestamp,
    /// When it was used last,
    pub used: Timestamp,
    /// from where,
    pub address: String,
    /// and what it said it was.
    pub agent: String,
}

/// A device that is listed.
#[derive(Clone, Debug)]
pub struct Found {
    /// By which it is known to its user.
    pub name: String,
    /// What is known of it.
    pub device: Device,
}

/// Under which conditions a device is good.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Its user,
    pub who: &'a Identity,
    /// and their enrolment.
    pub generation: u64,
    /// So long it may have been unused,
    pub keep: Duration,
    /// by now.
    pub now: Timestamp,
}

/// See the module.
pub struct Devices {
    sealer: Arc<Sealer>,
    /// By the SHA-256 of the secret, in hexadecimal.
    held: Mutex<HashMap<Box<str>, Device>>,
}

impl std::fmt::Debug for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Devices").finish_non_exhaustive()
    }
}

impl Terms<'_> {
    fn are_met_by(&self, device: &Device) -> bool {
        *device.user == *self.who.key()
            && device.generation == self.generation
            && self.now.duration_since(device.used).unsigned_abs() < self.keep
    }
}

impl Devices {
    /// Those that the store has. What cannot be opened is forgotten. Blocks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) fn start(store: &Store, sealer: &Arc<Sealer>, journal: &Journal) -> Result<Self, StoreError> {
        let (mut held, mut unreadable) = (HashMap::new(), Vec::new());
        for (key, sealed) in store.sealed(TABLE)? {
            let plain = sealer.open_row(TABLE, &key, &sealed);
            match plain.and_then(|plain| serde_json::from_slice::<Device>(&plain).ok()) {
                Some(device) => drop(held.insert(key.into_boxed_str(), device)),
                None => unreadable.push(gone(&key)),
            }
        }
        if !unreadable.is_empty() {
            journal.submit(unreadable, None);
        }
        Ok(Self { sealer: Arc::clone(sealer), held: Mutex::new(held) })
    }

    /// Remembers a browser at `client` from now on, in place of the one whose secret was `before`. Returns its secret, and what says
    /// so on disk. `None` without randomness.
    #[must_use]
    pub fn remember(
        &self,
        terms: Terms<'_>,
        client: ClientAddr,
        agent: &str,
        before: Option<&str>,
    ) -> Option<(Zeroizing<String>, Vec<Entry>)> {
        let mut random = Zeroizing::new([0; SECRET]);
        SystemRandom::new().fill(&mut *random).ok()?;
        let secret = Zeroizing::new(data_encoding::HEXLOWER.encode(&*random));
        let device = Device {
            user: terms.who.key().into(),
            generation: terms.generation,
            since: terms.now,
            used: terms.now,
            address: client.to_string(),
            agent: agent.to_owned(),
        };
        let key = key(&secret);
        let row = self.row(&key, &device)?;
        let mut held = self.held();
        let mut over: Vec<Box<str>> = Vec::new();
        // What of this user is good no more, and what this browser had of theirs.
        let before = before.map(self::key);
        let is_over = |known: &str, device: &Device| {
            *device.user == *terms.who.key()
                && (!terms.are_met_by(device) || before.as_deref() == Some(known))
        };
        over.extend(held.extract_if(|known, device| is_over(known, device)).map(|(known, _)| known));
        let own = held.values().filter(|device| *device.user == *terms.who.key()).count();
        let longest_unused = if own >= PER_USER {
            oldest(&held, |device| *device.user == *terms.who.key())
        } else if held.len() >= MOST {
            oldest(&held, |_| true)
        } else {
            None
        };
        over.extend(longest_unused.inspect(|known| drop(held.remove(known))));
        held.insert(key, device);
        Some((secret, over.iter().map(|key| gone(key)).chain([row]).collect()))
    }

    /// Whether a browser with this secret is remembered on these terms. If so it is used now, and what says so on disk is
    /// returned.
    #[must_use]
    pub fn used(&self, terms: Terms<'_>, client: ClientAddr, agent: &str, secret: &str) -> Option<Entry> {
        let key = key(secret);
        let mut held = self.held();
        let device = held.get(&key).filter(|device| terms.are_met_by(device))?;
        let device = Device {
            used: terms.now,
            address: client.to_string(),
            agent: agent.to_owned(),
            ..device.clone()
        };
        let row = self.row(&key, &device)?;
        held.insert(key, device);
        Some(row)
    }

    /// Those that are remembered on these terms, the last used first.
    #[must_use]
    pub fn list(&self, terms: Terms<'_>) -> Vec<Found> {
        let held = self.held();
        let own = held.iter().filter(|(_, device)| terms.are_met_by(device));
        let mut own: Vec<Found> =
            own.map(|(key, device)| Found { name: name(key).to_owned(), device: device.clone() }).collect();
        own.sort_by_key(|found| std::cmp::Reverse(found.device.used));
        own
    }

    /// Forgets those of a user, or the one of this name; what they were, and what says so on disk.
    pub fn forget(&self, who: &Identity, of: Option<&str>) -> (Vec<Device>, Vec<Entry>) {
        let is_meant = |key: &str, device: &Device| {
            *device.user == *who.key() && of.is_none_or(|wanted| wanted == name(key))
        };
        let gone_now: Vec<(Box<str>, Device)> =
            self.held().extract_if(|key, device| is_meant(key, device)).collect();
        let entries = gone_now.iter().map(|(key, _)| gone(key)).collect();
        (gone_now.into_iter().map(|(_, device)| device).collect(), entries)
    }

    fn row(&self, key: &str, device: &Device) -> Option<Entry> {
        let plain = serde_json::to_vec(device).ok()?;
        self.sealer.seal(TABLE, key, &plain).map(Entry::Sealed)
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Box<str>, Device>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn oldest(held: &HashMap<Box<str>, Device>, of: impl Fn(&Device) -> bool) -> Option<Box<str>> {
    let all = held.iter().filter(|(_, device)| of(device));
    all.min_by_key(|(_, device)| device.used).map(|(key, _)| key.clone())
}

fn gone(key: &str) -> Entry {
    Entry::Sealed(SealedRow { table: TABLE, key: key.to_owned(), value: None })
}

fn key(secret: &str) -> Box<str> {
    data_encoding::HEXLOWER.encode(digest(&SHA256, secret.as_bytes()).as_ref()).into()
}

fn name(key: &str) -> &str {
    key.get(..NAME).unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn devices(directory: &Path) -> Devices {
        let sealer = Arc::new(Sealer::open(directory).unwrap());
        Devices { sealer, held: Mutex::default() }
    }

    fn terms(who: &Identity, generation: u64, second: i64) -> Terms<'_> {
        let now = Timestamp::from_second(1_700_000_000 + second).unwrap();
        Terms { who, generation, keep: 30 * DAY, now }
    }

    fn alice() -> Identity {
        Identity::new("alice", "EXAMPLE.TEST", "")
    }

    const HERE: ClientAddr = ClientAddr::from_v4([192, 0, 2, 1]);

    #[test]
    fn one_is_good_for_its_user_and_enrolment_until_it_was_not_used_for_so_long() {
        let scratch = tempfile::tempdir().unwrap();
        let (devices, alice, bob) =
            (devices(scratch.path()), alice(), Identity::new("bob", "EXAMPLE.TEST", ""));
        let (secret, rows) = devices.remember(terms(&alice, 7, 0), HERE, "agent", None).unwrap();
        assert_eq!(rows.len(), 1);
        let used = |who, generation, second, secret: &str| {
            devices.used(terms(who, generation, second), HERE, "agent", secret).is_some()
        };
        assert!(!used(&bob, 7, 1, &secret), "another user's");
        assert!(!used(&alice, 8, 1, &secret), "after a reset");
        assert!(!used(&alice, 7, 1, "0123") && !used(&alice, 7, 1, ""));
        let month = 30 * 86_400;
        assert!(used(&alice, 7, month - 1, &secret) && used(&alice, 7, 2 * month - 2, &secret));
        assert!(!used(&alice, 7, 3 * month - 2, &secret), "unused for so long");
        assert!(devices.list(terms(&alice, 7, 2 * month)).len() == 1);
        let name = devices.list(terms(&alice, 7, 2 * month))[0].name.clone();
        assert!(devices.forget(&bob, Some(&name)).0.is_empty(), "another user's");
        let (forgotten, rows) = devices.forget(&alice, Some(&name));
        assert_eq!((forgotten.len(), rows.len()), (1, 1));
        assert!(!used(&alice, 7, 2 * month - 1, &secret));
    }

    #[test]
    fn a_user_has_so_many_and_a_browser_one() {
        let scratch = tempfile::tempdir().unwrap();
        let (devices, alice) = (devices(scratch.path()), alice());
        let mut last = None;
        for second in 0..50 {
            let before = if second % 2 == 0 { None } else { last.as_deref() };
            let (secret, _) = devices
                .remember(terms(&alice, 7, second), HERE, "agent", before.map(String::as_str))
                .unwrap();
            last = Some(secret);
        }
        let listed = devices.list(terms(&alice, 7, 50));
        assert_eq!(listed.len(), PER_USER);
        assert!(listed.is_sorted_by_key(|found| std::cmp::Reverse(found.device.used)));
        let (_, rows) = devices.remember(terms(&alice, 8, 60), HERE, "agent", None).unwrap();
        assert_eq!((devices.held().len(), rows.len()), (1, PER_USER + 1), "those of before go");
        assert_eq!(devices.forget(&alice, None).0.len(), 1);
    }

    #[test]
    fn no_secret_is_kept() {
        let scratch = tempfile::tempdir().unwrap();
        let (devices, alice) = (devices(scratch.path()), alice());
        let (secret, _) = devices.remember(terms(&alice, 7, 0), HERE, "agent", None).unwrap();
        assert_eq!(secret.len(), 2 * SECRET);
        assert!(!format!("{:?}", devices.held()).contains(secret.as_str()));
    }
}
