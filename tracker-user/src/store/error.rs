//! Why the store cannot be used, each with its remedy.

use std::path::PathBuf;

use super::revocation;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The state directory cannot be made or written.
    #[error(
        "the state directory {path} cannot be used: {source}; make it writable for the daemon and see that its disk has \
         room, or set state-dir"
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
    /// It was written by a later version.
    #[error(
        "{path} was written by a newer trackerd (layout {found}, this one knows {known}); it was left as it is: run \
         that version again, restore a backup from before the upgrade, or move the file away to begin anew"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        found: u64,
        /// The newest layout that is known here.
        known: u64,
    },
    /// A transaction failed.
    #[error("the store failed: {0}")]
    Failed(#[from] redb::Error),
    /// It failed before, and cannot be opened again.
    #[error("the store is closed after a failure: {0}")]
    Closed(String),
}

/// What was decided is not in the database.
#[derive(Clone, Debug)]
pub struct Unkept {
    /// Why, and what to do.
    pub problem: String,
    /// The revocation mark says that the sessions on disk are void: what has ended does not come back, also after a crash.
    pub revoked: bool,
}

impl Unkept {
    /// The journal takes nothing any more.
    #[must_use]
    pub fn closed() -> Self {
        Self { problem: "the gateway is stopping".into(), revoked: false }
    }
}

impl std::fmt::Display for Unkept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.problem)?;
        if self.revoked {
            return f.write_str("; a restart now would log everybody out");
        }
        write!(
            f,
            "; the mark {} could not be written either: a restart now would revive what has ended",
            revocation::FILE
        )
    }
}
