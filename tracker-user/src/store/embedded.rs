//! The embedded database (redb): one file, transactions that are on disk when they return.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use serde::{Deserialize, Serialize};

/// The file's name in the state directory.
pub const FILE: &str = "tracker.redb";
/// Raised when the layout changes; a file of another layout is refused.
const SCHEMA: u64 = 1;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const SETTINGS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("settings");

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
        let read = self.database.begin_read().map_err(redb::Error::from)?;
        let table = match read.open_table(SETTINGS) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
            Err(error) => return Err(redb::Error::from(error).into()),
        };
        let mut settings = BTreeMap::new();
        for entry in table.iter().map_err(redb::Error::from)? {
            let (key, value) = entry.map_err(redb::Error::from)?;
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
        let write = self.database.begin_write().map_err(redb::Error::from)?;
        {
            let mut table = write.open_table(SETTINGS).map_err(redb::Error::from)?;
            match setting {
                Some(setting) => {
                    let value = serde_json::to_vec(setting).unwrap_or_default();
                    table.insert(key, value.as_slice()).map_err(redb::Error::from)?;
                }
                None => {
                    table.remove(key).map_err(redb::Error::from)?;
                }
            }
        }
        write.commit().map_err(redb::Error::from)?;
        Ok(())
    }
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
