//! Logins whose first factor was right, and whose second has not come yet. In memory alone, and for ten minutes: a restart asks for
//! both again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderValue;
use jiff::Timestamp;

use crate::auth::factors::Enrolment;
use crate::clock::{BootTime, boot_now};
use crate::portal::site::Site;
use crate::portal::visit::{Visit, random};
use crate::portal::web_sessions::{Purpose, hash};
use crate::session::judge::WAITS_FOR;
use crate::types::{ClientAddr, Identity, Method};

/// The cookie of such a login. Browsers send it also where another site has led them here, as the proxy does.
pub(in crate::portal) const PENDING_COOKIE: &str = "__Host-tracker-pending";

/// So many factors may be tried in one; then the first factor is asked for again.
const TRIES: u8 = 5;
/// So many at one address, and in all: the oldest gives way.
const PER_CLIENT: usize = 16;
const MOST: usize = 10_000;

/// See the module.
#[derive(Clone, Debug)]
pub(in crate::portal) struct PendingLogin {
    /// What it is for.
    pub(in crate::portal) purpose: Purpose,
    /// Whose.
    pub(in crate::portal) identity: Arc<Identity>,
    /// How they have proved themselves.
    pub(in crate::portal) method: Method,
    /// Where they go afterwards: of a user the name of what they wanted
    /// ([`Wanted`](crate::portal::login::Wanted)), of an operator a path of ours.
    pub(in crate::portal) to: String,
    /// What is being set up, where one is demanded and there is none: the same until its first code is right.
    pub(in crate::portal) enrolment: Option<Enrolment>,
    client: ClientAddr,
    /// Of a user of the gateway's own: since when the password, and whether it counts, was what it was at the first factor.
    changed: Option<Timestamp>,
    begun: BootTime,
    tries: u8,
}

impl PendingLogin {
    /// One that begins now.
    pub(in crate::portal) fn new(
        site: &Site,
        visit: &Visit,
        purpose: Purpose,
        identity: Arc<Identity>,
        method: Method,
        to: String,
    ) -> Self {
        let (client, changed, begun) = (visit.client(), site.changed(&identity), boot_now());
        Self { purpose, identity, method, to, enrolment: None, client, changed, begun, tries: 0 }
    }

    /// Whether the first factor is worth what it was when it was given: not after another password, or for whoever is disabled or
    /// removed.
    pub(in crate::portal) fn is_unchanged(&self, site: &Site) -> bool {
        site.changed(&self.identity) == self.changed
    }
}

type Key = [u8; 32];

/// All of them, by the hash of their secret.
#[derive(Debug, Default)]
pub(in crate::portal) struct PendingLogins(Mutex<HashMap<Key, PendingLogin>>);

impl PendingLogins {
    fn held(&self) -> MutexGuard<'_, HashMap<Key, PendingLogin>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, key: Key, login: PendingLogin, now: BootTime) {
        let mut held = self.held();
        held.retain(|_, known| now.since(known.begun) < WAITS_FOR);
        let at_the_client = |known: &PendingLogin| known.client == login.client;
        let is_full = held.len() >= MOST;
        if is_full || held.values().filter(|known| at_the_client(known)).count() >= PER_CLIENT {
            let among = held.iter().filter(|(_, known)| is_full || at_the_client(known));
            let oldest = among.min_by_key(|(_, known)| known.begun).map(|(key, _)| *key);
            oldest.and_then(|oldest| held.remove(&oldest));
        }
        held.insert(key, login);
    }

    fn get(&self, key: &Key, client: ClientAddr, now: BootTime) -> Option<PendingLogin> {
        let held = self.held();
        let login = held.get(key)?;
        (login.client == client && now.since(login.begun) < WAITS_FOR).then(|| login.clone())
    }
}

impl Site {
    /// The first factor was right: the login is pending from now on, and its cookie is what the answer sets (append it as
    /// `Set-Cookie`). One that was pending in this browser before is over. `None` without TLS or randomness.
    pub(in crate::portal) fn begin_pending(&self, visit: &Visit, login: PendingLogin) -> Option<HeaderValue> {
        if !visit.is_tls() {
            return None;
        }
        let secret = random()?;
        let cookie = set_cookie(&secret, &format!("; Max-Age={}", WAITS_FOR.as_secs()))?;
        self.end_pending(visit);
        self.pending_logins().put(hash(&secret), login, boot_now());
        Some(cookie)
    }

    /// The login that is pending in this browser.
    pub(in crate::portal) fn pending_login(&self, visit: &Visit) -> Option<PendingLogin> {
        let login = self.pending_logins().get(&hash(visit.pending_secret()?), visit.client(), boot_now())?;
        if !login.is_unchanged(self) {
            self.end_pending(visit);
            return None;
        }
        Some(login)
    }

    /// Whoever was about to log in as a user at this address logs in no more: somebody has logged out there.
    pub(in crate::portal) fn end_pending_at(&self, client: ClientAddr) {
        let is_over = |known: &PendingLogin| known.client == client && known.purpose == Purpose::User;
        self.pending_logins().held().retain(|_, known| !is_over(known));
    }

    /// The same, with what is being set up in it from now on.
    pub(in crate::portal) fn set_enrolment(&self, visit: &Visit, enrolment: Enrolment) {
        let Some(key) = visit.pending_secret().map(hash) else { return };
        if let Some(login) = self.pending_logins().held().get_mut(&key) {
            login.enrolment = Some(enrolment);
        }
    }

    /// A factor in it was wrong: whether another may be tried. If not, the login is over.
    pub(in crate::portal) fn fail_pending(&self, visit: &Visit) -> bool {
        let Some(key) = visit.pending_secret().map(hash) else { return false };
        let mut held = self.pending_logins().held();
        let Some(login) = held.get_mut(&key) else { return false };
        login.tries += 1;
        let goes_on = login.tries < TRIES;
        if !goes_on {
            held.remove(&key);
        }
        goes_on
    }

    /// The login is pending no more: the cookie that takes its secret away.
    pub(in crate::portal) fn end_pending(&self, visit: &Visit) -> Option<HeaderValue> {
        let key = hash(visit.pending_secret()?);
        self.pending_logins().held().remove(&key);
        set_cookie("", "; Max-Age=0")
    }
}

fn set_cookie(secret: &str, more: &str) -> Option<HeaderValue> {
    let text = format!("{PENDING_COOKIE}={secret}; Secure; HttpOnly; SameSite=Lax; Path=/{more}");
    HeaderValue::from_str(&text).ok()
}
