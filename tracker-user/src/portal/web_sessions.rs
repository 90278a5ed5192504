//! Logins to the pages, each known by a cookie. Whoever is logged in to the pages is not by that logged in to the proxy, which is
//! of an address: this is of a browser.
//!
//! A user's goes with the proxy's session at the same address, and ends with it. An operator's is a cookie and a login of its own,
//! and nobody's session is touched by it. What somebody may do is looked up at each use: whoever may do something else by now,
//! has another password or is disabled, is logged in no more.

mod held;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::HeaderValue;
use ring::digest::{SHA256, digest};
use tokio::sync::oneshot;

pub(super) use self::held::{ABSOLUTE, FRESH_FOR, IDLE, WebSession};
use self::held::{Found, Held};
use super::site::Site;
use super::visit::{Visit, random};
use crate::audit::{Ground, Refusal};
use crate::clock::{Anchor, BootTime, boot_id, boot_now};
use crate::session::State;
use crate::store::{Entry, Journal, Store, Unkept, WebSessionKey};
use crate::types::{ClientAddr, Factor, Factors, Identity, Method, Role, SessionId};

/// How many sessions the event loop is asked about at once.
const PORTION: usize = 256;

/// What a login to the pages is for. Each has a cookie of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The pages of whoever is logged in to the proxy at this address.
    User,
    /// Looking at the gateway and changing it.
    Admin,
}

impl Purpose {
    /// Both.
    pub(super) const ALL: [Self; 2] = [Self::User, Self::Admin];

    /// The cookie's name. Browsers take one of such a name from this very host alone, and under TLS.
    pub(super) const fn cookie(self) -> &'static str {
        match self {
            Self::User => "__Host-tracker",
            Self::Admin => "__Host-tracker-admin",
        }
    }

    /// When other sites may have a browser send it: on a link that somebody follows, or never.
    const fn same_site(self) -> &'static str {
        match self {
            Self::User => "Lax",
            Self::Admin => "Strict",
        }
    }

    /// Of whoever may do this.
    const fn of(role: Role) -> Self {
        if role.may_look() { Self::Admin } else { Self::User }
    }

    fn set_cookie(self, secret: &str, more: &str) -> Option<HeaderValue> {
        let (name, same_site) = (self.cookie(), self.same_site());
        let text = format!("{name}={secret}; Secure; HttpOnly; SameSite={same_site}; Path=/{more}");
        HeaderValue::from_str(&text).ok()
    }
}

/// Nobody is logged in to the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotBegun {
    /// They may neither look at others nor change anything.
    Role,
    /// They are not logged in to the proxy at this address.
    NoSession,
    /// It came without TLS, or the system has no randomness.
    Unable,
}

/// All of them.
#[derive(Debug)]
pub(super) struct WebSessions {
    held: Mutex<Held>,
    boot: String,
}

