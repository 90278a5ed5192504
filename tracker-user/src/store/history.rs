//! Who had which address when: one entry per session, made from the audit trail's events in the transaction that keeps
//! them.
//!
//! An entry is found by its client, by its user, by its beginning and by its end; one that still runs ends at the end of
//! time, so that a look at a moment reads what ended later and nothing else.

use jiff::{SignedDuration, Timestamp};
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::content::{REMOVED_AT_ONCE, RETENTION};
use super::embedded::existing;
use super::text;
use crate::audit::TrailEntry;
use crate::clock::Anchor;
use crate::links;
use crate::session;
use crate::session::{Proved, Reason, Session, State, What};
use crate::types::{ClientAddr, Factor, Identity, Method, SessionId, UserQuery, told_realm};

/// By client, beginning in microseconds of wall time, and session.
const ENTRIES: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("history");
/// By beginning and session: the client.
const BY_START: TableDefinition<'_, (i64, u128), [u8; 16]> = TableDefinition::new("history-by-start");
/// By end and session: the client and the beginning.
const BY_END: TableDefinition<'_, EndKey, Start> = TableDefinition::new("history-by-end");
/// By the user's bare name in lower case, beginning and session: the client.
const BY_USER: TableDefinition<'_, (&str, i64, u128), [u8; 16]> = TableDefinition::new("history-by-user");

/// The end of what has not ended.
const RUNS: i64 = i64::MAX;
/// So many entries of a client are searched for the one that an event speaks of; the newest is nearly always it.
const SEARCHED: usize = 64;
/// An entry names so many stale periods, the newest; it counts them all.
const STALE_PERIODS: usize = 32;

/// One user on one address, from login to end, as the store keeps it. Who and where is kept as it was shown then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// The session.
    #[serde(with = "text")]
    pub session: SessionId,
    /// The client address, with the name of its interface where it is a link-local one.
    pub client: String,
    /// The user.
    pub user: String,
    /// The user's domain.
    pub domain: String,
    /// The user's realm, in lower case, where the domain does not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    /// How the user proved themselves first; `None` where the login was not kept.
    #[serde(with = "text::optional")]
    pub method: Option<Method>,
    /// And by which further factors.
    #[serde(with = "text::list", default)]
    pub factors: Vec<Factor>,
    /// When it began.
    pub from: Timestamp,
    /// When it ended; `None` while it runs.
    pub until: Option<Timestamp>,
    /// Why it ended.
    #[serde(with = "text::optional")]
    pub reason: Option<Reason>,
    /// In a kick-out, the user who took the address over, as shown.
    pub by: Option<String>,
    /// When nothing was served on it because its timeout had run out, the newest last.
    pub stale: Vec<StalePeriod>,
    /// How often it went stale.
    pub stale_count: u32,
    /// Payload bytes received from the client during the session; `None` while it runs, or where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rx: Option<u64>,
    /// And sent to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx: Option<u64>,
}

/// A time during which a session waited for its user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StalePeriod {
    /// When the timeout ran out.
    pub from: Timestamp,
    /// When the user proved themselves again, or the session ended; `None` while it waits.
    pub until: Option<Timestamp>,
    /// Which timeout.
    #[serde(with = "text")]
    pub reason: Reason,
}

impl HistoryEntry {
    /// A session of `identity`, as far as its beginning tells.
    fn begun(
        session: SessionId,
        client: ClientAddr,
        identity: &Identity,
        proved: Option<Proved>,
        from: Timestamp,
    ) -> Self {
        Self {
            session,
            client: links::shown(client).to_string(),
            user: identity.user().into(),
            domain: identity.domain().into(),
            realm: identity.hidden_realm().map(Into::into),
            method: proved.map(|proved| proved.method),
            factors: proved.map(|proved| proved.factors.iter().collect()).unwrap_or_default(),
            from,
            until: None,
            reason: None,
            by: None,
            stale: Vec::new(),
            stale_count: 0,
            rx: None,
            tx: None,
        }
    }

    /// A session that runs, as far as the table tells.
    #[must_use]
    pub fn running(session: &Session, anchor: &Anchor) -> Self {
        let proved = Proved { method: session.method, factors: session.factors };
        let from = anchor.wall(session.created);
        let mut entry = Self::begun(session.id, session.client, &session.identity, Some(proved), from);
        if let State::Stale { reason, since } = session.state {
            entry.went_stale(reason, anchor.wall(since));
        }
        entry
    }

    fn went_stale(&mut self, reason: Reason, at: Timestamp) {
        self.end_stale(at);
        self.stale.push(StalePeriod { from: at, until: None, reason });
        self.stale_count += 1;
        if self.stale.len() > STALE_PERIODS {
            self.stale.remove(0);
        }
    }

