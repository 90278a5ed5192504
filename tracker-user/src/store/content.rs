//! What stands in the database: settings, sessions, the audit trail, the history, the policy in force, bans, logins to
//! the pages.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::bans;
use super::bans::StoredBan;
use super::embedded::{Store, existing};
use super::error::StoreError;
use super::events::{self, EventKey, Events, StoredEvent};
use super::history::{self, History, HistoryEntry, Wanted};
use super::layouts::ConfiguredPolicy;
use super::policy::StoredPolicy;
use super::sealed::{self, SealedRow, SealedTable};
use super::sealer::Sealer;
use super::series::{self, Series};
use super::sessions::PortableSession;
use super::users;
use super::web_sessions;
use super::web_sessions::{StoredWebSession, WebSessionKey};
use crate::audit::{Actor, TrailEntry};
use crate::clock::wall_now;
use crate::session::Reason;
use crate::types::{ClientAddr, SessionId};

const SETTINGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("settings");
/// By client address.
pub(super) const SESSIONS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("sessions");
/// By client address: boot time of the last known activity, in the boot that the session's times belong to.
const SEEN: TableDefinition<'_, [u8; 16], i64> = TableDefinition::new("seen");
/// Named pieces of state.
pub(super) const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");

/// The name of the policy in force.
pub(super) const POLICY: &str = "policy";

/// The audit trail is kept for this long, and the history of a session for this long after its end.
pub const RETENTION: Duration = Duration::from_secs(90 * 24 * 3600);
/// So many outdated events, and so many entries of the history, are removed by one transaction at most.
pub(super) const REMOVED_AT_ONCE: usize = 1_000;

/// A setting that was changed live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSetting {
    /// What it was set to.
    pub value: String,
    /// What the configuration file said of the key at that time; absent if nothing. When the file is edited to say something
    /// else, the file is newer and wins.
    #[serde(default)]
    pub file_value: Option<String>,
    /// Who set it.
    #[serde(default)]
    pub by: Option<Actor>,
    /// When.
    #[serde(default)]
    pub at: Option<Timestamp>,
}

/// What one transaction of the journal writes.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// By client; `None`: it has no session any more.
    pub(super) sessions: HashMap<ClientAddr, Option<PortableSession>>,
    /// When clients were last active.
    pub(super) seen: HashMap<ClientAddr, i64>,
    /// Lines of the audit trail.
    pub(super) events: Vec<Arc<TrailEntry>>,
    /// The policy in force.
    pub(super) policy: Option<StoredPolicy>,
    /// By key; `None`: it is over.
    pub(super) bans: HashMap<String, Option<Box<StoredBan>>>,
    /// What there was, bucket by bucket.
    pub(super) series: Series,
    /// By the hash of its secret; `None`: it is over.
    pub(super) web_sessions: HashMap<WebSessionKey, Option<Box<StoredWebSession>>>,
    /// Sealed rows, by table and key.
    pub(super) sealed: HashMap<(SealedTable, String), SealedRow>,
    /// All sealed rows are sealed anew.
    pub(super) reseal: Option<Arc<Sealer>>,
    /// In the first transaction of a run.
    pub(super) settle: Option<Settle>,
}

/// What the last run left: sessions whose end was lost have an end in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settle {
    /// The sessions were void when this run began: they are forgotten.
    pub(super) forget: bool,
}

