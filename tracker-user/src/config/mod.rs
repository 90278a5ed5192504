//! The configuration: raw text to typed values, all problems reported at once.
//!
//! [`keys`] is the one table of keys. Reading a file ([`Config::read`]), `trackerctl get` and `set` ([`keys::find`]), what a
//! reload changes ([`Config::differences`]) and docs/CONFIGURATION.md all go by it. Nothing here reads anything but the file.

mod check;
mod codec;
mod document;
mod identities;
pub mod keys;
mod listeners;
mod node;
mod problem;
mod roles;
mod second_factor;
mod span;
mod suggest;
mod text;
mod types;
mod values;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

pub use keys::Key;
pub use listeners::Listen;
use nix::fcntl::OFlag;
pub use problem::{ConfigError, Problem};
pub use span::show as show_span;
pub use types::*;
pub use values::{
    AllowedDestination, Basic, ChannelBindings, KerberosTrust, MachineAccounts, ObserverMode, PasskeyUse,
    SecondFactorPolicy,
};

/// The file that is read where none is named.
pub const DEFAULT_PATH: &str = "/etc/tracker/tracker.toml";
/// No configuration is larger.
const MOST_BYTES: u64 = 4 << 20;

/// A configuration file: what it comes to, and which keys it states, be it with their defaults.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// The keys that it states, and the defaults of the others.
    pub config: Config,
    /// The full names of the keys that it states.
    pub stated: BTreeSet<&'static str>,
}

/// Of a file, and of nothing else: a pipe or a device could take for ever, and whoever reads is the daemon.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    // Without it, opening a pipe waits for its other end.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(io::Error::other("it is no file; write the configuration into one"));
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::other(format!("it has more than {} MiB", MOST_BYTES >> 20)));
    }
    Ok(bytes)
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    /// As [`Config::read`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let bytes =
            bytes(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        match str::from_utf8(&bytes) {
            Ok(text) => Self::parse(text, path),
            Err(error) => {
                let sound = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let problem = Problem {
                    line: 1 + sound.iter().filter(|byte| **byte == b'\n').count(),
                    key: String::new(),
                    message: "is not UTF-8 text".to_owned(),
                    remedy: "save the file as UTF-8".to_owned(),
                };
                Err(ConfigError::Invalid { path: path.to_owned(), problems: vec![problem] })
            }
        }
    }

    /// Reads the text of a file called `name`.
    ///
    /// # Errors
    /// As [`Config::parse`].
    pub fn parse(text: &str, name: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        let mut config = Config::default();
        match document::apply(text, &mut config) {
            (problems, stated) if problems.is_empty() => Ok(Self { config, stated }),
            (problems, _) => Err(ConfigError::Invalid { path: name.into(), problems }),
        }
    }

    /// What the file says of a key, as [`Key::set`] takes it; `None` if it says nothing.
    #[must_use]
    pub fn statement(&self, key: &Key) -> Option<String> {
        self.stated.contains(key.name()).then(|| key.get(&self.config))
    }
}

impl Config {
    /// Reads a file. Every key that it does not have keeps its default.
    ///
    /// # Errors
    /// When the file cannot be read ([`ConfigError::is_missing`] tells whether it is there at all) or is not right.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Document::read(path).map(|document| document.config)
    }

    /// What can be understood of a file that [`Config::read`] refuses: to look at what it means, never to go by. The
    /// defaults where it cannot be read at all.
    #[must_use]
    pub fn salvaged(path: &Path) -> Self {
        let mut config = Self::default();
        document::apply(&String::from_utf8_lossy(&bytes(path).unwrap_or_default()), &mut config);
        config
    }

    /// Reads the text of a file called `name`.
    ///
    /// # Errors
    /// When it is not right, with everything that is wrong with it.
    pub fn parse(text: &str, name: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        Self::default().with(text, name)
    }

    /// This configuration with the keys that `text` has, such as what an operator has [`set`](Key::set) on top of the file.
    ///
    /// # Errors
    /// As [`Config::parse`].
    pub fn with(&self, text: &str, name: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        let mut config = self.clone();
        let (problems, _) = document::apply(text, &mut config);
        if problems.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError::Invalid { path: name.into(), problems })
        }
    }

    /// The keys whose values differ, in the table's order.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static Key> {
        keys::all().iter().filter(|key| !key.is_same(self, other)).collect()
    }

    /// What is allowed, but probably not meant.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        check::warnings(self)
    }

    /// A sentence for each key that is set away from its default although the gateway does not act on it yet.
    #[must_use]
    pub fn not_in_effect_warnings(&self) -> Vec<String> {
        let set = self.differences(&Self::default()).into_iter().filter(|key| !key.is_in_effect());
        set.map(|key| format!("{} is set, but this version does not act on it yet", key.name())).collect()
    }
}
