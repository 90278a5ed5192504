//! The logins to the pages that there are, in memory, by the hash of their secrets. Time is an argument.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::{Anchor, BootTime};
use crate::store::{StoredWebSession, WebSessionFacts, WebSessionKey, WebSessionTimes};
use crate::types::{ClientAddr, Identity, Role, SessionId};

/// So many at one address: the one that was unused for the longest gives way.
const PER_CLIENT: usize = 64;
/// So many in all; likewise.
const MOST: usize = 20_000;
/// One of an operator's that nobody uses for so long is over,
pub(in crate::portal) const IDLE: Duration = Duration::from_secs(30 * 60);
/// and so is one that began so long ago.
pub(in crate::portal) const ABSOLUTE: Duration = Duration::from_secs(12 * 3600);
/// So long after a password was typed an operator's changes need no other.
pub(in crate::portal) const FRESH_FOR: Duration = Duration::from_secs(10 * 60);
/// So long after a further factor was proved, what its user has set up can be changed.
const FRESH_FACTOR: Duration = Duration::from_secs(5 * 60);
/// That it was used is noted on disk no more often than this.
const NOTED_EVERY: Duration = Duration::from_secs(60);

/// A browser's login to the pages.
#[derive(Clone, Debug)]
pub(in crate::portal) struct WebSession {
    /// Who.
    pub(in crate::portal) identity: Arc<Identity>,
    /// What they may do. Whoever may do something else by now is logged in no more.
    pub(in crate::portal) role: Role,
    /// The address that it is good for.
    pub(in crate::portal) client: ClientAddr,
    /// When its user last proved themselves with a password.
    pub(in crate::portal) authenticated: BootTime,
    /// When a further factor was last proved in it; never after a restart.
    pub(in crate::portal) factor: Option<BootTime>,
    /// Whether one was proved in it at all.
    pub(in crate::portal) is_further: bool,
    /// When it began.
    pub(in crate::portal) began: BootTime,
    /// The session of the proxy that a user's goes with; `None` in an operator's.
    pub(super) session: Option<SessionId>,
    /// Of a user of the gateway's own: since when the password, and whether it counts, was what it was.
    pub(super) changed: Option<Timestamp>,
}

impl WebSession {
    /// Whether a further factor was proved so short a time ago that what is set up may be changed.
    pub(in crate::portal) fn has_fresh_factor(&self, now: BootTime) -> bool {
        self.factor.is_some_and(|proved| now.since(proved) < FRESH_FACTOR)
    }

