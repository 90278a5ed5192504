//! The configuration in force: what the file says, and what an operator has set since.
//!
//! A setting made with `trackerctl set` is kept in the store with what the file said at that time. It stands, also after
//! a restart, until the file is edited to say something else for that key: then the file is the newer word.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tracing::{info, warn};

use crate::audit::{Audit, AuditEvent, Kind};
use crate::clock::wall_now;
use crate::config::{Config, ConfigError, keys};
use crate::store::{Store, StoreError, StoredSetting};

/// Carries a new configuration to the parts that go by it; done when all of them do.
pub type Apply = Box<dyn Fn(Arc<Config>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Why a setting was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
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
    /// It could not be kept; nothing was changed.
    #[error("{0}; nothing was changed")]
    Store(#[from] StoreError),
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Nobody said otherwise.
    Default,
    /// The configuration file.
    File,
    /// `trackerctl set`.
    Set,
}

struct State {
    file: Config,
    set: BTreeMap<String, StoredSetting>,
}

/// See the module.
pub struct Live {
    path: Option<PathBuf>,
    at_start: Config,
    in_force: ArcSwap<Config>,
    /// Held over a whole change, so that two changes never mix.
    state: tokio::sync::Mutex<State>,
    store: Arc<Store>,
    audit: Arc<Audit>,
    apply: Apply,
    bad_file: Mutex<Option<String>>,
}

/// What the store adds to the file's word: the configuration to start with.
pub struct Start {
    /// In force from the start.
    pub config: Config,
    file: Config,
    set: BTreeMap<String, StoredSetting>,
}

impl Start {
    /// Puts what was set live over what the file says.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn new(file: Config, store: &Store) -> Result<Self, StoreError> {
        let mut set = store.settings()?;
        let config = overlay(&file, &mut set, store);
        Ok(Self { config, file, set })
    }
}

impl Live {
    /// The configuration that `start` began with; `path` is the file, if there is one.
    #[must_use]
    pub fn new(
        path: Option<PathBuf>,
        start: Start,
        store: Arc<Store>,
        audit: Arc<Audit>,
        apply: Apply,
    ) -> Self {
        let Start { config, file, set } = start;
        Self {
            path,
            at_start: config.clone(),
            in_force: ArcSwap::from_pointee(config),
            state: tokio::sync::Mutex::new(State { file, set }),
            store,
            audit,
            apply,
            bad_file: Mutex::default(),
        }
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.in_force.load_full()
    }

    /// The file it is read from.
    #[must_use]
    pub const fn path(&self) -> Option<&PathBuf> {
        self.path.as_ref()
    }

