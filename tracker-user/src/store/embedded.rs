//! The embedded database (redb): one file, transactions that are on disk when they return.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use serde::{Deserialize, Serialize};
use tracker_ebpf::abi::ClientAddr;

use super::history::{self, Tenure, Tenures, Wanted};
use super::sessions::StoredSession;
use crate::audit::AuditEvent;

/// The file's name in the state directory.
pub const FILE: &str = "tracker.redb";
/// Raised when the layout changes; a file of another layout is refused.
const SCHEMA: u64 = 1;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const SETTINGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("settings");
/// By client address.
const SESSIONS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("sessions");
/// By client address: boot time of the last known activity.
const SEEN: TableDefinition<'_, [u8; 16], i64> = TableDefinition::new("seen");
/// By wall time in microseconds, and a number that tells events of one microsecond apart.
const EVENTS: TableDefinition<'_, (i64, u32), &[u8]> = TableDefinition::new("events");
/// Named pieces of state.
const STATE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("state");

/// The audit trail is kept for this long, and tenures for this long after their end.
pub const RETENTION: Duration = Duration::from_secs(90 * 24 * 3600);
/// So many outdated events, and so many tenures, are removed by one transaction at most.
pub(super) const REMOVED_AT_ONCE: usize = 1_000;

/// A setting that was changed live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSetting {
    /// What it was set to.
    pub value: String,
    /// What the configuration file said at that time. When the file is edited to say something else, the file is newer
    /// and wins.
    pub file_value: String,
}

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state directory cannot be made or written.
    #[error(
        "the state directory {path} cannot be used: {source}; make it writable for the daemon, or set state-dir"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Another process has it open.
    #[error("{path} is in use: another trackerd runs on this state-dir")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is no database of ours, or a damaged one.
    #[error(
        "{path} is damaged or not the tracker's ({reason}); it was left as it is: restore it from a backup, or move it \
         away to begin anew"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A transaction failed.
    #[error("the store failed: {0}")]
    Failed(#[from] redb::Error),
}

/// The open database.
#[derive(Debug)]
pub struct Store {
    database: Database,
}