    /// Whether its user has typed their password so short a time ago that they may change something.
    pub(in crate::portal) fn is_fresh(&self, now: BootTime) -> bool {
        now.since(self.authenticated) < FRESH_FOR
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Held(HashMap<WebSessionKey, Entry>);

#[derive(Debug)]
struct Entry {
    session: Arc<WebSession>,
    used: BootTime,
    noted: BootTime,
}

/// What a secret stands for.
#[derive(Debug)]
pub(super) enum Found {
    /// This, and whether it should be noted on disk that it is used.
    Good(Arc<WebSession>, bool),
    /// A login at another address.
    Elsewhere(Arc<WebSession>),
    /// One that is over; it is forgotten now.
    Over,
    /// Nothing.
    Nothing,
}

impl Held {
    /// Takes one in, and returns which ones give way to it.
    pub(super) fn insert(
        &mut self,
        key: WebSessionKey,
        session: WebSession,
        now: BootTime,
    ) -> Vec<WebSessionKey> {
        let client = session.client;
        self.0.insert(key, Entry { session: Arc::new(session), used: now, noted: now });
        let at_the_client = |entry: &&Entry| entry.session.client == client;
        let given_way = if self.0.values().filter(at_the_client).count() > PER_CLIENT {
            self.longest_unused(key, |entry| entry.session.client == client)
        } else if self.0.len() > MOST {
            self.longest_unused(key, |_| true)
        } else {
            None
        };
        given_way.inspect(|gone| drop(self.0.remove(gone))).into_iter().collect()
    }

    fn longest_unused(&self, but: WebSessionKey, of: impl Fn(&Entry) -> bool) -> Option<WebSessionKey> {
        let all = self.0.iter().filter(|(key, entry)| **key != but && of(entry));
        all.min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key)
    }

    /// What this secret stands for at this address.
    pub(super) fn find(&mut self, key: &WebSessionKey, client: ClientAddr, now: BootTime) -> Found {
        let Some(entry) = self.0.get_mut(key) else { return Found::Nothing };
        if entry.is_over(now) {
            self.0.remove(key);
            return Found::Over;
        }
        if entry.session.client != client {
            return Found::Elsewhere(Arc::clone(&entry.session));
        }
        entry.used = now;
        let is_due = now.since(entry.noted) >= NOTED_EVERY;
        if is_due {
            entry.noted = now;
        }
        Found::Good(Arc::clone(&entry.session), is_due)
    }

    /// Whether it is there and not over, without using it.
    pub(super) fn knows(&self, key: &WebSessionKey, now: BootTime) -> bool {
        self.0.get(key).is_some_and(|entry| !entry.is_over(now))
    }

    /// A further factor was proved in it.
    pub(super) fn note_factor(&mut self, key: &WebSessionKey, now: BootTime) {
        if let Some(entry) = self.0.get_mut(key) {
            let session = (*entry.session).clone();
            entry.session = Arc::new(WebSession { factor: Some(now), is_further: true, ..session });
        }
    }

    /// Takes it out; whether it was there.
    pub(super) fn remove(&mut self, key: &WebSessionKey) -> bool {
        self.0.remove(key).is_some()
    }

    /// Takes out those that are over, and returns them.
    pub(super) fn sweep(&mut self, now: BootTime) -> Vec<WebSessionKey> {
        self.0.extract_if(|_, entry| entry.is_over(now)).map(|(key, _)| key).collect()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<(WebSessionKey, Arc<WebSession>)> {
        self.0.iter().map(|(key, entry)| (*key, Arc::clone(&entry.session))).collect()
    }

    /// What is to be kept of one.
    pub(super) fn stored(
        &self,
        key: &WebSessionKey,
        boot: &str,
        anchor: &Anchor,
    ) -> Option<StoredWebSession> {
        let Entry { session, used, .. } = self.0.get(key)?;
        let WebSession {
            identity,
            role,
            client,
            authenticated,
            factor: _,
            is_further,
            began,
            session,
            changed,
        } = &**session;
        let times = WebSessionTimes { began: *began, authenticated: *authenticated, used: *used };
        let facts = WebSessionFacts {
            identity,
            role: *role,
            client: *client,
            is_further: *is_further,
            session: *session,
            changed: *changed,
        };
        Some(StoredWebSession::new(facts, times, boot, anchor))
    }

    /// Takes in what was kept; whether it is still good.
    pub(super) fn restore(
        &mut self,
        key: WebSessionKey,
        stored: &StoredWebSession,
        boot: &str,
        anchor: &Anchor,
        now: BootTime,
    ) -> bool {
        let Some(WebSessionTimes { began, authenticated, used }) = stored.times(boot, anchor, now) else {
            return false;
        };
        let session = WebSession {
            identity: Arc::new(stored.identity()),
            role: stored.role,
            client: stored.client,
            authenticated,
            factor: None,
            is_further: stored.is_further,
            began,
            session: stored.session,
            changed: stored.changed,
        };
        let entry = Entry { session: Arc::new(session), used, noted: used };
        let is_good = !entry.is_over(now) && self.0.len() < MOST;
        if is_good {
            self.0.insert(key, entry);
        }
        is_good
    }
}

impl Entry {
    /// A user's lasts as long as the session of the proxy that it goes with.
    fn is_over(&self, now: BootTime) -> bool {
        let is_operators = self.session.session.is_none();
        is_operators && (now.since(self.used) >= IDLE || now.since(self.session.began) >= ABSOLUTE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::boot_now;

    const SECOND: Duration = Duration::from_secs(1);

    fn client(number: u8) -> ClientAddr {
        ClientAddr::from_v4([192, 0, 2, number])
    }

    fn of(at: ClientAddr, now: BootTime, session: Option<SessionId>) -> WebSession {
        WebSession {
            identity: Arc::new(Identity::local("admin")),
            role: Role::Administrator,
            client: at,
            authenticated: now,
            factor: None,
            is_further: false,
            began: now,
            session,
            changed: None,
        }
    }

    #[test]
    fn an_operators_is_over_when_it_is_idle_and_when_it_is_old_and_a_users_is_not() {
        let (start, here) = (boot_now(), client(1));
        let mut held = Held::default();
        held.insert([1; 32], of(here, start, None), start);
        held.insert([2; 32], of(here, start, Some(SessionId::test(1))), start);
        let mut now = start;
        while now.since(start) < ABSOLUTE {
            assert!(matches!(held.find(&[1; 32], here, now), Found::Good(..)), "{now:?}");
            now = now.after(IDLE - SECOND);
        }
        assert!(!held.knows(&[1; 32], now));
        assert!(matches!(held.find(&[1; 32], here, now), Found::Over));
        assert!(matches!(held.find(&[1; 32], here, now), Found::Nothing));
        assert!(matches!(held.find(&[2; 32], here, now), Found::Good(..)));
        held.insert([3; 32], of(here, now, None), now);
        assert!(held.sweep(now.after(IDLE - SECOND)).is_empty());
        assert_eq!(held.sweep(now.after(IDLE)), [[3; 32]]);
    }

    #[test]
    fn an_operator_may_change_something_for_ten_minutes_after_typing_the_password_however_busy() {
        let (now, here) = (boot_now(), client(1));
        let mut held = Held::default();
        held.insert([1; 32], of(here, now, None), now);
        let mut is_fresh = |after: u64| match held.find(&[1; 32], here, now.after(SECOND * after as u32)) {
            Found::Good(found, _) => Some(found.is_fresh(now.after(SECOND * after as u32))),
            _ => None,
        };
        for (seconds, expected) in [(0, true), (599, true), (600, false), (1_200, false), (2_999, false)] {
            assert_eq!(is_fresh(seconds), Some(expected), "{seconds} s: the use of it is no proof");
        }
        let again = WebSession { authenticated: now.after(SECOND * 3_000), ..of(here, now, None) };
        assert!(again.is_fresh(now.after(SECOND * 3_599)) && !again.is_fresh(now.after(SECOND * 3_600)));
    }

    #[test]
    fn a_secret_is_good_at_its_address_alone_and_its_use_is_noted_now_and_then() {
        let (now, here) = (boot_now(), client(1));
        let mut held = Held::default();
        held.insert([1; 32], of(here, now, None), now);
        assert!(matches!(held.find(&[1; 32], client(2), now), Found::Elsewhere(_)));
        assert!(matches!(held.find(&[1; 32], here, now), Found::Good(_, false)));
        let later = now.after(NOTED_EVERY);
        assert!(matches!(held.find(&[1; 32], here, later), Found::Good(_, true)));
        assert!(matches!(held.find(&[1; 32], here, later), Found::Good(_, false)));
        assert!(held.remove(&[1; 32]) && !held.remove(&[1; 32]));
    }

    #[test]
    fn however_many_log_in_there_are_only_so_many() {
        let start = boot_now();
        let mut held = Held::default();
        let key = |number: usize| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_be_bytes());
            key
        };
        for number in 0..PER_CLIENT {
            let now = start.after(SECOND * u32::try_from(number).unwrap());
            assert!(held.insert(key(number), of(client(1), now, None), now).is_empty());
        }
        let now = start.after(SECOND * 100);
        held.find(&key(0), client(1), now);
        assert_eq!(held.insert(key(1_000), of(client(1), now, None), now), [key(1)], "the longest unused");
        assert!(held.insert(key(1_001), of(client(2), now, None), now).is_empty());
        for number in held.0.len()..MOST {
            let at = ClientAddr::from_v4([10, 0, (number >> 8) as u8, number as u8]);
            assert!(held.insert(key(10_000 + number), of(at, now, None), now.after(SECOND)).is_empty());
        }
        assert_eq!(held.insert(key(2_000), of(client(3), now, None), now), [key(2)]);
        assert_eq!(held.0.len(), MOST);
    }

    #[test]
    fn what_was_kept_comes_back_as_it_was_unless_it_is_over() {
        let (now, here, anchor) = (boot_now(), client(1), Anchor::from_offset(0));
        let mut held = Held::default();
        held.insert([1; 32], of(here, now, None), now);
        let stored = held.stored(&[1; 32], "boot", &anchor).unwrap();
        for (later, is_good) in [(IDLE - SECOND, true), (IDLE, false)] {
            let mut again = Held::default();
            assert_eq!(again.restore([1; 32], &stored, "boot", &anchor, now.after(later)), is_good);
            let found = again.find(&[1; 32], here, now.after(later));
            assert_eq!(matches!(&found, Found::Good(found, _) if found.role == Role::Administrator), is_good);
        }
    }
}
