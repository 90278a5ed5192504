//! The embedded database (redb): one file, transactions that are on disk when they return.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use redb::{ReadTransaction, ReadableDatabase, TableError, WriteTransaction};

use super::error::StoreError;
use super::open::{self, Open};
use super::revocation::Revocation;
use super::schema;

/// The file's name in the state directory.
pub const FILE: &str = "tracker.redb";
/// Written and removed again to see whether there is room.
const PROBE: &str = "room";
/// So much must fit before a transaction is tried again that a full disk has refused.
const ROOM: usize = 1 << 20;

/// The open database.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    path: PathBuf,
    revocation: Revocation,
    /// The sessions on disk are void: their ends may have been lost.
    void: AtomicBool,
    /// If it failed and cannot be opened again, why.
    open: RwLock<Result<Open, String>>,
    /// The last transaction failed: there may be no room.
    failed: AtomicBool,
}

impl Store {
    /// Opens the database in `directory`, and makes both where they are missing.
    ///
    /// # Errors
    /// When the directory cannot be used, or the file is in use, damaged or foreign. A file is never overwritten.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        let unusable = |source| StoreError::Directory { path: directory.into(), source };
        std::fs::create_dir_all(directory).map_err(unusable)?;
        let Some((revocation, mark)) = Revocation::open(directory).map_err(unusable)? else {
            return Err(StoreError::InUse { path });
        };
        let open = open::open(directory)?;
        let last = schema::last(&open.database.begin_read().map_err(redb::Error::from)?)?;
        // One that was moved away to begin anew has left its mark behind, which says nothing about the new one.
        let behind = last < mark.transaction && !open.is_new;
        if behind {
            tracing::warn!(
                path = %path.display(),
                transaction = last,
                expected = mark.transaction,
                "the database has gone back to an earlier state: nobody is taken to be logged in, and settings made \
                 since are lost"
            );
            if let Err(error) = revocation.void_all() {
                tracing::error!(%error, "the revocation mark cannot be written");
            }
        }
        Ok(Self {
            directory: directory.into(),
            path,
            revocation,
            void: AtomicBool::new(mark.void || behind),
            open: RwLock::new(Ok(open)),
            failed: AtomicBool::new(false),
        })
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size on disk in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        std::fs::metadata(&self.path).map_or(0, |file| file.len())
    }

    /// Whether the sessions on disk are void, because their ends may have been lost.
    #[must_use]
    pub fn sessions_are_void(&self) -> bool {
        self.void.load(Ordering::Acquire)
    }

    /// Makes the sessions on disk void, although the database takes no transaction. On disk when this returns.
    pub(super) fn revoke(&self) -> io::Result<()> {
        self.revocation.void_all()?;
        self.void.store(true, Ordering::Release);
        Ok(())
    }

    /// What the database says of sessions is true again.
    pub(super) fn lift(&self) {
        self.revocation.lift();
        self.void.store(false, Ordering::Release);
    }

    pub(super) fn read<T>(
        &self,
        get: impl Fn(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let slot = self.slot();
        let open = slot.as_ref().map_err(|cause| StoreError::Closed(cause.clone()))?;
        let read = open.database.begin_read().map_err(redb::Error::from)?;
        Ok(get(&read)?)
    }

    /// Carries out a transaction. On disk when this returns.
    pub(super) fn transaction(
        &self,
        change: impl Fn(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        if self.failed.load(Ordering::Acquire) {
            self.has_room().map_err(redb::Error::Io)?;
            if self.slot().is_err() {
                self.reopen();
            }
        }
        let written = self.try_transaction(change);
        self.failed.store(written.is_err(), Ordering::Release);
        if written.is_err() && self.is_unusable() {
            self.reopen();
        }
        written
    }

    fn try_transaction(
        &self,
        change: impl Fn(&WriteTransaction) -> Result<(), redb::Error>,
    ) -> Result<(), StoreError> {
        let slot = self.slot();
        let open = slot.as_ref().map_err(|cause| StoreError::Closed(cause.clone()))?;
        let write = || -> Result<u64, redb::Error> {
            // Nothing is on disk while the opening's own writes are held back.
            open.backend.release()?;
            let write = open.database.begin_write()?;
            change(&write)?;
            let number = schema::number(&write, self.revocation.transaction())?;
            write.commit()?;
            Ok(number)
        };
        // Before anybody is told: a database that loses this transaction later is found out.
        self.revocation.note(write()?);
        Ok(())
    }

    /// After an I/O error redb does nothing any more until the file is opened again.
    fn is_unusable(&self) -> bool {
        self.slot().as_ref().is_ok_and(|open| open.database.begin_write().is_err())
    }

    /// Opens the file again. While that is refused, nothing is read or written.
    fn reopen(&self) {
        let mut slot = self.open.write().unwrap_or_else(PoisonError::into_inner);
        // Closed before it is opened again.
        *slot = Err("it is being opened".into());
        *slot = open::open(&self.directory).map_err(|error| error.to_string());
        if let Err(error) = &*slot {
            tracing::error!(%error, "the store cannot be opened again");
        }
    }

    /// Whether a usual transaction would fit. To try one in vain costs a check of every page afterwards.
    fn has_room(&self) -> io::Result<()> {
        let path = self.directory.join(PROBE);
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
        let written = file.and_then(|mut file| {
            file.write_all(&vec![0; ROOM])?;
            file.sync_data()
        });
        let removed = std::fs::remove_file(&path);
        written.and(removed)
    }

    fn slot(&self) -> RwLockReadGuard<'_, Result<Open, String>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A table that has never been written is not there.
pub(super) fn existing<T>(opened: Result<T, TableError>) -> Result<Option<T>, redb::Error> {
    match opened {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