impl Store {
    /// Opens the database in `directory`, and makes both where they are missing.
    ///
    /// # Errors
    /// When the directory cannot be used, or the file is in use, damaged or foreign. A file is never overwritten.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        std::fs::create_dir_all(directory)
            .map_err(|source| StoreError::Directory { path: directory.into(), source })?;
        let path = directory.join(FILE);
        // An empty file would be taken for a new database: it may be what a full disk left of an old one.
        let database = if path.exists() { Database::open(&path) } else { Database::create(&path) };
        let database = database.map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.clone() },
            DatabaseError::Storage(redb::StorageError::Io(source))
                if matches!(
                    source.kind(),
                    std::io::ErrorKind::PermissionDenied
                        | std::io::ErrorKind::ReadOnlyFilesystem
                        | std::io::ErrorKind::StorageFull
                        | std::io::ErrorKind::NotFound
                ) =>
            {
                StoreError::Directory { path: directory.into(), source }
            }
            other => StoreError::Foreign { path: path.clone(), reason: other.to_string() },
        })?;
        let store = Self { database };
        store.check_schema(&path)?;
        Ok(store)
    }

    fn check_schema(&self, path: &Path) -> Result<(), StoreError> {
        let write = self.database.begin_write().map_err(redb::Error::from)?;
        let found = {
            let mut meta = write.open_table(META).map_err(redb::Error::from)?;
            let found = meta.get("schema").map_err(redb::Error::from)?.map(|value| value.value());
            if found.is_none() {
                meta.insert("schema", SCHEMA).map_err(redb::Error::from)?;
            }
            found
        };
        if let Some(found) = found.filter(|found| *found != SCHEMA) {
            let reason = format!("its layout is {found}, this daemon knows {SCHEMA}");
            return Err(StoreError::Foreign { path: path.into(), reason });
        }
        write.commit().map_err(redb::Error::from)?;
        Ok(())
    }

    /// The settings that were changed live, by full key.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn settings(&self) -> Result<BTreeMap<String, StoredSetting>, StoreError> {
        Ok(self.settings_raw()?)
    }

    fn settings_raw(&self) -> Result<BTreeMap<String, StoredSetting>, redb::Error> {
        let mut settings = BTreeMap::new();
        let Some(table) = existing(self.database.begin_read()?.open_table(SETTINGS))? else {
            return Ok(settings);
        };
        for entry in table.iter()? {
            let (key, value) = entry?;
            // A setting that cannot be read is one that another version wrote: the file's value stands.
            if let Ok(setting) = serde_json::from_slice(value.value()) {
                settings.insert(key.value().to_owned(), setting);
            }
        }
        Ok(settings)
    }

    /// Keeps a setting; `None` forgets it. On disk when this returns.
    ///
    /// # Errors
    /// When it cannot be written; the old value stands.
    pub fn set(&self, key: &str, setting: Option<&StoredSetting>) -> Result<(), StoreError> {
        let value = setting.map(|setting| serde_json::to_vec(setting).unwrap_or_default());
        Ok(self.set_raw(key, value.as_deref())?)
    }

    fn set_raw(&self, key: &str, value: Option<&[u8]>) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        match value {
            Some(value) => write.open_table(SETTINGS)?.insert(key, value)?.map(drop),
            None => write.open_table(SETTINGS)?.remove(key)?.map(drop),
        };
        Ok(write.commit()?)
    }

    /// Writes what the journal has gathered, in one transaction. On disk when this returns.
    pub(super) fn write(
        &self,
        sessions: &HashMap<ClientAddr, Option<StoredSession>>,
        seen: &HashMap<ClientAddr, i64>,
        events: &[AuditEvent],
        state: &HashMap<&'static str, Vec<u8>>,
    ) -> Result<(), StoreError> {
        Ok(self.write_raw(sessions, seen, events, state)?)
    }

    fn write_raw(
        &self,
        sessions: &HashMap<ClientAddr, Option<StoredSession>>,
        seen: &HashMap<ClientAddr, i64>,
        events: &[AuditEvent],
        state: &HashMap<&'static str, Vec<u8>>,
    ) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        {
            let mut sessions_table = write.open_table(SESSIONS)?;
            let mut seen_table = write.open_table(SEEN)?;
            for (client, session) in sessions {
                match session {
                    Some(session) => {
                        let value = serde_json::to_vec(session).unwrap_or_default();
                        sessions_table.insert(client.0, value.as_slice())?;
                    }
                    None => {
                        sessions_table.remove(client.0)?;
                        seen_table.remove(client.0)?;
                    }
                }
            }
            for (client, at) in seen {
                seen_table.insert(client.0, at)?;
            }
            let mut state_table = write.open_table(STATE)?;
            for (name, value) in state {
                state_table.insert(name, value.as_slice())?;
            }
            let mut events_table = write.open_table(EVENTS)?;
            for event in events {
                add_event(&mut events_table, event)?;
            }
            let mut tenures = Tenures::open(&write)?;
            for event in events {
                tenures.note(event)?;
            }
            if let Some(newest) = events.last() {
                remove_outdated(&mut events_table, newest)?;
                tenures.remove_outdated(newest.time)?;
            }
        }
        Ok(write.commit()?)
    }

    /// The sessions, each with the boot time at which its client was last known to be active. What cannot be read is
    /// left out: its user proves themselves again.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn sessions(&self) -> Result<Vec<(StoredSession, Option<i64>)>, StoreError> {
        Ok(self.sessions_raw()?)
    }

    fn sessions_raw(&self) -> Result<Vec<(StoredSession, Option<i64>)>, redb::Error> {
        let read = self.database.begin_read()?;
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

    /// Forgets every session: they were revoked while the disk was full.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn forget_sessions(&self) -> Result<(), StoreError> {
        let forget = || -> Result<(), redb::Error> {
            let write = self.database.begin_write()?;
            write.delete_table(SESSIONS)?;
            write.delete_table(SEEN)?;
            Ok(write.commit()?)
        };
        Ok(forget()?)
    }

    /// A named piece of state.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn state(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let get = || -> Result<Option<Vec<u8>>, redb::Error> {
            let Some(table) = existing(self.database.begin_read()?.open_table(STATE))? else {
                return Ok(None);
            };
            Ok(table.get(name)?.map(|value| value.value().to_vec()))
        };
        Ok(get()?)
    }

    /// Who had which address when, the newest first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn history(&self, wanted: &Wanted) -> Result<Vec<Tenure>, StoreError> {
        let get =
            || -> Result<Vec<Tenure>, redb::Error> { history::read(&self.database.begin_read()?, wanted) };
        Ok(get()?)
    }

    /// The audit trail's events about sessions that happened from `since` on, oldest first: at most `most` of them that
    /// come after `after`, and where the last one stands.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn events(
        &self,
        since: Timestamp,
        after: Option<EventKey>,
        most: usize,
    ) -> Result<(Vec<AuditEvent>, Option<EventKey>), StoreError> {
        let get = || -> Result<_, redb::Error> {
            let (mut found, mut last) = (Vec::new(), None);
            let Some(table) = existing(self.database.begin_read()?.open_table(EVENTS))? else {
                return Ok((found, last));
            };
            let from = after
                .map_or(Bound::Included((since.as_microsecond(), 0)), |EventKey(key)| Bound::Excluded(key));
            for entry in table.range((from, Bound::Unbounded))?.take(most) {
                let (key, value) = entry?;
                last = Some(EventKey(key.value()));
                found.extend(serde_json::from_slice::<AuditEvent>(value.value()));
            }
            Ok((found, last))
        };
        Ok(get()?)
    }
}

