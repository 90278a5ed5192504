//! What was set live, laid over what the file says: which of the two is the newer word, key by key.

use std::collections::BTreeMap;

use tracing::{info, warn};

use crate::config::{Config, Document, keys};
use crate::store::{Store, StoreError, StoredSetting};

/// What the store adds to the file's word: the configuration to start with.
pub struct Start {
    /// In force from the start.
    pub config: Config,
    pub(super) file: Document,
    pub(super) set: BTreeMap<String, StoredSetting>,
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

    /// What the file says alone.
    #[must_use]
    pub const fn file(&self) -> &Config {
        &self.file.config
    }
}

/// The file's configuration with the live settings over it. What the file has outlived is dropped, from the store too.
pub(super) fn overlay(file: &Document, set: &mut BTreeMap<String, StoredSetting>, store: &Store) -> Config {
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
