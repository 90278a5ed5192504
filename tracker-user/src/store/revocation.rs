//! The revocation mark: a small file beside the database, made when there is room, overwritten in place when there is
//! none. It is also the state directory's lock.
//!
//! A full disk refuses transactions, also those that delete. The mark says that every session on disk is void; writing
//! it needs no new block. It also says how far the database has come: a database that is behind its mark has lost
//! transactions, by damage or because an older copy was put in its place, and its sessions are void as well.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The file's name in the state directory.
pub const FILE: &str = "revoked";
const NOTHING: &[u8; 16] = b"nothing revoked\n";
const EVERYTHING: &[u8; 16] = b"all are revoked\n";
/// The number of the last transaction, in so many digits and a line's end, comes after that.
const DIGITS: usize = 20;
/// Written whole, so that the file system has its block.
const LENGTH: usize = NOTHING.len() + DIGITS + 1;

/// See the module.
#[derive(Debug)]
pub struct Revocation {
    file: File,
    /// The highest number noted.
    noted: Mutex<u64>,
}

/// What the mark said when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The sessions on disk are void.
    pub void: bool,
    /// The last transaction that was answered, as far as the mark has been told.
    pub transaction: u64,
}

impl Revocation {
    /// Opens the mark in `directory` and makes it where it is missing; `None` if another process holds it.
    ///
    /// # Errors
    /// When the file cannot be made or read.
    pub fn open(directory: &Path) -> io::Result<Option<(Self, Mark)>> {
        let path = directory.join(FILE);
        let mut options = OpenOptions::new();
        options.read(true).write(true);
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
            let made = file.write_all_at(&content(NOTHING, 0), 0).and_then(|()| file.sync_all());
            // Its name must survive, too: else a power cut could take the mark with what it says.
            if let Err(error) = made.and_then(|()| File::open(directory)?.sync_all()) {
                let _ = std::fs::remove_file(&path);
                return Err(error);
            }
        }
        let mut content = [0; LENGTH];
        let length = read(&file, &mut content)?;
        let mark = parse(content.get(..length).unwrap_or_default());
        Ok(Some((Self { file, noted: Mutex::new(mark.transaction) }, mark)))
    }

    /// Every session on disk is void. On disk when this returns.
    ///
    /// # Errors
    /// When even that cannot be written.
    pub fn void_all(&self) -> io::Result<()> {
        self.file.write_all_at(EVERYTHING, 0)?;
        self.file.sync_data()
    }

    /// The sessions on disk are what they are again.
    pub fn lift(&self) {
        let noted = *self.noted();
        let lifted = self.file.write_all_at(&content(NOTHING, noted), 0).and_then(|()| self.file.sync_data());
        if let Err(error) = lifted {
            // Fails closed: everybody proves themselves again after the next start.
            tracing::warn!(%error, "the revocation mark stays: the next start begins without sessions");
        }
    }

    /// A transaction is on disk. Not synced: after a power cut the mark may be behind the database, which says nothing.
    pub(super) fn note(&self, transaction: u64) {
        let mut noted = self.noted();
        if transaction > *noted {
            *noted = transaction;
            let digits = format!("{transaction:0DIGITS$}\n");
            if let Err(error) = self.file.write_all_at(digits.as_bytes(), NOTHING.len() as u64) {
                tracing::debug!(%error, "the mark does not know the last transaction");
            }
        }
    }

    /// The highest transaction noted.
    pub(super) fn transaction(&self) -> u64 {
        *self.noted()
    }

    fn noted(&self) -> std::sync::MutexGuard<'_, u64> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn content(mark: &[u8; 16], transaction: u64) -> Vec<u8> {
    [mark.as_slice(), format!("{transaction:0DIGITS$}\n").as_bytes()].concat()
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
fn parse(content: &[u8]) -> Mark {
    let (mark, rest) = content.split_at_checked(NOTHING.len()).unwrap_or_default();
    let digits = rest.strip_suffix(b"\n").filter(|digits| digits.len() == DIGITS);
    let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
    // The first version of the mark knew no transactions.
    let transaction = if rest.is_empty() { Some(0) } else { digits.and_then(|digits| digits.parse().ok()) };
    Mark { void: mark != NOTHING || transaction.is_none(), transaction: transaction.unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> (Revocation, Mark) {
        Revocation::open(directory).unwrap().unwrap()
    }

    #[test]
    fn the_mark_is_kept_until_it_is_lifted() {
        let directory = tempfile::tempdir().unwrap();
        let (mark, said) = open(directory.path());
        assert_eq!(said, Mark { void: false, transaction: 0 });
        assert!(Revocation::open(directory.path()).unwrap().is_none(), "it is a lock");
        mark.note(41);
        mark.void_all().unwrap();
        mark.note(42);
        mark.note(7);
        drop(mark);
        let (mark, said) = open(directory.path());
        assert_eq!(said, Mark { void: true, transaction: 42 });
        mark.lift();
        drop(mark);
        assert_eq!(open(directory.path()).1, Mark { void: false, transaction: 42 });
    }

    #[test]
    fn what_is_torn_voids_and_what_is_old_is_read() {
        let directory = tempfile::tempdir().unwrap();
        for (content, void) in [
            ("", true),
            ("nothing revo", true),
            ("nothing revoked\n", false),
            ("nothing revoked\n0000", true),
            ("nothing revoked\n0000000000000000000x\n", true),
            ("nothing revoked\n00000000000000000009\n", false),
            ("all are revoked\n00000000000000000009\n", true),
        ] {
            std::fs::write(directory.path().join(FILE), content).unwrap();
            let (mark, said) = open(directory.path());
            assert_eq!(said.void, void, "{content:?}");
            // Whatever it was, it is whole once it is lifted.
            mark.lift();
            drop(mark);
            assert!(!open(directory.path()).1.void, "{content:?}");
        }
    }
}
