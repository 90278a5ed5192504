//! The configuration in force: what the file says, and what an operator has set since.
//!
//! A setting made with `trackerctl set` is kept in the store with what the file said at that time. It stands, also after
//! a restart, until `trackerctl unset`, or until the file is edited to say something else for that key, and be it the default:
//! then the file is the newer word. A line that is taken out of the file says nothing.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::audit::{Actor, Audit, Event, SettingEvent, TrailEntry};
use crate::clock::wall_now;
use crate::config::{Config, ConfigError, Document, keys};
use crate::store::{Journal, Store, StoreError, StoredSetting};

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
    /// There is nothing to unset.
    #[error("{key} was not set by trackerctl set: its value is the {}", if *.stated { "configuration file's" } else { "default" })]
    NotSet {
        /// The full key.
        key: String,
        /// Whether the file has it.
        stated: bool,
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

/// A key, and all that is said of it.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The key.
    pub key: &'static keys::Key,
    /// Its value in force.
    pub value: String,
    /// Where that comes from.
    pub source: Source,
    /// What the file says, whether it counts or not; `None`: nothing.
    pub file: Option<String>,
    /// What was set.
    pub set: Option<StoredSetting>,
}

struct State {
    file: Document,
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
    journal: Arc<Journal>,
    audit: Arc<Audit>,
    apply: Apply,
    bad_file: Mutex<Option<String>>,
}

/// What the store adds to the file's word: the configuration to start with.
pub struct Start {
    /// In force from the start.
    pub config: Config,
    file: Document,
    set: BTreeMap<String, StoredSetting>,
}

impl Start {
    /// Puts what was set live over what the file says.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn new(file: Document, store: &Store) -> Result<Self, StoreError> {
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
        journal: Arc<Journal>,
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
            journal,
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

