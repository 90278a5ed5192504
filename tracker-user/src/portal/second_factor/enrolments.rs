//! What people are setting up who are logged in: an authenticator of which no code has been right yet. In memory alone, and for ten
//! minutes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ring::digest::{SHA256, digest};

use super::person::Person;
use crate::auth::factors::Enrolment;
use crate::clock::{BootTime, boot_now};
use crate::portal::site::Site;
use crate::portal::visit::Visit;

/// So long one lasts.
const LASTS: Duration = Duration::from_secs(10 * 60);
/// So many in all: the oldest gives way. Each is of a login to the pages.
const MOST: usize = 10_000;

/// The SHA-256 of the secret of the login to the pages.
type Key = [u8; 32];

/// What somebody is setting up.
#[derive(Clone, Debug)]
pub(in crate::portal) struct Underway {
    /// The authenticator.
    pub(in crate::portal) enrolment: Enrolment,
    /// Whether a factor was proved before it began, so that it may take the place of another.
    pub(in crate::portal) replaces: bool,
    begun: BootTime,
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::portal) struct Enrolments(Mutex<HashMap<Key, Underway>>);

impl Enrolments {
    fn held(&self) -> MutexGuard<'_, HashMap<Key, Underway>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, key: Key, underway: Underway, now: BootTime) {
        let mut held = self.held();
        held.retain(|_, known| now.since(known.begun) < LASTS);
        if held.len() >= MOST {
            let oldest = held.iter().min_by_key(|(_, known)| known.begun).map(|(key, _)| *key);
            oldest.and_then(|oldest| held.remove(&oldest));
        }
        held.insert(key, underway);
    }

    fn get(&self, key: &Key, now: BootTime) -> Option<Underway> {
        self.held().get(key).filter(|known| now.since(known.begun) < LASTS).cloned()
    }
}

impl Site {
    /// Begins to set up an authenticator; `None` without randomness.
    pub(super) fn begin_enrolment(&self, visit: &Visit, person: &Person, replaces: bool) -> Option<()> {
        let (key, now) = (key(visit, person)?, boot_now());
        let enrolment = Enrolment::draw()?;
        self.enrolments().put(key, Underway { enrolment, replaces, begun: now }, now);
        Some(())
    }

    /// What this person is setting up in this browser.
    pub(super) fn enrolment(&self, visit: &Visit, person: &Person) -> Option<Underway> {
        self.enrolments().get(&key(visit, person)?, boot_now())
    }

    /// It is set up, or given up.
    pub(super) fn end_enrolment(&self, visit: &Visit, person: &Person) {
        if let Some(key) = key(visit, person) {
            self.enrolments().held().remove(&key);
        }
    }
}

fn key(visit: &Visit, person: &Person) -> Option<Key> {
    let secret = visit.web_secret(person.purpose)?;
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_bounded_in_number_and_time() {
        let (all, start) = (Enrolments::default(), boot_now());
        let key = |number: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            key
        };
        let underway = |begun| Underway { enrolment: Enrolment::draw().unwrap(), replaces: false, begun };
        for number in 0..=MOST {
            let now = start.after(Duration::from_millis(number as u64));
            all.put(key(number), underway(now), now);
        }
        let now = start.after(Duration::from_secs(60));
        assert!(all.get(&key(0), now).is_none(), "the oldest gives way");
        assert!(all.get(&key(MOST), now).is_some());
        assert_eq!(all.held().len(), MOST);
        let later = now.after(LASTS);
        assert!(all.get(&key(MOST), later).is_none());
        all.put(key(1), underway(later), later);
        assert_eq!(all.held().len(), 1);
    }
}
