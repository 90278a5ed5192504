//! Who had which address when: one tenure per session, made from the audit trail's events in the transaction that keeps
//! them.
//!
//! A tenure is found by its client, by its user, by its beginning and by its end; one that still runs ends at the end of
//! time, so that a look at a moment reads what ended later and nothing else.

use jiff::{SignedDuration, Timestamp};
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::content::{REMOVED_AT_ONCE, RETENTION};
use super::embedded::existing;
use crate::audit::{AuditEvent, Kind};
use crate::links;
use crate::types::{ClientAddr, SessionId, UserQuery};

/// By client, beginning in microseconds of wall time, and session.
const TENURES: TableDefinition<'_, ([u8; 16], i64, u64), &[u8]> = TableDefinition::new("tenures");
/// By beginning and session: the client.
const BY_START: TableDefinition<'_, (i64, u64), [u8; 16]> = TableDefinition::new("tenures-by-start");
/// By end and session: the client and the beginning.
const BY_END: TableDefinition<'_, EndKey, Start> = TableDefinition::new("tenures-by-end");
/// By the user's bare name in lower case, beginning and session: the client.
const BY_USER: TableDefinition<'_, (&str, i64, u64), [u8; 16]> = TableDefinition::new("tenures-by-user");

/// The end of what has not ended.
const RUNS: i64 = i64::MAX;
/// So many tenures of a client are searched for the one that an event speaks of; the newest is nearly always it.
const SEARCHED: usize = 64;
/// A tenure names so many stale periods, the newest; it counts them all.
const STALE_PERIODS: usize = 32;

/// One user on one address, from login to end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tenure {
    /// The session.
    pub session: String,
    /// The client address.
    pub client: String,
    /// The user.
    pub user: String,
    /// The user's domain.
    pub domain: String,
    /// The user's realm, in lower case, where the domain does not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// How the user proved themselves first; empty where the login was not kept.
    pub method: String,
    /// When it began.
    pub from: Timestamp,
    /// When it ended; `null` while it runs.
    pub until: Option<Timestamp>,
    /// Why it ended.
    pub reason: Option<String>,
    /// In a kick-out, the user who took the address over.
    pub by: Option<String>,
    /// When nothing was served on it because its timeout had run out, the newest last.
    pub stale: Vec<StalePeriod>,
    /// How often it went stale.
    pub stale_count: u32,
}

/// A time during which a session waited for its user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StalePeriod {
    /// When the timeout ran out.
    pub from: Timestamp,
    /// When the user proved themselves again, or the session ended; `null` while it waits.
    pub until: Option<Timestamp>,
    /// Which timeout.
    pub reason: String,
}

impl Tenure {
    /// Whether the user had the address at `moment`. Whoever takes an address over has it from that moment on.
    #[must_use]
    pub fn covers(&self, moment: Timestamp) -> bool {
        self.from <= moment && self.until.is_none_or(|until| moment < until)
    }

    /// Whether `typed` means its user.
    #[must_use]
    pub fn is_called(&self, typed: &UserQuery) -> bool {
        typed.means(&self.user.to_lowercase(), self.realm.as_deref().unwrap_or_default(), &self.domain)
    }

    fn end_stale(&mut self, at: Timestamp) {
        if let Some(last) = self.stale.last_mut().filter(|period| period.until.is_none()) {
            last.until = Some(at);
        }
    }
}

/// Which tenures are wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Of this client only.
    pub client: Option<ClientAddr>,
    /// Of this user only; of everybody who is meant.
    pub user: Option<UserQuery>,
    /// Only those that cover this moment.
    pub at: Option<Timestamp>,
    /// At most so many, the newest.
    pub most: usize,
}

impl Wanted {
    /// Whether it is one of those.
    #[must_use]
    pub fn accepts(&self, tenure: &Tenure) -> bool {
        self.user.as_ref().is_none_or(|typed| tenure.is_called(typed))
            && self.at.is_none_or(|moment| tenure.covers(moment))
            && self.client.is_none_or(|client| links::parse(&tenure.client) == Ok(client))
    }
}

type Key = ([u8; 16], i64, u64);
/// When a tenure ended, and its session.
type EndKey = (i64, u64);
/// Whose it was, and when it began.
type Start = ([u8; 16], i64);