impl WebSessions {
    /// Those that were there when the gateway stopped. Blocks.
    pub(super) fn start(store: &Store, journal: &Journal) -> Self {
        let (boot, anchor, now) = (boot_id(), Anchor::now(), boot_now());
        let kept = store.web_sessions().unwrap_or_else(|error| {
            tracing::warn!(%error, "nobody is logged in to the pages any more: the store cannot be read");
            Vec::new()
        });
        let mut held = Held::default();
        let over = kept.into_iter().filter(|(key, stored)| !held.restore(*key, stored, &boot, &anchor, now));
        let over: Vec<Entry> = over.map(|(key, _)| Entry::WebSession(key, None)).collect();
        if !over.is_empty() {
            journal.submit(over, None);
        }
        Self { held: Mutex::new(held), boot }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes on disk what is known of it now.
    fn note(&self, key: WebSessionKey) -> Option<Entry> {
        let stored = self.held().stored(&key, &self.boot, &Anchor::now())?;
        Some(Entry::WebSession(key, Some(Box::new(stored))))
    }
}

impl Site {
    /// Logs a browser in to the pages, and returns the cookie that the answer sets (append it as `Set-Cookie`). What it was
    /// logged in by for this purpose before is over, so that nobody goes on with a secret that others may know.
    ///
    /// `factor` is the further factor that was proved just now, if one was.
    ///
    /// A user must have been logged in to the proxy at the visit's address before ([`crate::tracker::Tracker::prove`]).
    ///
    /// # Errors
    /// When nobody may be.
    pub(super) async fn begin_web_session(
        &self,
        visit: &Visit,
        identity: &Arc<Identity>,
        purpose: Purpose,
        factor: Option<Factor>,
    ) -> Result<HeaderValue, NotBegun> {
        let now = boot_now();
        let (role, session) = match purpose {
            Purpose::Admin => match self.role_of(identity) {
                role if role.may_look() => (role, None),
                _ => return Err(NotBegun::Role),
            },
            Purpose::User => {
                let session = self.proxy_session(visit.client(), identity).await;
                (Role::User, Some(session.ok_or(NotBegun::NoSession)?))
            }
        };
        let factor = factor.filter(|factor| *factor != Factor::RememberedDevice).map(|_| now);
        let begun = WebSession {
            identity: Arc::clone(identity),
            role,
            client: visit.client(),
            authenticated: now,
            factor,
            is_further: factor.is_some(),
            began: now,
            session,
            changed: self.changed(identity),
        };
        self.put_web_session(visit, begun, now).map(|(_, cookie)| cookie)
    }

    /// The operator has given their password again: a new secret, and the moment of it. It lasts no longer than it would have. The
    /// visit goes on by the new secret: answered by what is returned, the browser gets it.
    ///
    /// # Errors
    /// When no operator is logged in.
    pub(super) fn step_up(&self, visit: &Visit) -> Result<Visit, NotBegun> {
        let present = visit.admin().ok_or(NotBegun::NoSession)?;
        let now = boot_now();
        let changed = self.changed(&present.identity);
        let session = WebSession { authenticated: now, changed, ..(**present).clone() };
        let (secret, cookie) = self.put_web_session(visit, session.clone(), now)?;
        Ok(visit.turned(secret, session, cookie))
    }

    /// A further factor was proved by whoever is logged in here for this purpose: for a while they may change what they have set
    /// up.
    pub(super) fn note_factor(&self, visit: &Visit, purpose: Purpose) {
        if let Some(secret) = visit.web_secret(purpose) {
            let key = hash(secret);
            self.web_sessions().held().note_factor(&key, boot_now());
            self.keep(self.web_sessions().note(key));
        }
    }

    /// Logs a browser out of the pages, and returns the cookie that takes its secret away (append it as `Set-Cookie`). On disk
    /// when this returns, or why it is not: it is over all the same.
    ///
    /// # Errors
    /// When a restart might bring it back.
    pub(super) async fn end_web_session(
        &self,
        visit: &Visit,
        purpose: Purpose,
    ) -> Result<Option<HeaderValue>, Unkept> {
        let Some(secret) = visit.web_secret(purpose) else { return Ok(None) };
        let key = hash(secret);
        if self.web_sessions().held().remove(&key) {
            let (tell, told) = oneshot::channel();
            let answer = Box::new(move |outcome| {
                // Whoever asked may have gone.
                let _ = tell.send(outcome);
            });
            self.parts().journal.submit(vec![Entry::WebSession(key, None)], Some(answer));
            if let Ok(Err(unkept)) = told.await {
                return Err(unkept);
            }
        }
        Ok(purpose.set_cookie("", "; Max-Age=0"))
    }

