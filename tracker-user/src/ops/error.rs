//! Why an operation was not done: what happened and what helps, in a sentence for the operator.

use std::path::PathBuf;

use crate::auth::application_passwords::NotMade;
use crate::auth::password::local::{BadLocalName, HashError, Weak};
use crate::observe::ObserveError;
use crate::store::{RotationError, StoreError};
use crate::threads::Busy;

/// Why an operation was not done, with its remedy where there is one. Nothing has changed then, but for
/// [`Self::NotKept`].
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// The records cannot be read.
    #[error("the records cannot be read: {0}")]
    Records(#[from] ObserveError),
    /// The daemon is on its way out.
    #[error("the gateway is stopping")]
    Stopping,
    /// The store cannot be read.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// Too much is asked for at once.
    #[error("{0}: try again")]
    Busy(#[from] Busy),
    /// Too many others look at everything at the same time.
    #[error(
        "{walks} others are looking at all sessions or hosts, and none of them was done within {seconds} s: try again"
    )]
    TooMany {
        /// How many may.
        walks: usize,
        /// How long was waited.
        seconds: u64,
    },
    /// As many as may follow the audit trail.
    #[error("{0} programs follow the events already; end one of them (lsof names them)")]
    TooManyFollowers(usize),
    /// It has taken too long.
    #[error("it was not done within {seconds} s, and was given up: try again, or ask for one client alone")]
    TooSlow {
        /// The limit.
        seconds: u64,
    },
    /// The answer would be too large.
    #[error("the answer has more than {most} entries: ask for one client alone")]
    TooLarge {
        /// The limit.
        most: usize,
    },
    /// Nobody is logged in there, or the user is not.
    #[error("{0}")]
    NotFound(String),
    /// The key is not one.
    #[error("{0}")]
    UnknownKey(String),
    /// The value is not one, or not in range.
    #[error("{0}")]
    BadValue(String),
    /// The key takes effect at start only.
    #[error("{key} takes effect at start only: write it into the configuration file and restart trackerd")]
    NeedsRestart {
        /// The full key.
        key: String,
    },
    /// There is nothing to unset.
    #[error("{key} was not set by trackerctl set: its value is the {}", if *.stated { "configuration file's" } else { "default" })]
    NotSet {
        /// The full key.
        key: String,
        /// Whether the file has it.
        stated: bool,
    },
    /// A setting could not be kept; nothing was changed.
    #[error("{0}; nothing was changed")]
    NotChanged(StoreError),
    /// No user can have this name.
    #[error("{0}")]
    BadUserName(#[from] BadLocalName),
    /// Somebody at the pages would take the right to administer from themselves.
    #[error(
        "you would administer the gateway no more by this value of {key}: another administrator can set it, or trackerctl on the \
         gateway; nothing was changed"
    )]
    OwnRole {
        /// The full key.
        key: String,
    },
    /// There is a user of this name.
    #[error("there is a local user {0} already: trackerctl user password sets another password")]
    UserExists(String),
    /// The pages would take away the last administrator, and with that themselves.
    #[error(
        "{0} is the only local user who may administer the gateway, which stays so on these pages: make somebody else an \
         administrator first, or use trackerctl user on the gateway"
    )]
    LastAdministrator(String),
    /// The password is none that a user is given.
    #[error("{0}; nothing was changed")]
    WeakPassword(#[from] Weak),
    /// The application password may not be made.
    #[error("{0}; nothing was changed")]
    NotMade(#[from] NotMade),
    /// As many as may be.
    #[error("there are {0} local users, which is all that there may be: remove some")]
    TooManyUsers(usize),
    /// A password cannot be kept.
    #[error("{0}; nothing was changed")]
    NotHashed(#[from] HashError),
    /// What was typed means several.
    #[error("{0}")]
    Ambiguous(String),
    /// The key of the second factor was not changed, or not wholly.
    #[error("{0}")]
    NotRotated(#[from] RotationError),
    /// The file is bad; the earlier settings stand.
    #[error("{} was refused, the earlier settings stand: {problem}", .path.display())]
    BadFile {
        /// The file.
        path: PathBuf,
        /// All that is wrong with it.
        problem: String,
    },
    /// Nobody can be logged out: the store takes no note of it.
    #[error("{0}")]
    Unkept(String),
    /// Sessions ended, but a restart may bring them back.
    #[error("{ended} ended, but not on disk: {problem}")]
    NotKept {
        /// How many.
        ended: usize,
        /// Why the store took no note of it.
        problem: String,
    },
}

/// What kind of refusal it is, for a skin that has to choose a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// What was asked for cannot be: the asker's mistake.
    Wrong,
    /// There is no such thing.
    NotFound,
    /// Not as things stand.
    Conflict,
    /// The disk does not take it.
    NoRoom,
    /// Not now.
    Unavailable,
}

impl OpsError {
    /// What kind of refusal it is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownKey(_) | Self::BadValue(_) | Self::BadUserName(_) => ErrorKind::Wrong,
            Self::NotFound(_) | Self::NotSet { .. } => ErrorKind::NotFound,
            Self::NeedsRestart { .. }
            | Self::OwnRole { .. }
            | Self::UserExists(_)
            | Self::Ambiguous(_)
            | Self::WeakPassword(_)
            | Self::NotMade(_)
            | Self::TooManyUsers(_)
            | Self::LastAdministrator(_)
            | Self::BadFile { .. } => ErrorKind::Conflict,
            Self::NotChanged(_) | Self::NotKept { .. } | Self::NotRotated(_) => ErrorKind::NoRoom,
            Self::Records(_)
            | Self::Stopping
            | Self::NotHashed(_)
            | Self::Store(_)
            | Self::Busy(_)
            | Self::TooMany { .. }
            | Self::TooManyFollowers(_)
            | Self::TooSlow { .. }
            | Self::TooLarge { .. }
            | Self::Unkept(_) => ErrorKind::Unavailable,
        }
    }
}
