//! The revocation mark: a small file beside the database, made when there is room, overwritten in place when there is
//! none. It is also the state directory's lock.
//!
//! A full disk refuses transactions, also those that delete. The mark says that every session on disk is void; writing
//! it needs no new block. It also says which file the database is, what was last written to it and when: see
//! [continuity](super::continuity).

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::continuity::{FileFacts, Record, Tip, nanos};
use crate::clock::wall_now;
use crate::private;

/// The file's name in the state directory.
pub(super) const FILE: &str = "revoked";
const NOTHING: &[u8; 16] = b"nothing revoked\n";
const EVERYTHING: &[u8; 16] = b"all are revoked\n";
/// Written whole, so that the file system has its block, and no disk writes half of it.
const LENGTH: usize = 512;

/// See the module.
#[derive(Debug)]
pub(super) struct Revocation {
    file: File,
    said: Mutex<Said>,
}

/// What the file says.
#[derive(Debug)]
struct Said {
    void: bool,
    record: Option<Record>,
}

/// What the mark said when it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The sessions on disk are void.
    pub(super) void: bool,
    /// What it knows of the database.
    pub(super) record: Option<Record>,
    /// When its file was last changed, in nanoseconds of wall time.
    pub(super) changed: i64,
}

impl Revocation {
    /// Opens the mark in `directory` and makes it where it is missing; `None` if another process holds it.
    ///
    /// # Errors
    /// When the file cannot be made or read.
    pub(super) fn open(directory: &Path) -> io::Result<Option<(Self, Mark)>> {
        let path = directory.join(FILE);
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(private::FILE);
        let made = options.clone().create_new(true).open(&path);
        let (file, is_new) = match made {
            Ok(file) => (file, true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (options.open(&path)?, false),
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        if is_new {
            let made = file.write_all_at(&content(false, None), 0).and_then(|()| file.sync_all());
            // Its name must survive, too: else a power cut could take the mark with what it says.
            if let Err(error) = made.and_then(|()| File::open(directory)?.sync_all()) {
                let _ = std::fs::remove_file(&path);
                return Err(error);
            }
        }
        let changed = FileFacts::of(&file.metadata()?).changed;
        let mut content = [0; LENGTH];
        let length = read(&file, &mut content)?;
        let said = parse(content.get(..length).unwrap_or_default());
        let mark = Mark { void: said.void, record: said.record.clone(), changed };
        Ok(Some((Self { file, said: Mutex::new(said) }, mark)))
    }

    /// A run begins with the database that `record` speaks of; it says from now on whether the sessions on disk are void.
    /// On disk when this returns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn begin(&self, record: Record, void: bool, path: &Path) -> io::Result<()> {
        self.change(true, |said| *said = Said { void, record: Some(record) })?;
        // What is written last: this changes the file, too.
        private::file(&self.file, &path.join(FILE))
    }

    /// Every session on disk is void. On disk when this returns.
    ///
    /// # Errors
    /// When even that cannot be written.
    pub(super) fn void_all(&self) -> io::Result<()> {
        self.change(true, |said| said.void = true)
    }

    /// The sessions on disk are what they are again.
    pub(super) fn lift(&self) {
        if let Err(error) = self.change(true, |said| said.void = false) {
            // Fails closed: everybody proves themselves again after the next start.
            tracing::warn!(%error, "the revocation mark stays: the next start begins without sessions");
        }
    }

    /// A transaction is on disk. Not synced: a power cut must not cost two flushes a login.
    pub(super) fn note(&self, tip: Tip, changed: i64) {
        let noted = self.change(false, |said| {
            if let Some(record) = &mut said.record {
                (record.tip, record.file.changed) = (Some(tip), changed);
            }
        });
        if let Err(error) = noted {
            tracing::debug!(%error, "the mark does not know the last transaction");
        }
    }

    /// The database is closed, and was last changed then. On disk when this returns.
    pub(super) fn close(&self, changed: i64) {
        let closed = self.change(true, |said| {
            if let Some(record) = &mut said.record {
                (record.closed, record.file.changed) = (true, changed);
            }
        });
        if let Err(error) = closed {
            tracing::debug!(%error, "the mark does not know of the orderly end");
        }
    }

    /// Written in one piece, always: nothing but this changes the file, and it says when.
    fn change(&self, sync: bool, change: impl FnOnce(&mut Said)) -> io::Result<()> {
        let mut said = self.said();
        change(&mut said);
        if let Some(record) = &mut said.record {
            record.written = nanos(wall_now());
        }
        self.file.write_all_at(&content(said.void, said.record.as_ref()), 0)?;
        if sync { self.file.sync_all() } else { Ok(()) }
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn content(void: bool, record: Option<&Record>) -> Vec<u8> {
    let record = record.map_or_else(String::new, ToString::to_string);
    let mut content = if void { EVERYTHING } else { NOTHING }.to_vec();
    content.extend(record.as_bytes());
    // A record that is too long would be read as none.
    content.resize(LENGTH - 1, b' ');
    content.push(b'\n');
    content
}

/// How much there is, up to the whole length.
fn read(file: &File, into: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = into.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, length as u64)? {
            0 => break,
            count => length += count,
        }
    }
    Ok(length)
}

/// What cannot be read says that everything is void: it fails closed.
fn parse(content: &[u8]) -> Said {
    let (mark, rest) = content.split_at_checked(NOTHING.len()).unwrap_or_default();
    let whole = content.len() == LENGTH && rest.ends_with(b"\n");
    let text = std::str::from_utf8(rest).ok().filter(|_| whole);
    let record = text.and_then(|text| text.parse().ok());
    let is_good = mark == NOTHING && (record.is_some() || text.is_some_and(|text| text.trim().is_empty()));
    Said { void: !is_good, record }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn open(directory: &Path) -> (Revocation, Mark) {
        Revocation::open(directory).unwrap().unwrap()
    }

    fn record() -> Record {
        Record {
            closed: false,
            run: u128::MAX,
            tip: None,
            file: FileFacts { inode: u64::MAX, born: i64::MIN, changed: i64::MIN },
            written: 0,
            boot: "01234567-89ab-cdef-0123-456789abcdef".into(),
            host: "0123456789abcdef0123456789abcdef".into(),
        }
    }

    #[test]
    fn the_mark_is_kept_until_it_is_lifted() {
        let directory = tempfile::tempdir().unwrap();
        let (mark, said) = open(directory.path());
        assert_eq!((said.void, said.record), (false, None));
        assert!(Revocation::open(directory.path()).unwrap().is_none(), "it is a lock");
        mark.begin(record(), false, directory.path()).unwrap();
        let tip = Tip { run: u128::MAX, number: u64::MAX };
        mark.note(tip, 41);
        mark.void_all().unwrap();
        mark.note(tip, i64::MIN);
        drop(mark);
        let (mark, said) = open(directory.path());
        let noted = said.record.unwrap();
        assert!(said.void);
        assert_eq!((noted.tip, noted.file), (Some(tip), record().file));
        assert!(said.changed.abs_diff(noted.written) < 1_000_000_000, "it knows when it was written");
        mark.lift();
        mark.close(42);
        drop(mark);
        let said = open(directory.path()).1;
        let noted = said.record.unwrap();
        assert_eq!((said.void, noted.closed, noted.file.changed), (false, true, 42));
        let meta = std::fs::metadata(directory.path().join(FILE)).unwrap();
        assert_eq!((meta.len(), meta.mode() & 0o777), (LENGTH as u64, private::FILE));
    }

    #[test]
    fn what_is_torn_voids() {
        let directory = tempfile::tempdir().unwrap();
        let whole = |void, record: Option<&Record>| String::from_utf8(content(void, record)).unwrap();
        let good = whole(false, Some(&record()));
        for (content, void) in [
            (String::new(), true),
            ("nothing revo".into(), true),
            ("nothing revoked\n".into(), true),
            ("nothing revoked\n00000000000000000009\n".into(), true),
            (good.replace("open", "oxen"), true),
            (good[..LENGTH - 1].into(), true),
            (good, false),
            (whole(false, None), false),
            (whole(true, Some(&record())), true),
        ] {
            std::fs::write(directory.path().join(FILE), &content).unwrap();
            let (mark, said) = open(directory.path());
            assert_eq!(said.void, void, "{content:?}");
            // Whatever it was, it is whole once it is lifted.
            mark.lift();
            drop(mark);
            assert!(!open(directory.path()).1.void, "{content:?}");
        }
    }
}