    /// What an operator should know: a refused file, changes that wait for a restart, keys without effect yet.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let config = self.config();
        let mut warnings = Vec::new();
        if let Some(problem) = &*self.bad_file.lock().unwrap_or_else(PoisonError::into_inner) {
            warnings
                .push(format!("the configuration file was refused, the earlier settings stand: {problem}"));
        }
        for key in self.at_start.differences(&config).iter().filter(|key| !key.is_live()) {
            warnings.push(format!("{} was changed and takes effect at the next start", key.name()));
        }
        warnings.extend(config.warnings());
        warnings.extend(not_in_effect(&config));
        warnings
    }

    /// The keys, their values and where these come from; one key, or all.
    ///
    /// # Errors
    /// When `name` is no key.
    pub async fn get(
        &self,
        name: Option<&str>,
    ) -> Result<Vec<(&'static keys::Key, String, Source)>, ChangeError> {
        let wanted: Vec<&'static keys::Key> = match name {
            Some(name) => vec![find(name)?],
            None => keys::all().iter().collect(),
        };
        let state = self.state.lock().await;
        let config = self.config();
        let defaults = Config::default();
        Ok(wanted
            .into_iter()
            .map(|key| {
                let source = if state.set.contains_key(key.name()) {
                    Source::Set
                } else if key.get(&state.file) == key.get(&defaults) {
                    Source::Default
                } else {
                    Source::File
                };
                (key, key.get(&config), source)
            })
            .collect())
    }

    /// Sets a key. When this returns it is on disk, and every decision goes by it.
    ///
    /// # Errors
    /// When the key or the value is no good, or it cannot be kept: then nothing was changed.
    pub async fn set(&self, name: &str, text: &str) -> Result<(&'static keys::Key, String), ChangeError> {
        let key = find(name)?;
        let mut state = self.state.lock().await;
        let mut config = (*self.config()).clone();
        key.set(&mut config, text).map_err(|error| ChangeError::BadValue(error.to_string()))?;
        if !key.is_live() {
            return Err(ChangeError::NeedsRestart { key: key.name().into() });
        }
        let value = key.get(&config);
        let file_value = key.get(&state.file);
        let setting = StoredSetting { value: value.clone(), file_value };
        self.store.set(key.name(), Some(&setting))?;
        state.set.insert(key.name().into(), setting);
        self.put_in_force(config).await;
        let setting = Some(format!("{} = {value}", key.name()));
        self.audit.record(AuditEvent { setting, ..AuditEvent::new(wall_now(), Kind::Setting) }, "set");
        Ok((key, value))
    }

    /// Reads the file again: on SIGHUP, and when it was saved. A bad file changes nothing.
    pub async fn reload(&self) {
        let Some(path) = &self.path else { return };
        let outcome = Config::read(path);
        let mut state = self.state.lock().await;
        let file = match outcome {
            Ok(file) => file,
            Err(error) => return self.refuse(&error),
        };
        *self.bad_file.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if file == state.file {
            return;
        }
        state.file = file;
        let State { file, set } = &mut *state;
        let config = overlay(file, set, &self.store);
        let changed = self.config().differences(&config);
        for key in &changed {
            let setting = Some(format!("{} = {}", key.name(), key.get(&config)));
            self.audit.record(AuditEvent { setting, ..AuditEvent::new(wall_now(), Kind::Setting) }, "file");
        }
        self.put_in_force(config).await;
        info!(path = %path.display(), changed = changed.len(), "the configuration file was read again");
    }

    fn refuse(&self, error: &ConfigError) {
        let problem = error.to_string();
        let mut bad_file = self.bad_file.lock().unwrap_or_else(PoisonError::into_inner);
        if bad_file.as_ref() != Some(&problem) {
            warn!("the configuration file was refused, the running settings stay:\n{problem}");
            *bad_file = Some(problem);
        }
    }

    async fn put_in_force(&self, config: Config) {
        let config = Arc::new(config);
        self.in_force.store(Arc::clone(&config));
        (self.apply)(config).await;
    }
}

/// A sentence for each key that is set although nothing goes by it yet.
#[must_use]
pub fn not_in_effect(config: &Config) -> Vec<String> {
    let sentence = |key| format!("{key} is set, but this version does not act on it yet");
    config.not_yet_in_effect().into_iter().map(sentence).collect()
}

fn find(name: &str) -> Result<&'static keys::Key, ChangeError> {
    keys::find(name).map_err(|error| ChangeError::UnknownKey(error.to_string()))
}

/// The file's configuration with the live settings over it. What the file has outlived is dropped, from the store too.
fn overlay(file: &Config, set: &mut BTreeMap<String, StoredSetting>, store: &Store) -> Config {
    let mut config = file.clone();
    set.retain(|name, setting| {
        let outlived = match keys::find(name) {
            Ok(key) if key.get(file) != setting.file_value => {
                info!(key = name, file = key.get(file), set = setting.value, "the file is newer than what was set");
                true
            }
            Ok(key) => match key.set(&mut config, &setting.value) {
                Ok(()) => false,
                Err(error) => {
                    warn!(key = name, value = setting.value, %error, "what was set is no longer good: dropped");
                    true
                }
            },
            Err(error) => {
                warn!(key = name, %error, "a setting in the store is unknown: dropped");
                true
            }
        };
        if outlived && let Err(error) = store.set(name, None) {
            warn!(key = name, %error, "the outlived setting stays in the store");
        }
        !outlived
    });
    config
}