    /// The keys and all that is said of them; one key, or all.
    ///
    /// # Errors
    /// When `name` is no key.
    pub async fn get(&self, name: Option<&str>) -> Result<Vec<Standing>, ChangeError> {
        let wanted: Vec<&'static keys::Key> = match name {
            Some(name) => vec![find(name)?],
            None => keys::all().iter().collect(),
        };
        let state = self.state.lock().await;
        let config = self.config();
        Ok(wanted
            .into_iter()
            .map(|key| {
                let (file, set) = (state.file.statement(key), state.set.get(key.name()).cloned());
                let source = match (&set, &file) {
                    (Some(_), _) => Source::Set,
                    (None, Some(_)) => Source::File,
                    (None, None) => Source::Default,
                };
                Standing { key, value: key.get(&config), source, file, set }
            })
            .collect())
    }

    /// Sets a key. When this returns it is on disk, and every decision goes by it.
    ///
    /// # Errors
    /// When the key or the value is no good, or it cannot be kept: then nothing was changed.
    pub async fn set(&self, name: &str, text: &str, by: Actor) -> Result<(), ChangeError> {
        let key = find(name)?;
        let mut state = self.state.lock().await;
        let before = self.config();
        let mut config = (*before).clone();
        key.set(&mut config, text).map_err(|error| ChangeError::BadValue(error.to_string()))?;
        if !key.is_live() {
            return Err(ChangeError::NeedsRestart { key: key.name().into() });
        }
        let setting = StoredSetting {
            value: key.get(&config),
            file_value: state.file.statement(key),
            by: Some(by.clone()),
            at: Some(wall_now()),
        };
        self.store.set(key.name(), Some(&setting))?;
        state.set.insert(key.name().into(), setting);
        self.change(&before, config, &[key], &by, "set").await;
        self.told().await;
        Ok(())
    }

    /// Takes back what was set: the file's word counts again, or the default. On disk when this returns.
    ///
    /// # Errors
    /// When the key is none or was not set, when the value does not go with others that were set, or when the store fails: then
    /// nothing was changed.
    pub async fn unset(&self, name: &str, by: Actor) -> Result<(), ChangeError> {
        let key = find(name)?;
        let mut state = self.state.lock().await;
        if !state.set.contains_key(key.name()) {
            let stated = state.file.statement(key).is_some();
            return Err(ChangeError::NotSet { key: key.name().into(), stated });
        }
        let before = self.config();
        let mut config = (*before).clone();
        key.set(&mut config, &key.get(&state.file.config))
            .map_err(|error| ChangeError::BadValue(error.to_string()))?;
        self.store.set(key.name(), None)?;
        state.set.remove(key.name());
        self.change(&before, config, &[key], &by, "unset").await;
        self.told().await;
        Ok(())
    }

    /// Reads the file again: on SIGHUP, and when it was saved. A bad file changes nothing.
    pub async fn reload(&self, by: Actor) {
        let Some(path) = &self.path else { return };
        let outcome = Document::read(path);
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
        let before = self.config();
        let changed = before.differences(&config);
        self.change(&before, config, &changed, &by, "file").await;
        info!(path = %path.display(), changed = changed.len(), "the configuration file was read again");
    }

    /// Puts a configuration in force, and tells whose order it was that these keys change.
    async fn change(
        &self,
        before: &Config,
        config: Config,
        changed: &[&'static keys::Key],
        by: &Actor,
        how: &'static str,
    ) {
        for key in changed {
            let setting = SettingEvent {
                key: key.name(),
                before: key.get(before),
                after: key.get(&config),
                how,
                actor: by.clone(),
            };
            // It keeps what is about no session.
            self.audit.record(TrailEntry::now(Event::Setting(setting)));
        }
        self.put_in_force(config).await;
    }

    /// Waits until the audit trail on disk has what was recorded: whose order it was is known as long as what it did.
    async fn told(&self) {
        let (kept, done) = oneshot::channel();
        // If it cannot be kept, that is shown elsewhere; the setting is on disk already.
        self.journal.submit(
            Vec::new(),
            Some(Box::new(move |_| {
                // Whoever asked may have left.
                let _ = kept.send(());
            })),
        );
        let _ = done.await;
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
fn overlay(file: &Document, set: &mut BTreeMap<String, StoredSetting>, store: &Store) -> Config {
    let mut config = file.config.clone();
    // Some make sense only after others, in the order in which they were set, not in that of their names.
    let mut waiting = std::mem::take(set);
    loop {
        let before = waiting.len();
        let mut refused = BTreeMap::new();
        for (name, mut setting) in waiting {
            let stands = match keys::find(&name) {
                Ok(key) => stands(key, &mut setting, file, &mut config),
                Err(error) => {
                    warn!(key = name, %error, "a setting in the store is unknown: dropped");
                    Stands::No
                }
            };
            match stands {
                Stands::AsItWas => {}
                Stands::Silently => keep(store, &name, Some(&setting)),
                Stands::No => {
                    keep(store, &name, None);
                    continue;
                }
                Stands::NotYet(error) => {
                    refused.insert(name, (setting, error));
                    continue;
                }
            }
            set.insert(name, setting);
        }
        if refused.len() == before || refused.is_empty() {
            for (name, (setting, error)) in refused {
                warn!(key = name, value = setting.value, %error, "what was set is no longer good: dropped");
                keep(store, &name, None);
            }
            return config;
        }
        waiting = refused.into_iter().map(|(name, (setting, _))| (name, setting)).collect();
    }
}

fn keep(store: &Store, name: &str, setting: Option<&StoredSetting>) {
    if let Err(error) = store.set(name, setting) {
        warn!(key = name, %error, "the store has not heard of what became of this setting");
    }
}

/// What becomes of a setting under a file.
enum Stands {
    /// It stands.
    AsItWas,
    /// It stands, and the file says nothing of the key any more.
    Silently,
    /// It has been outlived.
    No,
    /// It is no good, unless another one makes it so.
    NotYet(String),
}

fn stands(key: &keys::Key, setting: &mut StoredSetting, file: &Document, config: &mut Config) -> Stands {
    let statement = file.statement(key);
    if statement.is_some() && statement != setting.file_value {
        info!(key = key.name(), file = statement, set = setting.value, "the file is newer than what was set");
        return Stands::No;
    }
    if let Err(error) = key.set(config, &setting.value) {
        return Stands::NotYet(error.to_string());
    }
    if statement == setting.file_value {
        return Stands::AsItWas;
    }
    // Written again, the same value will be a new word.
    setting.file_value = None;
    info!(
        key = key.name(),
        set = setting.value,
        "the file says nothing of this key any more: what was set stands"
    );
    Stands::Silently
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "timeouts.proxy-auth-timeout";

    fn file(timeout: Option<&str>) -> Document {
        let text = timeout.map(|timeout| format!("{KEY} = {timeout:?}\n")).unwrap_or_default();
        Document::parse(&text, "file").unwrap()
    }

    /// What is in force, from what the file said when `set` was given and what it says now; and whether the setting stands.
    fn in_force(then: Option<&str>, now: Option<&str>) -> (String, bool) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), None).unwrap();
        let key = keys::find(KEY).unwrap();
        let file_value = file(then).statement(key);
        let setting = StoredSetting { value: "5m".into(), file_value, by: None, at: None };
        store.set(KEY, Some(&setting)).unwrap();
        let start = Start::new(file(now), &store).unwrap();
        let stands = start.set.contains_key(KEY);
        assert_eq!(store.settings().unwrap().contains_key(KEY), stands, "the store knows");
        (key.get(&start.config), stands)
    }

    #[test]
    fn the_newest_word_counts() {
        for (then, now, value, stands) in [
            (None, None, "5m", true),
            (Some("7m"), Some("7m"), "5m", true),
            // Written in another way, it is the same.
            (Some("7m"), Some("420s"), "5m", true),
            (Some("7m"), Some("8m"), "8m", false),
            // The default, written after the setting was made.
            (None, Some("10m"), "10m", false),
            // The very value that was set: it is the file's now.
            (Some("7m"), Some("5m"), "5m", false),
            // A line that is gone says nothing.
            (Some("7m"), None, "5m", true),
        ] {
            assert_eq!(in_force(then, now), (value.to_owned(), stands), "{then:?} then, {now:?} now");
        }
    }

    /// By name the certificate comes before its key, without which it is refused.
    #[test]
    fn settings_that_need_each_other_stand_whatever_their_names_are() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), None).unwrap();
        let settings = [("tls.key", "/etc/key"), ("tls.certificate", "/etc/chain")];
        for (name, value) in settings {
            let setting = StoredSetting { value: value.into(), file_value: None, by: None, at: None };
            store.set(name, Some(&setting)).unwrap();
        }
        let start = Start::new(file(None), &store).unwrap();
        for (name, value) in settings {
            assert_eq!(keys::find(name).unwrap().get(&start.config), value, "{name}");
            assert!(start.set.contains_key(name), "{name}");
        }
        // Without its key it does not stand, and that is an end.
        store.set("tls.key", None).unwrap();
        let start = Start::new(file(None), &store).unwrap();
        assert!(start.set.is_empty() && store.settings().unwrap().is_empty());
    }

    #[test]
    fn a_line_that_comes_back_is_a_new_word() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path(), None).unwrap();
        let setting = StoredSetting { value: "5m".into(), file_value: Some("7m".into()), by: None, at: None };
        store.set(KEY, Some(&setting)).unwrap();
        let key = keys::find(KEY).unwrap();
        for (timeout, value) in [(None, "5m"), (Some("7m"), "7m"), (None, "10m")] {
            let start = Start::new(file(timeout), &store).unwrap();
            assert_eq!(key.get(&start.config), value, "{timeout:?}");
        }
    }

    /// As earlier versions wrote it: the value alone, whether the file stated it or not.
    #[test]
    fn an_older_setting_is_understood() {
        let setting: StoredSetting = serde_json::from_str(r#"{"value":"5m","file_value":"7m"}"#).unwrap();
        assert_eq!(
            setting,
            StoredSetting { value: "5m".into(), file_value: Some("7m".into()), by: None, at: None }
        );
    }
}