    /// Whether the user had the address at `moment`. Whoever takes an address over has it from that moment on.
    #[must_use]
    pub fn covers(&self, moment: Timestamp) -> bool {
        self.from <= moment && self.until.is_none_or(|until| moment < until)
    }

    /// Whether `typed` means its user.
    #[must_use]
    pub fn is_called(&self, typed: &UserQuery) -> bool {
        let realm = told_realm(&self.domain, self.realm.as_deref());
        typed.means(&self.user.to_lowercase(), &realm, &self.domain)
    }

    fn end(&mut self, at: Timestamp, reason: Reason) {
        self.end_stale(at);
        self.until = Some(at);
        self.reason = Some(reason);
    }

    fn end_stale(&mut self, at: Timestamp) {
        if let Some(last) = self.stale.last_mut().filter(|period| period.until.is_none()) {
            last.until = Some(at);
        }
    }
}

/// Which entries are wanted.
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
    pub fn accepts(&self, entry: &HistoryEntry) -> bool {
        self.user.as_ref().is_none_or(|typed| entry.is_called(typed))
            && self.at.is_none_or(|moment| entry.covers(moment))
            && self.client.is_none_or(|client| links::parse(&entry.client) == Ok(client))
    }
}

type Key = ([u8; 16], i64, u128);
/// When a session ended, and its number.
type EndKey = (i64, u128);
/// Whose it was, and when it began.
type Start = ([u8; 16], i64);

/// The tables, open for writing.
pub(super) struct History<'a> {
    entries: redb::Table<'a, Key, &'static [u8]>,
    by_start: redb::Table<'a, (i64, u128), [u8; 16]>,
    by_end: redb::Table<'a, EndKey, Start>,
    by_user: redb::Table<'a, (&'static str, i64, u128), [u8; 16]>,
}

impl<'a> History<'a> {
    pub(super) fn open(write: &'a WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            entries: write.open_table(ENTRIES)?,
            by_start: write.open_table(BY_START)?,
            by_end: write.open_table(BY_END)?,
            by_user: write.open_table(BY_USER)?,
        })
    }

    /// Notes what an event of the audit trail says about a session. Refusals and settings are no session's.
    pub(super) fn note(&mut self, entry: &TrailEntry) -> Result<(), redb::Error> {
        let Some(of) = entry.event.session() else { return Ok(()) };
        let (at, event) = (entry.time, &of.event);
        let session::Event { client, session, identity, .. } = event;
        let begun = |from| HistoryEntry::begun(*session, *client, identity, event.what.proved(), from);
        let start = |from: Timestamp| (client.0, from.as_microsecond(), session.to_bits());
        let found = if matches!(event.what, What::Login(_)) { None } else { self.find(*client, *session)? };
        let (key, noted) = match (found, &event.what) {
            (_, What::Login(_)) => (start(at), begun(at)),
            (Some((key, mut noted)), What::Renewed(_)) => {
                noted.end_stale(at);
                (key, noted)
            }
            (Some((key, mut noted)), What::Stale(reason)) => {
                noted.went_stale(*reason, at);
                (key, noted)
            }
            (found, What::Ended { reason, duration, by, .. }) => {
                // Where the login was not kept, the end says when it was.
                let (key, mut noted) = found.unwrap_or_else(|| {
                    let lasted = SignedDuration::try_from(*duration).unwrap_or_default();
                    let from = at.checked_sub(lasted).unwrap_or(at);
                    (start(from), begun(from))
                });
                self.by_end.remove((ends(&noted), key.2))?;
                noted.end(at, *reason);
                noted.by = by.as_deref().map(ToString::to_string);
                (noted.rx, noted.tx) =
                    (of.traffic.map(|traffic| traffic.rx), of.traffic.map(|traffic| traffic.tx));
                (key, noted)
            }
            (None, What::Renewed(_) | What::Stale(_)) => return Ok(()),
        };
        self.put(key, &noted)
    }

    /// The entry of a session, and its key: nearly always the client's newest.
    fn find(
        &self,
        client: ClientAddr,
        session: SessionId,
    ) -> Result<Option<(Key, HistoryEntry)>, redb::Error> {
        let of_client = (client.0, i64::MIN, 0)..=(client.0, RUNS, u128::MAX);
        for entry in self.entries.range(of_client)?.rev().take(SEARCHED) {
            let (key, value) = entry?;
            if key.value().2 == session.to_bits() {
                return Ok(serde_json::from_slice(value.value()).ok().map(|entry| (key.value(), entry)));
            }
        }
        Ok(None)
    }

    /// Ends every running entry whose session is not in `live`: how it ended was lost with a crash.
    pub(super) fn settle(
        &mut self,
        live: impl Fn(ClientAddr, SessionId) -> Result<bool, redb::Error>,
        at: Timestamp,
    ) -> Result<usize, redb::Error> {
        let mut orphans = Vec::new();
        for entry in self.by_end.range((RUNS, 0)..)? {
            let (end, start) = entry?;
            let ((_, session), (client, from)) = (end.value(), start.value());
            let lives = match SessionId::from_bits(session) {
                Some(session) => live(ClientAddr(client), session)?,
                None => false,
            };
            if !lives {
                orphans.push((client, from, session));
            }
        }
        for key in &orphans {
            let entry =
                self.entries.get(key)?.map(|value| serde_json::from_slice::<HistoryEntry>(value.value()));
            self.by_end.remove((RUNS, key.2))?;
            let Some(Ok(mut entry)) = entry else { continue };
            entry.end(at.max(entry.from), Reason::Shutdown);
            self.put(*key, &entry)?;
        }
        Ok(orphans.len())
    }

    /// Forgets entries that ended too long before `newest`.
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
            let removed = self.entries.remove((client, from, end.1))?;
            let user = removed.and_then(|value| serde_json::from_slice::<HistoryEntry>(value.value()).ok());
            if let Some(user) = user.map(|entry| entry.user.to_lowercase()) {
                self.by_user.remove((user.as_str(), from, end.1))?;
            }
        }
        Ok(())
    }

    /// Writes an entry, new or as it is now.
    pub(super) fn put(&mut self, key: Key, entry: &HistoryEntry) -> Result<(), redb::Error> {
        let (client, from, session) = key;
        let value = serde_json::to_vec(entry).unwrap_or_default();
        self.entries.insert(key, value.as_slice())?;
        self.by_start.insert((from, session), client)?;
        self.by_end.insert((ends(entry), session), (client, from))?;
        self.by_user.insert((entry.user.to_lowercase().as_str(), from, session), client)?;
        Ok(())
    }
}

