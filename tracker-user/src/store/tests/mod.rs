//! The store's tests, by subject.

mod continuity;
mod faults;
mod history;
mod opening;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use super::{Store, StoreError};
use crate::observe::Witness;

/// A state directory, and a place in memory for the witness.
struct Place {
    state: TempDir,
    memory: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { state: tempfile::tempdir().unwrap(), memory: tempfile::tempdir_in("/dev/shm").unwrap() }
    }

    fn path(&self) -> &Path {
        self.state.path()
    }

    fn witness(&self) -> Witness {
        Witness::choose(&[(self.memory.path(), 0o700)]).unwrap()
    }

    fn open(&self) -> Result<Store, StoreError> {
        self.open_at(self.path())
    }

    /// A store that lies elsewhere, with the same witness.
    fn open_at(&self, directory: &Path) -> Result<Store, StoreError> {
        // Another test's thread that starts a program holds, between fork and exec, whatever this process has open, a lock
        // that is just being given up too.
        for _ in 0..200 {
            match Store::open(directory, Some(self.witness())) {
                Err(StoreError::InUse { .. }) => std::thread::sleep(Duration::from_millis(10)),
                opened => return opened,
            }
        }
        Store::open(directory, Some(self.witness()))
    }

    /// The witness's note: where, and what it says.
    fn note(&self) -> (PathBuf, PathBuf) {
        let entry = std::fs::read_dir(self.memory.path()).unwrap().next().unwrap().unwrap();
        (entry.path(), std::fs::read_link(entry.path()).unwrap())
    }
}
