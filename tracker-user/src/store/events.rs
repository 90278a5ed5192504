//! The audit trail on disk: each event as it was shown when it was noted, by wall time.

use std::ops::Bound;

use jiff::Timestamp;
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::content::{REMOVED_AT_ONCE, RETENTION};
use super::embedded::existing;
use crate::audit::{Actor, TrailEntry};
use crate::links::shown;
use crate::types::Identity;

/// By wall time in microseconds, and a number that tells events of one microsecond apart.
pub(super) const EVENTS: TableDefinition<'_, (i64, u32), &[u8]> = TableDefinition::new("events");

/// Where an event stands in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventKey((i64, u32));

/// An event of the audit trail, as the store keeps it: in words, which stay what they were when interfaces are renamed,
/// sessions are numbered in another way or kinds of events are no more. What does not apply is absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as the API's object has them: `admin::wire::Event`")]
pub struct StoredEvent {
    pub time: Timestamp,
    pub event: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub realm: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub factors: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<Actor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_closed: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rx: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tx: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

impl From<&TrailEntry> for StoredEvent {
    fn from(TrailEntry { time, event }: &TrailEntry) -> Self {
        let user = event.user();
        let factors = event.proved().map(|proved| proved.factors.iter().map(|factor| factor.to_string()));
        Self {
            time: *time,
            event: event.kind().as_str().into(),
            client: event.client().map(|client| shown(client).to_string()),
            user: user.map(|user| user.user().into()),
            domain: user.map(|user| user.domain().into()),
            realm: user.and_then(Identity::hidden_realm).map(Into::into),
            session: event.session_id().map(|session| session.to_string()),
            method: event.method().map(|method| method.as_str().into()),
            factors: factors.into_iter().flatten().collect(),
            reason: event.reason().map(Into::into),
            cause: event.cause().map(Into::into),
            count: event.count(),
            actor: event.actor().cloned(),
            by: event.by().map(ToString::to_string),
            duration: event.duration().map(|duration| duration.as_secs_f64()),
            connections_closed: event.connections_closed(),
            rx: event.traffic().map(|traffic| traffic.rx),
            tx: event.traffic().map(|traffic| traffic.tx),
            setting: event.setting().map(ToString::to_string),
            before: event.before().map(Into::into),
            role: event.role().map(|role| role.as_str().into()),
            used: event.licences().map(|licences| licences.used),
            max: event.licences().map(|licences| licences.max),
        }
    }
}

/// The events from `since` on, oldest first: at most `most` of them that come after `after`, and where the last one stands.
pub(super) fn read(
    read: &ReadTransaction,
    since: Timestamp,
    after: Option<EventKey>,
    most: usize,
) -> Result<(Vec<StoredEvent>, Option<EventKey>), redb::Error> {
    let (mut found, mut last) = (Vec::new(), None);
    let Some(table) = existing(read.open_table(EVENTS))? else { return Ok((found, last)) };
    let from = match after {
        None => Bound::Included((since.as_microsecond(), 0)),
        Some(EventKey(key)) => Bound::Excluded(key),
    };
    for entry in table.range::<(i64, u32)>((from, Bound::Unbounded))?.take(most) {
        let (key, value) = entry?;
        last = Some(EventKey(key.value()));
        found.extend(serde_json::from_slice::<StoredEvent>(value.value()));
    }
    Ok((found, last))
}

/// The events until `until`, newest first: at most `most` of them that come before `before`, and where the last one stands.
pub(super) fn read_before(
    read: &ReadTransaction,
    until: Timestamp,
    before: Option<EventKey>,
    most: usize,
) -> Result<(Vec<StoredEvent>, Option<EventKey>), redb::Error> {
    let (mut found, mut last) = (Vec::new(), None);
    let Some(table) = existing(read.open_table(EVENTS))? else { return Ok((found, last)) };
    let end = match before {
        None => Bound::Included((until.as_microsecond(), u32::MAX)),
        Some(EventKey(key)) => Bound::Excluded(key),
    };
    for entry in table.range::<(i64, u32)>((Bound::Unbounded, end))?.rev().take(most) {
        let (key, value) = entry?;
        last = Some(EventKey(key.value()));
        found.extend(serde_json::from_slice::<StoredEvent>(value.value()));
    }
    Ok((found, last))
}

/// The table, open for writing.
pub(super) struct Events<'a>(redb::Table<'a, (i64, u32), &'static [u8]>);

impl<'a> Events<'a> {
    pub(super) fn open(write: &'a WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self(write.open_table(EVENTS)?))
    }

    pub(super) fn add(&mut self, entry: &TrailEntry) -> Result<(), redb::Error> {
        let at = entry.time.as_microsecond();
        let number = match self.0.range((at, 0)..=(at, u32::MAX))?.next_back() {
            Some(last) => last?.0.value().1.saturating_add(1),
            None => 0,
        };
        let value = serde_json::to_vec(&StoredEvent::from(entry)).unwrap_or_default();
        self.0.insert((at, number), value.as_slice())?;
        Ok(())
    }

    /// Forgets events that happened too long before `newest`.
    pub(super) fn remove_outdated(&mut self, newest: Timestamp) -> Result<(), redb::Error> {
        let Ok(oldest) = newest.checked_sub(RETENTION) else { return Ok(()) };
        let outdated = self.0.range(..(oldest.as_microsecond(), 0))?.take(REMOVED_AT_ONCE);
        let outdated: Vec<(i64, u32)> =
            outdated.map(|entry| entry.map(|(key, _)| key.value())).collect::<Result<_, _>>()?;
        for key in outdated {
            self.0.remove(key)?;
        }
        Ok(())
    }
}
