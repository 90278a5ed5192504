//! Logins to the web pages, as the store keeps them: in the same boot by the same clock, anywhere else by wall time. Of the secret
//! that a browser has, only the hash.

use jiff::Timestamp;
use redb::{ReadableTable as _, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::embedded::{Store, existing};
use super::error::StoreError;
use super::sessions::{nanos, shift};
use super::text;
use crate::clock::{Anchor, BootTime};
use crate::types::{ClientAddr, Identity, Role, SessionId};

/// By the SHA-256 of the secret.
const WEB_SESSIONS: TableDefinition<'_, [u8; 32], &[u8]> = TableDefinition::new("web-sessions");

/// What a web session is kept under: the SHA-256 of its secret.
pub type WebSessionKey = [u8; 32];

/// A login to the pages. A moment is kept in nanoseconds since `booted`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredWebSession {
    user: String,
    domain: String,
    key: String,
    /// What they could do when they logged in.
    pub role: Role,
    /// The address that it is good for.
    #[serde(with = "text")]
    pub client: ClientAddr,
    /// Whether a further factor was proved in it.
    #[serde(default)]
    pub is_further: bool,
    /// The session of the proxy that it goes with, if with one.
    #[serde(with = "text::optional", default)]
    pub session: Option<SessionId>,
    /// Of a user of the gateway's own: since when the password, and whether it counts, was what it was.
    #[serde(default)]
    pub changed: Option<Timestamp>,
    began: i64,
    authenticated: i64,
    used: i64,
    /// The boot that the numbers above belong to.
    boot: String,
    /// The wall time at the beginning of that boot, as the wall clock was set when this was written.
    booted: Timestamp,
}

/// The moments of a web session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebSessionTimes {
    /// When it began.
    pub began: BootTime,
    /// When its user last proved themselves.
    pub authenticated: BootTime,
    /// When it was last used, as far as that was noted.
    pub used: BootTime,
}

/// What a web session is besides its moments.
#[derive(Clone, Copy, Debug)]
pub struct WebSessionFacts<'a> {
    /// Who.
    pub identity: &'a Identity,
    /// What they could do when they logged in.
    pub role: Role,
    /// The address that it is good for.
    pub client: ClientAddr,
    /// Whether a further factor was proved in it.
    pub is_further: bool,
    /// The session of the proxy that it goes with, if with one.
    pub session: Option<SessionId>,
    /// Of a user of the gateway's own: since when the password, and whether it counts, was what it was.
    pub changed: Option<Timestamp>,
}

impl StoredWebSession {
    /// What is to be kept; the moments are of the boot that is called `boot`.
    #[must_use]
    pub fn new(facts: WebSessionFacts<'_>, times: WebSessionTimes, boot: &str, anchor: &Anchor) -> Self {
        let WebSessionFacts { identity, role, client, is_further, session, changed } = facts;
        Self {
            user: identity.user().into(),
            domain: identity.domain().into(),
            key: identity.key().into(),
            role,
            client,
            is_further,
            session,
            changed,
            began: nanos(times.began),
            authenticated: nanos(times.authenticated),
            used: nanos(times.used),
            boot: boot.into(),
            booted: anchor.wall(BootTime::default()),
        }
    }

    /// Whose it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity::restore(&self.user, &self.domain, &self.key)
    }

    /// Its moments in this boot's time; none where it is over: a wall clock that was set back gives it no time, and a
    /// link-local address means nothing after a reboot, as interfaces have other numbers.
    #[must_use]
    pub fn times(&self, boot: &str, anchor: &Anchor, now: BootTime) -> Option<WebSessionTimes> {
        let same_boot = self.boot == boot;
        if !same_boot && self.client.link().is_some() {
            return None;
        }
        let moment = |nanos: i64| match same_boot {
            true => BootTime::from_nanos(nanos.cast_unsigned()),
            false => anchor.boot(shift(self.booted, nanos)),
        };
        let [began, authenticated, used] = [self.began, self.authenticated, self.used].map(moment);
        let is_past = began <= now && authenticated <= now && used <= now;
        is_past.then_some(WebSessionTimes { began, authenticated, used })
    }
}

impl Store {
    /// The logins to the pages, those that are over included; none if the sessions on disk are void, as their ends may have
    /// been lost. What cannot be read is left out.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn web_sessions(&self) -> Result<Vec<(WebSessionKey, StoredWebSession)>, StoreError> {
        if self.sessions_are_void() {
            return Ok(Vec::new());
        }
        self.read(|read| {
            let Some(table) = existing(read.open_table(WEB_SESSIONS))? else { return Ok(Vec::new()) };
            let mut all = Vec::new();
            for entry in table.iter()? {
                let (key, value) = entry?;
                match serde_json::from_slice(value.value()) {
                    Ok(session) => all.push((key.value(), session)),
                    Err(error) => {
                        tracing::warn!(%error, "a login to the pages in the store cannot be read: left out");
                    }
                }
            }
            Ok(all)
        })
    }
}

