//! `detach`: the one command that works on the kernel side itself, without the daemon.

use std::path::{Path, PathBuf};

use crate::config::{Config, ConfigError, DEFAULT_PATH};
use crate::observe::{ObserveError, Observer};

/// Why nothing was detached.
#[derive(Debug, thiserror::Error)]
pub(super) enum DetachError {
    /// The configuration file, which says where to look, cannot be read.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The kernel side is in use, or not ours to touch.
    #[error("{0}")]
    Observer(#[from] ObserveError),
    /// There is none.
    #[error("no kernel side is pinned in {}; --pin-dir or --config names another place", .0.display())]
    Nothing(PathBuf),
}

/// Detaches what is pinned where `pin_dir` or the configuration says, and returns where that was.
pub(super) fn detach(config: Option<&Path>, pin_dir: Option<&Path>) -> Result<PathBuf, DetachError> {
    let pin_dir = match pin_dir {
        Some(path) => path.to_owned(),
        None => configured(config)?.observer.pin_dir,
    };
    if Observer::detach(&pin_dir)? { Ok(pin_dir) } else { Err(DetachError::Nothing(pin_dir)) }
}

/// As the daemon reads it: the file that was named must be there, the default one may be missing.
pub(super) fn configured(named: Option<&Path>) -> Result<Config, ConfigError> {
    match Config::read(named.unwrap_or(Path::new(DEFAULT_PATH))) {
        Err(error) if named.is_none() && error.is_missing() => Ok(Config::default()),
        read => read,
    }
}
