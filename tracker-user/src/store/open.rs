//! Opening the database: every page is checked before a byte of the file is written.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use redb::{Builder, Database, DatabaseError, ReadableDatabase, WriteTransaction};

use super::backend::Backend;
use super::continuity::FileFacts;
use super::embedded::FILE;
use super::error::StoreError;
use super::schema::{self, Imprint, Layout, SCHEMA};
use crate::types::GatewayId;
use crate::{panics, private};

/// A new database is made beside its place, and put there when it is whole.
pub(super) const ASIDE: &str = "tracker.redb.new";
/// redb keeps so much of the file in memory at most.
const CACHE: usize = 8 << 20;

/// An open database, and the way to its file.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) database: Database,
    pub(super) backend: Backend,
}

/// What was found, before anything was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// The file.
    pub(super) file: FileFacts,
    /// It was made just now.
    pub(super) is_new: bool,
    /// What it says it is.
    pub(super) says: Imprint,
}

/// Opens the database in `directory`, and makes it where it is missing. The state directory's lock is held. `look` is
/// called with what was found when the file has proved to be ours and whole, and before it is written; what it refuses
/// stays as it was. It says which gateway's the database is from now on.
pub(super) fn open(
    directory: &Path,
    look: impl FnOnce(Seen) -> Result<GatewayId, StoreError>,
) -> Result<Open, StoreError> {
    let path = directory.join(FILE);
    if !path.try_exists().map_err(|source| unusable(directory, source))? {
        let open = create(directory, &path)?;
        // The first transaction says whose it is.
        look(Seen { file: facts(&path, directory)?, is_new: true, says: Imprint::default() })?;
        return Ok(open);
    }
    let file = OpenOptions::new().read(true).write(true).open(&path);
    let file = file.map_err(|source| unusable(directory, source))?;
    let meta = file.metadata().map_err(|source| unusable(directory, source))?;
    // An empty file would be taken for a new database: it may be what a full disk left of an old one.
    if meta.len() == 0 {
        return Err(StoreError::Foreign { path, reason: "it is empty".into() });
    }
    let foreign = |error: redb::Error| StoreError::Foreign { path: path.clone(), reason: error.to_string() };
    let (open, layout, says) = reading(&path, || -> Result<_, StoreError> {
        let open = build(file, directory, &path)?;
        let layout = layout(&open).map_err(foreign)?;
        let says = match layout {
            Layout::Known(_) => imprint(&open).map_err(foreign)?,
            Layout::Empty => Imprint::default(),
            Layout::Newer(found) => {
                return Err(StoreError::Newer { path: path.clone(), found, known: SCHEMA });
            }
            Layout::Foreign => {
                let reason = "another program's database".into();
                return Err(StoreError::Foreign { path: path.clone(), reason });
            }
        };
        Ok((open, layout, says))
    })?;
    let gateway = look(Seen { file: FileFacts::of(&meta), is_new: false, says })?;
    match layout {
        Layout::Known(SCHEMA) => {}
        Layout::Known(older) => migrate(&open, directory, |write| schema::migrate(write, older, gateway))?,
        _ => migrate(&open, directory, |write| schema::migrate(write, 0, gateway))?,
    }
    // On a full disk this fails: then the database can be read, and is written once there is room.
    if let Err(error) = open.backend.release() {
        tracing::warn!(%error, "the store can be read, but not written");
    }
    Ok(open)
}

fn create(directory: &Path, path: &Path) -> Result<Open, StoreError> {
    let aside = directory.join(ASIDE);
    let make = || -> Result<Open, StoreError> {
        // One that was left there keeps the mode that it has.
        let _ = std::fs::remove_file(&aside);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(private::FILE);
        let file = options.open(&aside).map_err(|source| unusable(directory, source))?;
        let open = build(file, directory, path)?;
        migrate(&open, directory, schema::begin)?;
        std::fs::rename(&aside, path).map_err(|source| unusable(directory, source))?;
        let kept = File::open(directory).and_then(|directory| directory.sync_all());
        kept.map_err(|source| unusable(directory, source))?;
        Ok(open)
    };
    make().inspect_err(|_| {
        let _ = std::fs::remove_file(&aside);
    })
}

/// Does `work`, which reads the file at `path` and writes nothing. Should redb break its promise (below) and panic, the
/// process ends with the words that a damaged file is refused with.
fn reading<T>(path: &Path, work: impl FnOnce() -> T) -> T {
    let refused = StoreError::Foreign { path: path.into(), reason: "reading it ended in a panic".into() };
    panics::advised(refused.to_string(), work)
}

/// Opens and checks; what that would write is held back.
fn build(file: File, directory: &Path, path: &Path) -> Result<Open, StoreError> {
    let foreign = |reason: String| StoreError::Foreign { path: path.into(), reason };
    let backend = Backend::new(file).map_err(|error| foreign(error.to_string()))?;
    let mut builder = Builder::new();
    // redb promises an error instead of a panic only where it was asked to check every page.
    builder.set_check_integrity_on_open(true).set_cache_size(CACHE);
    let database = builder.create_with_backend(backend.clone()).map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { path: path.into() },
        DatabaseError::Storage(redb::StorageError::Io(source)) if is_environment(&source) => {
            unusable(directory, source)
        }
        other => foreign(other.to_string()),
    })?;
    Ok(Open { database, backend })
}

/// What the file system says of the file.
pub(super) fn facts(path: &Path, directory: &Path) -> Result<FileFacts, StoreError> {
    let meta = std::fs::metadata(path).map_err(|source| unusable(directory, source))?;
    Ok(FileFacts::of(&meta))
}

fn imprint(open: &Open) -> Result<Imprint, redb::Error> {
    schema::imprint(&open.database.begin_read()?)
}

fn layout(open: &Open) -> Result<Layout, redb::Error> {
    schema::layout(&open.database.begin_read()?)
}

/// Writes the layout of this version.
fn migrate(
    open: &Open,
    directory: &Path,
    change: impl Fn(&WriteTransaction) -> Result<(), redb::Error>,
) -> Result<(), StoreError> {
    let write = || -> Result<(), redb::Error> {
        open.backend.release()?;
        let write = open.database.begin_write()?;
        change(&write)?;
        Ok(write.commit()?)
    };
    write().map_err(|error| match error {
        redb::Error::Io(source) if is_environment(&source) => unusable(directory, source),
        other => StoreError::Failed(other),
    })
}

/// Whether an error speaks of the place rather than of the file's content.
fn is_environment(error: &io::Error) -> bool {
    use io::ErrorKind::{NotFound, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | StorageFull | QuotaExceeded | NotFound)
}

pub(super) fn unusable(directory: &Path, source: io::Error) -> StoreError {
    StoreError::Directory { path: PathBuf::from(directory), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::panics::tests::{assert_aborted, in_a_process};

    #[test]
    fn a_panic_over_a_damaged_file_names_it_and_the_remedy() {
        let path = Path::new("/state/tracker.redb");
        let work = || reading(path, || panic!("of a test"));
        let name = "a_panic_over_a_damaged_file_names_it_and_the_remedy";
        let output = in_a_process(module_path!(), name, work);
        assert_aborted(
            &output,
            "trackerd: /state/tracker.redb is damaged or not the tracker's (reading it ended in a panic)",
        );
        assert_aborted(&output, "restore it from a backup, or move it away to begin anew");
    }
}