    /// Logs the operator whose visit it is out of the pages in every other browser, and returns from where. On disk when this
    /// returns, or why it is not: they are over all the same.
    ///
    /// # Errors
    /// When a restart might bring them back.
    pub(super) async fn end_other_web_sessions(&self, visit: &Visit) -> Result<Vec<ClientAddr>, Unkept> {
        let Some(present) = visit.admin() else { return Ok(Vec::new()) };
        let own = visit.web_secret(Purpose::Admin).map(hash);
        let others = {
            let mut held = self.web_sessions().held();
            let mut others = held.all();
            others.retain(|(key, session)| {
                Purpose::of(session.role) == Purpose::Admin
                    && session.identity == present.identity
                    && Some(*key) != own
            });
            others.retain(|(key, _)| held.remove(key));
            others
        };
        if !others.is_empty() {
            let (tell, told) = oneshot::channel();
            let answer = Box::new(move |outcome| {
                // Whoever asked may have gone.
                let _ = tell.send(outcome);
            });
            let over = others.iter().map(|(key, _)| Entry::WebSession(*key, None)).collect();
            self.parts().journal.submit(over, Some(answer));
            if let Ok(Err(unkept)) = told.await {
                return Err(unkept);
            }
        }
        Ok(others.into_iter().map(|(_, session)| session.client).collect())
    }

    /// How many browsers the operator whose visit it is is logged in to the pages by.
    pub(super) fn count_web_sessions(&self, visit: &Visit) -> usize {
        let Some(present) = visit.admin() else { return 0 };
        let all = self.web_sessions().held().all();
        let is_own = |session: &WebSession| {
            Purpose::of(session.role) == Purpose::Admin && session.identity == present.identity
        };
        all.iter().filter(|(_, session)| is_own(session)).count()
    }

    /// Whether the login to the pages with which this visit came is still good: for answers that go on for long. It does not
    /// count as a use.
    pub(super) fn is_still_in(&self, visit: &Visit, purpose: Purpose) -> bool {
        let (Some(session), Some(secret)) = (visit.web_session(purpose), visit.web_secret(purpose)) else {
            return false;
        };
        let knows = self.web_sessions().held().knows(&hash(secret), boot_now());
        knows && self.is_unchanged(session)
    }

    /// What somebody may do now.
    pub(super) fn role_of(&self, identity: &Identity) -> Role {
        self.parts().ops.role_of(identity)
    }

    /// What a secret stands for at this address, for this purpose.
    pub(super) async fn find_web_session(
        &self,
        secret: &str,
        client: ClientAddr,
        purpose: Purpose,
    ) -> Option<Arc<WebSession>> {
        let (key, now) = (hash(secret), boot_now());
        let found = self.web_sessions().held().find(&key, client, now);
        let (session, note) = match found {
            Found::Good(session, note) => (session, note),
            Found::Elsewhere(session) => {
                self.refuse_stolen(&session, client);
                return None;
            }
            Found::Over => {
                self.keep([Entry::WebSession(key, None)]);
                return None;
            }
            Found::Nothing => return None,
        };
        if Purpose::of(session.role) != purpose {
            return None;
        }
        if !self.is_unchanged(&session) {
            self.forget_web_session(key);
            return None;
        }
        if let Some(id) = session.session {
            match self.standing(client, id).await {
                Standing::Active => {}
                // Whoever sits there now has not proved who they are; once the same user has, it is good again.
                Standing::Waits => return None,
                Standing::Gone => {
                    self.forget_web_session(key);
                    return None;
                }
            }
        }
        if note {
            self.keep(self.web_sessions().note(key));
        }
        Some(session)
    }

    /// Forgets the logins to the pages that are over: those of operators by their time, those of users with the proxy's session
    /// that they go with.
    pub(super) async fn sweep_web_sessions(&self) {
        let over = self.web_sessions().held().sweep(boot_now());
        self.keep(over.into_iter().map(|key| Entry::WebSession(key, None)));
        let all = self.web_sessions().held().all();
        let of_users: Vec<(WebSessionKey, ClientAddr, SessionId)> = all
            .into_iter()
            .filter_map(|(key, session)| Some((key, session.client, session.session?)))
            .collect();
        for portion in of_users.chunks(PORTION).map(<[_]>::to_vec) {
            let gone = self.parts().tracker.ask(move |view| {
                let is_gone =
                    |client: ClientAddr, id| view.table.session(client).is_none_or(|now| now.id != id);
                let gone = portion.into_iter().filter(|(_, client, id)| is_gone(*client, *id));
                gone.map(|(key, ..)| key).collect::<Vec<_>>()
            });
            gone.await.unwrap_or_default().into_iter().for_each(|key| self.forget_web_session(key));
        }
    }

