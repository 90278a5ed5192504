//! Taking a second factor away while the daemon does not run: in its database. Whoever may write that may do it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::admin::client::ClientError;
use crate::admin::server::witnesses;
use crate::admin::wire;
use crate::audit::{Actor, FactorChange};
use crate::auth::factors;
use crate::cli::detach::configured;
use crate::config::{Config, ConfigError};
use crate::observe::Witness;
use crate::store::embedded::FILE;
use crate::store::{SealedRow, SealedTable, Store, StoreError};
use crate::types::{Identity, UserQuery};

const TABLE: SealedTable = SealedTable::SecondFactors;

/// Why nothing was taken away.
#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum OfflineError {
    /// The configuration file, which says where to look, cannot be read.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// There is no database.
    #[error("there is no database in {}; --config names the configuration file that says where it is", .0.display())]
    Nothing(PathBuf),
    /// The database is in use.
    #[error("{} is in use: trackerd runs; stop it, or leave --offline out (--socket names its socket)", .0.display())]
    InUse(PathBuf),
    /// It may not be opened.
    #[error("{0}; run trackerctl as root")]
    Privilege(StoreError),
    /// It cannot be used.
    #[error("{0}")]
    Store(StoreError),
    /// Nobody is meant, or several are.
    #[error("{0}")]
    Meant(String),
    /// The daemon does not answer, and it could not be done without it.
    #[error("{error}; {cause}")]
    Unreachable {
        /// What the daemon's socket said.
        error: String,
        /// What the database said.
        cause: String,
    },
}

impl OfflineError {
    /// The same, for whoever has asked the daemon first.
    pub(super) fn behind(self, error: &ClientError) -> Self {
        match self {
            // It was looked for, and that is the answer.
            Self::Meant(_) | Self::Privilege(_) => self,
            cause => Self::Unreachable { error: error.to_string(), cause: cause.to_string() },
        }
    }
}

impl From<StoreError> for OfflineError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::InUse { path } => Self::InUse(path),
            StoreError::Directory { ref source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Self::Privilege(error)
            }
            error => Self::Store(error),
        }
    }
}

/// Whether it is tried without being asked for.
pub(super) fn may() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Takes away what a user has set up, with a line in the audit trail: both are on disk when this returns, or neither.
pub(super) fn reset(config: Option<&Path>, user: &str) -> Result<wire::FactorsReset, OfflineError> {
    let config = configured(config)?;
    let path = config.state_dir.join(FILE);
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Err(OfflineError::Nothing(config.state_dir)),
        Err(source) => return Err(StoreError::Directory { path: config.state_dir, source }.into()),
    }
    // As the daemon takes it: else a crash before this would void the sessions.
    let witness = Witness::choose(&witnesses(&config)).ok();
    let store = Store::open(&config.state_dir, witness)?;
    let done = reset_in(&store, &config, &UserQuery::from(user));
    store.close();
    done
}

fn reset_in(store: &Store, config: &Config, query: &UserQuery) -> Result<wire::FactorsReset, OfflineError> {
    let rows = store.sealed(TABLE)?;
    let mut found: Vec<(String, Identity)> = rows
        .into_iter()
        .map(|(key, _)| {
            let identity = config.identity_of(&key);
            (key, identity)
        })
        .filter(|(_, identity)| identity.is_called(query))
        .collect();
    let Some((key, identity)) = found.pop() else {
        return Err(OfflineError::Meant(format!("nobody called {query} has set up a second factor")));
    };
    if !found.is_empty() {
        return Err(OfflineError::Meant(format!(
            "several are called {query}: name one of them with the domain; nothing was changed"
        )));
    }
    let who = Arc::new(identity);
    let row = SealedRow { table: TABLE, key, value: None };
    let line = factors::line(&who, None, FactorChange::Reset, None, Some(Actor::offline()));
    store.put_sealed(&[row], Some(&line))?;
    Ok(wire::FactorsReset {
        user: who.user().into(),
        domain: who.domain().into(),
        realm: who.hidden_realm().map(Into::into),
        offline: true,
        warning: None,
    })
}