fn ends(entry: &HistoryEntry) -> i64 {
    entry.until.map_or(RUNS, Timestamp::as_microsecond)
}

/// The entries that are wanted, the newest first.
pub(super) fn read(read: &ReadTransaction, wanted: &Wanted) -> Result<Vec<HistoryEntry>, redb::Error> {
    let mut found = Vec::new();
    let Some(entries) = existing(read.open_table(ENTRIES))? else { return Ok(found) };
    let mut take = |value: &[u8]| {
        // What cannot be read is what another version wrote.
        found.extend(serde_json::from_slice(value).ok().filter(|entry| wanted.accepts(entry)));
        found.len() >= wanted.most
    };
    if wanted.most == 0 {
        return Ok(Vec::new());
    }
    if let Some(ClientAddr(client)) = wanted.client {
        for entry in entries.range((client, i64::MIN, 0)..=(client, RUNS, u128::MAX))?.rev() {
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
                if entries.get((client.value(), from, session))?.is_some_and(|value| take(value.value())) {
                    break;
                }
            }
            return Ok(found);
        }
    };
    for key in keys {
        if entries.get(key)?.is_some_and(|value| take(value.value())) {
            break;
        }
    }
    Ok(found)
}

/// The clients whose newest session has ended for `reason` since then, and when, the newest first and at most so many. Whoever
/// has had another session since is not among them.
pub(super) fn last_ended(
    read: &ReadTransaction,
    reason: Reason,
    since: Timestamp,
    most: usize,
) -> Result<Vec<(ClientAddr, Timestamp)>, redb::Error> {
    let (entries, by_end) = (existing(read.open_table(ENTRIES))?, existing(read.open_table(BY_END))?);
    let (Some(entries), Some(by_end)) = (entries, by_end) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for ended in by_end.range((since.as_microsecond(), 0)..(RUNS, 0))?.rev() {
        if found.len() >= most {
            break;
        }
        let (end, start) = ended?;
        let ((_, session), (client, _)) = (end.value(), start.value());
        let Some(newest) = entries.range((client, i64::MIN, 0)..=(client, RUNS, u128::MAX))?.next_back()
        else {
            continue;
        };
        let (key, value) = newest?;
        if key.value().2 != session {
            continue;
        }
        let entry = serde_json::from_slice::<HistoryEntry>(value.value()).ok();
        let entry = entry.filter(|entry| entry.reason == Some(reason));
        found.extend(entry.and_then(|entry| entry.until).map(|until| (ClientAddr(client), until)));
    }
    Ok(found)
}

/// The entries of a bare name in lower case, the newest first.
fn of_user(read: &ReadTransaction, bare: &str) -> Result<Vec<Key>, redb::Error> {
    let Some(by_user) = existing(read.open_table(BY_USER))? else { return Ok(Vec::new()) };
    let mut keys = Vec::new();
    for entry in by_user.range((bare, i64::MIN, 0)..=(bare, RUNS, u128::MAX))?.rev() {
        let (start, client) = entry?;
        let (_, from, session) = start.value();
        keys.push((client.value(), from, session));
    }
    Ok(keys)
}

/// The entries that began by `moment` and had not ended before, the newest first.
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
