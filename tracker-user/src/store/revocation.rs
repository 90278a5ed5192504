//! The revocation mark: a small file, made when there is room, overwritten in place when there is none.
//!
//! A full disk refuses transactions, also those that delete. The mark says that every session on disk is void; writing
//! it needs no new block.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The file's name in the state directory.
pub const FILE: &str = "revoked";
/// Written whole, so that the file system has its block.
const NOTHING: &[u8; 16] = b"nothing revoked\n";
const EVERYTHING: &[u8; 16] = b"all are revoked\n";

/// See the module.
#[derive(Debug)]
pub struct Revocation {
    file: File,
}

impl Revocation {
    /// Opens the mark in `directory` and makes it where it is missing. True if the sessions on disk are void.
    ///
    /// # Errors
    /// When the file cannot be made or read.
    pub fn open(directory: &Path) -> io::Result<(Self, bool)> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join(FILE))?;
        let mut mark = [0; NOTHING.len()];
        let void = match file.read_exact_at(&mut mark, 0) {
            Ok(()) => &mark != NOTHING,
            // New, or torn while it was made: nothing can have been revoked with it.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                file.write_all_at(NOTHING, 0)?;
                file.sync_all()?;
                false
            }
            Err(error) => return Err(error),
        };
        Ok((Self { file }, void))
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
        let lifted = self.file.write_all_at(NOTHING, 0).and_then(|()| self.file.sync_data());
        if let Err(error) = lifted {
            // Fails closed: everybody proves themselves again after the next start.
            tracing::warn!(%error, "the revocation mark stays: the next start begins without sessions");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_kept_until_it_is_lifted() {
        let directory = tempfile::tempdir().unwrap();
        let (mark, void) = Revocation::open(directory.path()).unwrap();
        assert!(!void);
        mark.void_all().unwrap();
        let (mark, void) = Revocation::open(directory.path()).unwrap();
        assert!(void);
        mark.lift();
        assert!(!Revocation::open(directory.path()).unwrap().1);
    }
}
