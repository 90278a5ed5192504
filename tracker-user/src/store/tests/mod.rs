//! The store's tests, by subject.

mod continuity;
mod events;
mod faults;
mod history;
mod layouts;
mod opening;
mod users;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tempfile::TempDir;

use super::{Store, StoreError};
use crate::audit;
use crate::audit::TrailEntry;
use crate::clock::BootTime;
use crate::observe::Witness;
use crate::session::{Event, Proved, Reason, What};
use crate::types::{ClientAddr, Factors, Identity, Method, SessionId};

/// A login.
fn login() -> What {
    What::Login(Proved { method: Method::Kerberos, factors: Factors::NONE })
}

/// A renewal.
fn renewed() -> What {
    What::Renewed(Proved { method: Method::Kerberos, factors: Factors::NONE })
}

/// An end after so many seconds.
fn ended(reason: Reason, seconds: u64) -> What {
    let duration = Duration::from_secs(seconds);
    What::Ended { reason, duration, by: None, was_stale: false, traffic_before: None }
}

/// Something that happened to a session.
fn event(
    time: Timestamp,
    what: What,
    client: ClientAddr,
    session: u64,
    identity: Identity,
) -> Arc<TrailEntry> {
    let event = Event {
        at: BootTime::default(),
        client,
        connection: None,
        session: SessionId::test(session),
        identity: Arc::new(identity),
        what,
    };
    Arc::new(TrailEntry { time, event: audit::Event::Session(event.into()) })
}

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