/// The tables, open for writing.
pub(super) struct Tenures<'a> {
    tenures: redb::Table<'a, Key, &'static [u8]>,
    by_start: redb::Table<'a, (i64, u64), [u8; 16]>,
    by_end: redb::Table<'a, EndKey, Start>,
    by_user: redb::Table<'a, (&'static str, i64, u64), [u8; 16]>,
}

impl<'a> Tenures<'a> {
    pub(super) fn open(write: &'a WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            tenures: write.open_table(TENURES)?,
            by_start: write.open_table(BY_START)?,
            by_end: write.open_table(BY_END)?,
            by_user: write.open_table(BY_USER)?,
        })
    }

    /// Notes what an event of the audit trail says about a session.
    pub(super) fn note(&mut self, event: &AuditEvent) -> Result<(), redb::Error> {
        let client = event.client.as_deref().and_then(|client| links::parse(client).ok());
        let session = event.session.as_deref().and_then(|session| session.parse::<SessionId>().ok());
        // Refusals and settings are nobody's tenure.
        let (Some(ClientAddr(client)), Some(SessionId(session))) = (client, session) else { return Ok(()) };
        if event.event == Kind::Login {
            return self.put((client, event.time.as_microsecond(), session), &begun(event, event.time));
        }
        let mut found = None;
        for entry in
            self.tenures.range((client, i64::MIN, 0)..=(client, RUNS, u64::MAX))?.rev().take(SEARCHED)
        {
            let (key, value) = entry?;
            if key.value().2 == session {
                found =
                    serde_json::from_slice::<Tenure>(value.value()).ok().map(|tenure| (key.value(), tenure));
                break;
            }
        }
        let (key, mut tenure) = match (found, event.duration) {
            (Some(found), _) => found,
            // The login was not kept, but the end says when it was.
            (None, Some(duration)) => {
                let lasted = SignedDuration::try_from_secs_f64(duration).unwrap_or_default();
                let from = event.time.checked_sub(lasted).unwrap_or(event.time);
                ((client, from.as_microsecond(), session), begun(event, from))
            }
            (None, None) => return Ok(()),
        };
        match event.event {
            Kind::Stale => {
                let reason = event.reason.clone().unwrap_or_default();
                tenure.end_stale(event.time);
                tenure.stale.push(StalePeriod { from: event.time, until: None, reason });
                tenure.stale_count += 1;
                if tenure.stale.len() > STALE_PERIODS {
                    tenure.stale.remove(0);
                }
            }
            Kind::Renewed => tenure.end_stale(event.time),
            Kind::Ended => {
                self.by_end.remove((ends(&tenure), session))?;
                tenure.end_stale(event.time);
                tenure.until = Some(event.time);
                tenure.reason.clone_from(&event.reason);
                tenure.by.clone_from(&event.by);
            }
            _ => return Ok(()),
        }
        self.put(key, &tenure)
    }

    /// Ends every running tenure whose session is not in `live`: how it ended was lost with a crash.
    pub(super) fn settle(
        &mut self,
        live: impl Fn(ClientAddr, SessionId) -> Result<bool, redb::Error>,
        at: Timestamp,
    ) -> Result<usize, redb::Error> {
        let mut orphans = Vec::new();
        for entry in self.by_end.range((RUNS, 0)..)? {
            let (end, start) = entry?;
            let ((_, session), (client, from)) = (end.value(), start.value());
            if !live(ClientAddr(client), SessionId(session))? {
                orphans.push((client, from, session));
            }
        }
        for key in &orphans {
            let tenure = self.tenures.get(key)?.map(|value| serde_json::from_slice::<Tenure>(value.value()));
            self.by_end.remove((RUNS, key.2))?;
            let Some(Ok(mut tenure)) = tenure else { continue };
            let at = at.max(tenure.from);
            tenure.end_stale(at);
            tenure.until = Some(at);
            tenure.reason = Some(crate::session::Reason::Shutdown.to_string());
            self.put(*key, &tenure)?;
        }
        Ok(orphans.len())
    }

    /// Forgets tenures that ended too long before `newest`.
    pub(super) fn remove_outdated(&mut self, newest: Timestamp) -> Result<(), redb::Error> {
        let Ok(oldest) = newest.checked_sub(RETENTION) else { return Ok(()) };
        let mut outdated = Vec::new();
        for entry in self.by_end.range(..(oldest.as_microsecond(), 0))?.take(REMOVED_AT_ONCE) {
            let (end, start) = entry?;
            outdated.push((end.value(), start.value()));
        }
        for (end, (client, from)) in outdated {
            self.by_end.remove(end)?;
            self.by_start.remove((from, end.1))?;
            let removed = self.tenures.remove((client, from, end.1))?;
            let user = removed.and_then(|value| serde_json::from_slice::<Tenure>(value.value()).ok());
            if let Some(user) = user.map(|tenure| tenure.user.to_lowercase()) {
                self.by_user.remove((user.as_str(), from, end.1))?;
            }
        }
        Ok(())
    }

    fn put(&mut self, key: Key, tenure: &Tenure) -> Result<(), redb::Error> {
        let (client, from, session) = key;
        let value = serde_json::to_vec(tenure).unwrap_or_default();
        self.tenures.insert(key, value.as_slice())?;
        self.by_start.insert((from, session), client)?;
        self.by_end.insert((ends(tenure), session), (client, from))?;
        self.by_user.insert((tenure.user.to_lowercase().as_str(), from, session), client)?;
        Ok(())
    }
}