impl Store {
    /// The settings that were changed live, by full key.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn settings(&self) -> Result<BTreeMap<String, StoredSetting>, StoreError> {
        self.read(|read| {
            let mut settings = BTreeMap::new();
            let Some(table) = existing(read.open_table(SETTINGS))? else { return Ok(settings) };
            for entry in table.iter()? {
                let (key, value) = entry?;
                // A setting that cannot be read is one that another version wrote: the file's value stands.
                if let Ok(setting) = serde_json::from_slice(value.value()) {
                    settings.insert(key.value().to_owned(), setting);
                }
            }
            Ok(settings)
        })
    }

    /// Keeps a setting; `None` forgets it. On disk when this returns.
    ///
    /// # Errors
    /// When it cannot be written; the old value stands.
    pub fn set(&self, key: &str, setting: Option<&StoredSetting>) -> Result<(), StoreError> {
        self.write_setting(key, setting, None)
    }

    /// The same by somebody's order, with the line of the audit trail that tells of it: both are on disk when this returns,
    /// or neither.
    ///
    /// # Errors
    /// When it cannot be written; the old value stands.
    pub fn set_by_order(
        &self,
        key: &str,
        setting: Option<&StoredSetting>,
        line: &TrailEntry,
    ) -> Result<(), StoreError> {
        self.write_setting(key, setting, Some(line))
    }

    fn write_setting(
        &self,
        key: &str,
        setting: Option<&StoredSetting>,
        line: Option<&TrailEntry>,
    ) -> Result<(), StoreError> {
        let value = setting.map(|setting| serde_json::to_vec(setting).unwrap_or_default());
        self.transaction(|write| {
            let mut settings = write.open_table(SETTINGS)?;
            match &value {
                Some(value) => settings.insert(key, value.as_slice())?.map(drop),
                None => settings.remove(key)?.map(drop),
            };
            if let Some(line) = line {
                Events::open(write)?.add(line)?;
            }
            Ok(())
        })
    }

    /// The sessions, each with the boot time at which its client was last known to be active; none if they are void.
    /// What cannot be read is left out: its user proves themselves again.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn sessions(&self) -> Result<Vec<(PortableSession, Option<i64>)>, StoreError> {
        if self.sessions_are_void() {
            return Ok(Vec::new());
        }
        self.read(read_sessions)
    }

    /// The policy that was in force when the daemon went away, if this version wrote it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn policy(&self) -> Result<Option<StoredPolicy>, StoreError> {
        self.kept_policy(StoredPolicy::read)
    }

    /// The same, if an earlier version wrote it: one that kept the configuration that the policy was made of.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn configured_policy(&self) -> Result<Option<ConfiguredPolicy>, StoreError> {
        self.kept_policy(ConfiguredPolicy::read)
    }

    fn kept_policy<T>(&self, form: fn(&[u8]) -> Option<T>) -> Result<Option<T>, StoreError> {
        self.read(|read| {
            let Some(table) = existing(read.open_table(STATE))? else { return Ok(None) };
            Ok(table.get(POLICY)?.and_then(|value| form(value.value())))
        })
    }

    /// Who had which address when, the newest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn history(&self, wanted: &Wanted) -> Result<Vec<HistoryEntry>, StoreError> {
        self.read(|read| history::read(read, wanted))
    }

    /// The clients whose last session its user has ended since then, and when, the newest first and at most so many.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn logouts_since(
        &self,
        since: Timestamp,
        most: usize,
    ) -> Result<Vec<(ClientAddr, Timestamp)>, StoreError> {
        self.read(|read| history::last_ended(read, Reason::Logout, since, most))
    }

    /// The audit trail's events that happened from `since` on, oldest first: at most `most` of them that
    /// come after `after`, and where the last one stands.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn events(
        &self,
        since: Timestamp,
        after: Option<EventKey>,
        most: usize,
    ) -> Result<(Vec<StoredEvent>, Option<EventKey>), StoreError> {
        self.read(|read| events::read(read, since, after, most))
    }

    /// The audit trail's events that happened until `until`, newest first: at most `most` of them that come before `before`, and
    /// where the last one stands.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn events_before(
        &self,
        until: Timestamp,
        before: Option<EventKey>,
        most: usize,
    ) -> Result<(Vec<StoredEvent>, Option<EventKey>), StoreError> {
        self.read(|read| events::read_before(read, until, before, most))
    }

    /// Writes what the journal has gathered, in one transaction. On disk when this returns.
    pub(super) fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        self.transaction(|write| {
            if let Some(Settle { forget }) = batch.settle {
                settle(write, forget)?;
            }
            let mut sessions = write.open_table(SESSIONS)?;
            let mut seen = write.open_table(SEEN)?;
            for (client, session) in &batch.sessions {
                // What was seen before belongs to what was kept before, perhaps to another boot.
                seen.remove(client.0)?;
                match session {
                    Some(session) => {
                        let value = serde_json::to_vec(session).unwrap_or_default();
                        sessions.insert(client.0, value.as_slice())?;
                    }
                    None => {
                        sessions.remove(client.0)?;
                    }
                }
            }
            for (client, at) in &batch.seen {
                if sessions.get(client.0)?.is_some() {
                    seen.insert(client.0, at)?;
                }
            }
            if let Some(policy) = &batch.policy {
                let value = serde_json::to_vec(policy).unwrap_or_default();
                write.open_table(STATE)?.insert(POLICY, value.as_slice())?;
            }
            if !batch.bans.is_empty() {
                bans::write(write, &batch.bans)?;
            }
            if !batch.series.is_empty() {
                series::write(write, &batch.series)?;
            }
            if !batch.web_sessions.is_empty() {
                web_sessions::write(write, &batch.web_sessions)?;
            }
            if !batch.sealed.is_empty() {
                sealed::write(write, batch.sealed.values())?;
            }
            if let Some(sealer) = &batch.reseal {
                sealed::renew(write, sealer)?;
            }
            let mut events = Events::open(write)?;
            let mut history = History::open(write)?;
            for entry in &batch.events {
                events.add(entry)?;
                history.note(entry)?;
            }
            users::note_logins(write, &batch.events)?;
            if let Some(newest) = batch.events.last() {
                events.remove_outdated(newest.time)?;
                history.remove_outdated(newest.time)?;
            }
            Ok(())
        })
    }
}

/// The sessions, each with the boot time at which its client was last known to be active.
pub(super) fn read_sessions(
    read: &ReadTransaction,
) -> Result<Vec<(PortableSession, Option<i64>)>, redb::Error> {
    let Some(sessions) = existing(read.open_table(SESSIONS))? else { return Ok(Vec::new()) };
    let seen = existing(read.open_table(SEEN))?;
    let mut all = Vec::new();
    for entry in sessions.iter()? {
        let (client, value) = entry?;
        let last = match &seen {
            Some(seen) => seen.get(client.value())?.map(|at| at.value()),
            None => None,
        };
        match serde_json::from_slice(value.value()) {
            Ok(session) => all.push((session, last)),
            Err(error) => tracing::warn!(%error, "a session in the store cannot be read: left out"),
        }
    }
    Ok(all)
}

/// Forgets the sessions if they are void, and ends in the history those whose end was lost with a crash.
fn settle(write: &WriteTransaction, forget: bool) -> Result<(), redb::Error> {
    if forget {
        write.delete_table(SESSIONS)?;
        write.delete_table(SEEN)?;
        web_sessions::forget(write)?;
    }
    let sessions = write.open_table(SESSIONS)?;
    let lives = |client: ClientAddr, id: SessionId| -> Result<bool, redb::Error> {
        let session = sessions.get(client.0)?;
        let session = session.and_then(|value| serde_json::from_slice::<PortableSession>(value.value()).ok());
        Ok(session.is_some_and(|session| session.id() == id))
    };
    let lost = History::open(write)?.settle(lives, wall_now())?;
    if lost > 0 {
        tracing::debug!(lost, "sessions whose end was not kept are being ended in the history");
    }
    Ok(())
}