/// Writes what has become of logins to the pages; `None`: it is over.
pub(super) fn write<'a>(
    write: &WriteTransaction,
    sessions: impl IntoIterator<Item = (&'a WebSessionKey, &'a Option<Box<StoredWebSession>>)>,
) -> Result<(), redb::Error> {
    let mut table = write.open_table(WEB_SESSIONS)?;
    for (key, session) in sessions {
        match session {
            Some(session) => {
                let value = serde_json::to_vec(session).unwrap_or_default();
                table.insert(key, value.as_slice())?.map(drop)
            }
            None => table.remove(key)?.map(drop),
        };
    }
    Ok(())
}

/// Forgets all of them.
pub(super) fn forget(write: &WriteTransaction) -> Result<(), redb::Error> {
    write.delete_table(WEB_SESSIONS)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    use super::*;
    use crate::clock::boot_now;
    use crate::store::{Entry, Journal};

    fn session(now: BootTime, client: &str, boot: &str) -> StoredWebSession {
        let before = |seconds| now.before(Duration::from_secs(seconds));
        let times = WebSessionTimes { began: before(60), authenticated: before(30), used: before(1) };
        let facts = WebSessionFacts {
            identity: &Identity::new("Alice", "EXAMPLE.TEST", "EXAMPLE"),
            role: Role::Viewer,
            client: client.parse().unwrap(),
            is_further: true,
            session: Some(SessionId::test(7)),
            changed: Some(Timestamp::UNIX_EPOCH),
        };
        StoredWebSession::new(facts, times, boot, &Anchor::from_offset(1_000_000))
    }

    #[test]
    fn a_login_to_the_pages_is_kept_and_forgotten_and_void_with_the_sessions() {
        let directory = tempfile::tempdir().unwrap();
        let open = || Arc::new(Store::open(directory.path(), None).unwrap());
        let one = session(boot_now(), "192.0.2.1", "this");
        for (round, expected) in
            [vec![([1; 32], one.clone()), ([2; 32], one.clone())], vec![([2; 32], one.clone())]]
                .iter()
                .enumerate()
        {
            let store = open();
            let journal = Journal::start(Arc::clone(&store)).unwrap();
            let kept = |key| Entry::WebSession([key; 32], Some(Box::new(one.clone())));
            let entries = match round {
                0 => vec![kept(1), kept(2)],
                _ => vec![Entry::WebSession([1; 32], None)],
            };
            let (tell, told) = mpsc::channel();
            journal.submit(entries, Some(Box::new(move |outcome| tell.send(outcome).unwrap())));
            told.recv().unwrap().unwrap();
            journal.close();
            assert_eq!(&store.web_sessions().unwrap(), expected);
            store.close();
        }
        let store = open();
        store.revoke().unwrap();
        assert!(store.web_sessions().unwrap().is_empty());
        Journal::start(Arc::clone(&store)).unwrap().close();
        assert!(
            store.web_sessions().unwrap().is_empty(),
            "forgotten with the sessions, before that is lifted"
        );
        store.close();
        drop(store);
        assert!(open().web_sessions().unwrap().is_empty());
    }

    #[test]
    fn its_moments_go_on_over_a_reboot_and_a_clock_set_back_gives_no_time() {
        let now = boot_now();
        let hours = |hours: i64| Anchor::from_offset(1_000_000 + hours * 3_600_000_000_000);
        let age = |session: &StoredWebSession, boot, anchor| {
            session.times(boot, &anchor, now).map(|times| now.since(times.began))
        };
        let here = session(now, "192.0.2.1", "this");
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(here.identity().to_string(), "EXAMPLE\\Alice");
        assert_eq!(age(&here, "this", hours(-7)), seconds(60), "the same boot has the same clock");
        assert_eq!(age(&here, "next", hours(0)), seconds(60));
        assert_eq!(age(&here, "next", hours(1)), seconds(3_660));
        assert_eq!(age(&here, "next", hours(-7)), None, "it would lie in the future");
        let on_a_link = session(now, "fe80::1%2", "this");
        assert!(age(&on_a_link, "this", hours(0)).is_some() && age(&on_a_link, "next", hours(0)).is_none());
    }
}