/// A tenure that begins, as far as `event` tells.
fn begun(event: &AuditEvent, from: Timestamp) -> Tenure {
    Tenure {
        session: event.session.clone().unwrap_or_default(),
        client: event.client.clone().unwrap_or_default(),
        user: event.user.clone().unwrap_or_default(),
        domain: event.domain.clone().unwrap_or_default(),
        realm: event.realm.clone(),
        method: event.method.clone().unwrap_or_default(),
        from,
        until: None,
        reason: None,
        by: None,
        stale: Vec::new(),
        stale_count: 0,
    }
}

fn ends(tenure: &Tenure) -> i64 {
    tenure.until.map_or(RUNS, Timestamp::as_microsecond)
}

/// The tenures that are wanted, the newest first.
pub(super) fn read(read: &ReadTransaction, wanted: &Wanted) -> Result<Vec<Tenure>, redb::Error> {
    let mut found = Vec::new();
    let Some(tenures) = existing(read.open_table(TENURES))? else { return Ok(found) };
    let mut take = |value: &[u8]| {
        // What cannot be read is what another version wrote.
        found.extend(serde_json::from_slice(value).ok().filter(|tenure| wanted.accepts(tenure)));
        found.len() >= wanted.most
    };
    if wanted.most == 0 {
        return Ok(Vec::new());
    }
    if let Some(ClientAddr(client)) = wanted.client {
        for entry in tenures.range((client, i64::MIN, 0)..=(client, RUNS, u64::MAX))?.rev() {
            if take(entry?.1.value()) {
                break;
            }
        }
        return Ok(found);
    }
    let keys = match (&wanted.user, wanted.at) {
        (Some(typed), _) => of_user(read, typed.user())?,
        (None, Some(moment)) => at(read, moment.as_microsecond())?,
        (None, None) => {
            let Some(by_start) = existing(read.open_table(BY_START))? else { return Ok(found) };
            for entry in by_start.iter()?.rev() {
                let (start, client) = entry?;
                let (from, session) = start.value();
                if tenures.get((client.value(), from, session))?.is_some_and(|value| take(value.value())) {
                    break;
                }
            }
            return Ok(found);
        }
    };
    for key in keys {
        if tenures.get(key)?.is_some_and(|value| take(value.value())) {
            break;
        }
    }
    Ok(found)
}

/// The tenures of a bare name in lower case, the newest first.
fn of_user(read: &ReadTransaction, bare: &str) -> Result<Vec<Key>, redb::Error> {
    let Some(by_user) = existing(read.open_table(BY_USER))? else { return Ok(Vec::new()) };
    let mut keys = Vec::new();
    for entry in by_user.range((bare, i64::MIN, 0)..=(bare, RUNS, u64::MAX))?.rev() {
        let (start, client) = entry?;
        let (_, from, session) = start.value();
        keys.push((client.value(), from, session));
    }
    Ok(keys)
}

/// The tenures that began by `moment` and had not ended before, the newest first.
fn at(read: &ReadTransaction, moment: i64) -> Result<Vec<Key>, redb::Error> {
    let Some(by_end) = existing(read.open_table(BY_END))? else { return Ok(Vec::new()) };
    let mut keys = Vec::new();
    for entry in by_end.range((moment, 0)..)? {
        let (end, start) = entry?;
        let (client, from) = start.value();
        if from <= moment {
            keys.push((client, from, end.value().1));
        }
    }
    keys.sort_unstable_by_key(|(_, from, session)| std::cmp::Reverse((*from, *session)));
    Ok(keys)
}