/// Where an event stands in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventKey((i64, u32));

/// A table that has never been written is not there.
pub(super) fn existing<T>(opened: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

type Events<'a> = redb::Table<'a, (i64, u32), &'static [u8]>;

fn add_event(table: &mut Events<'_>, event: &AuditEvent) -> Result<(), redb::Error> {
    let at = event.time.as_microsecond();
    let number = match table.range((at, 0)..=(at, u32::MAX))?.next_back() {
        Some(last) => last?.0.value().1.saturating_add(1),
        None => 0,
    };
    let value = serde_json::to_vec(event).unwrap_or_default();
    table.insert((at, number), value.as_slice())?;
    Ok(())
}

fn remove_outdated(table: &mut Events<'_>, newest: &AuditEvent) -> Result<(), redb::Error> {
    let Ok(oldest) = newest.time.checked_sub(RETENTION) else { return Ok(()) };
    let outdated = table.range(..(oldest.as_microsecond(), 0))?.take(REMOVED_AT_ONCE);
    let outdated: Vec<(i64, u32)> =
        outdated.map(|entry| entry.map(|(key, _)| key.value())).collect::<Result<_, _>>()?;
    for key in outdated {
        table.remove(key)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_survives_reopening_and_can_be_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let setting = StoredSetting { value: "10m".into(), file_value: "5m".into() };
        Store::open(directory.path()).unwrap().set("a.b", Some(&setting)).unwrap();
        let store = Store::open(directory.path()).unwrap();
        assert_eq!(store.settings().unwrap().get("a.b"), Some(&setting));
        store.set("a.b", None).unwrap();
        assert!(store.settings().unwrap().is_empty());
    }

    #[test]
    fn a_foreign_or_empty_file_is_refused_and_left_alone() {
        for content in ["", "not a database, but somebody's notes"] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(FILE);
            std::fs::write(&path, content).unwrap();
            let error = Store::open(directory.path()).unwrap_err();
            assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[test]
    fn one_daemon_per_state_directory() {
        let directory = tempfile::tempdir().unwrap();
        let _first = Store::open(directory.path()).unwrap();
        assert!(matches!(Store::open(directory.path()), Err(StoreError::InUse { .. })));
    }
}