    fn put_web_session(
        &self,
        visit: &Visit,
        session: WebSession,
        now: BootTime,
    ) -> Result<(String, HeaderValue), NotBegun> {
        let purpose = Purpose::of(session.role);
        if !visit.is_tls() {
            return Err(NotBegun::Unable);
        }
        let secret = random().ok_or(NotBegun::Unable)?;
        let cookie = purpose.set_cookie(&secret, "").ok_or(NotBegun::Unable)?;
        let key = hash(&secret);
        let mut over = self.web_sessions().held().insert(key, session, now);
        if let Some(before) = visit.web_secret(purpose).map(hash)
            && self.web_sessions().held().remove(&before)
        {
            over.push(before);
        }
        let over = over.into_iter().map(|key| Entry::WebSession(key, None));
        self.keep(over.chain(self.web_sessions().note(key)));
        Ok((secret, cookie))
    }

    /// The session that this user has at this address.
    async fn proxy_session(&self, client: ClientAddr, identity: &Arc<Identity>) -> Option<SessionId> {
        let user = Arc::clone(identity);
        let session = self.parts().tracker.ask(move |view| {
            let session = view.table.session(client)?;
            (session.identity == user && matches!(session.state, State::Active)).then_some(session.id)
        });
        session.await?
    }

    async fn standing(&self, client: ClientAddr, id: SessionId) -> Standing {
        let standing = self.parts().tracker.ask(move |view| match view.table.session(client) {
            Some(session) if session.id == id => match session.state {
                State::Active => Standing::Active,
                State::Waiting { .. } | State::Stale { .. } => Standing::Waits,
            },
            _ => Standing::Gone,
        });
        // A loop that is gone says nothing of it.
        standing.await.unwrap_or(Standing::Waits)
    }

    /// Whether its user may do what they could when they logged in, by the same password, and has proved a further factor where an
    /// operator must by now; whether a user must is for the session of the proxy that theirs goes with.
    fn is_unchanged(&self, session: &WebSession) -> bool {
        let is_role = session.session.is_some()
            || self.role_of(&session.identity) == session.role && !self.lacks_factor(session);
        is_role && self.changed(&session.identity) == session.changed
    }

    /// Whether a further factor is demanded of this operator that was not proved.
    fn lacks_factor(&self, session: &WebSession) -> bool {
        !session.is_further
            && self.parts().factors.missing(&session.identity, Method::Password, Factors::NONE).is_some()
    }

    /// Of a user of the gateway's own: since when the password, and whether it counts, is what it is.
    pub(super) fn changed(&self, identity: &Identity) -> Option<jiff::Timestamp> {
        if !identity.is_local() {
            return None;
        }
        self.parts().local_users.user(identity.user()).map(|user| user.changed)
    }

    fn forget_web_session(&self, key: WebSessionKey) {
        if self.web_sessions().held().remove(&key) {
            self.keep([Entry::WebSession(key, None)]);
        }
    }

    fn keep(&self, entries: impl IntoIterator<Item = Entry>) {
        let entries: Vec<Entry> = entries.into_iter().collect();
        if !entries.is_empty() {
            self.parts().journal.submit(entries, None);
        }
    }

    fn refuse_stolen(&self, session: &WebSession, client: ClientAddr) {
        let why = format!(
            "a cookie of the pages that was given to a browser at {} came from here",
            crate::links::shown(session.client)
        );
        let refusal = Refusal::of_request(client, Ground::WebSession, Some(&session.identity), &why);
        self.parts().audit.refused(&refusal);
    }
}

/// How a session of the proxy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Active,
    /// Its user has to prove themselves first.
    Waits,
    Gone,
}

/// What a secret is kept under.
pub(super) fn hash(secret: &str) -> WebSessionKey {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, secret.as_bytes()).as_ref());
    hash
}
