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

use super::overlay::{Start, overlay};
use super::{OpsError, Setting, Source};
use crate::audit::{Actor, Audit, Event, SettingEvent, TrailEntry};
use crate::clock::wall_now;
use crate::config::{Config, ConfigError, Document, keys};
use crate::net::certificates::{Finding, load};
use crate::pages::Logo;
use crate::store::{Journal, Store, StoredSetting};
use crate::threads::Threads;
use crate::types::Identity;

/// Carries a new configuration to the parts that go by it; done when all of them do.
pub type Apply = Box<dyn Fn(Arc<Config>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

struct State {
    file: Document,
    set: BTreeMap<String, StoredSetting>,
}

/// See the module.
pub struct Configuration {
    path: Option<PathBuf>,
    at_start: Config,
    in_force: ArcSwap<Config>,
    /// Held over a whole change, so that two changes never mix.
    state: tokio::sync::Mutex<State>,
    store: Arc<Store>,
    journal: Arc<Journal>,
    audit: Arc<Audit>,
    threads: Arc<Threads>,
    apply: Apply,
    bad_file: Mutex<Option<String>>,
}

impl Configuration {
    /// The configuration that `start` began with; `path` is the file, if there is one. The file is read and the store
    /// written by `threads`.
    #[must_use]
    pub fn new(
        path: Option<PathBuf>,
        start: Start,
        store: Arc<Store>,
        journal: Arc<Journal>,
        audit: Arc<Audit>,
        threads: Arc<Threads>,
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
            threads,
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
        warnings.extend(config.not_in_effect_warnings());
        warnings
    }

    /// The keys and all that is said of them; one key, or all.
    pub(super) async fn get(&self, name: Option<&str>) -> Result<Vec<Setting>, OpsError> {
        let wanted: Vec<&'static keys::Key> = match name {
            Some(name) => vec![find(name)?],
            None => keys::all().iter().collect(),
        };
        let state = self.state.lock().await;
        let config = self.config();
        Ok(wanted.into_iter().map(|key| setting(key, &state, &config)).collect())
    }

    /// Sets a key. When this returns it is on disk, with the line of the audit trail, and every decision goes by it.
    ///
    /// Refused where `administers` no longer would by it: nobody takes that right from themselves.
    pub(super) async fn set(
        &self,
        name: &str,
        text: &str,
        by: Actor,
        administers: Option<&Identity>,
    ) -> Result<Setting, OpsError> {
        let key = find(name)?;
        let mut state = self.state.lock().await;
        let before = self.config();
        let mut config = (*before).clone();
        key.set(&mut config, text).map_err(|error| OpsError::BadValue(error.to_string()))?;
        if !key.is_live() {
            return Err(OpsError::NeedsRestart { key: key.name().into() });
        }
        keeps_administering(key, &before, &config, administers)?;
        self.check_certificates(&before, &config).await?;
        self.check_logo(&before, &config).await?;
        let set = StoredSetting {
            value: key.get(&config),
            file_value: state.file.statement(key),
            by: Some(by.clone()),
            at: Some(wall_now()),
        };
        let line = line(key, &before, &config, &by, "set");
        self.change(&mut state, key, Some(set), line, config).await
    }

    /// Refuses files that can be no certificate or key. That the two do not fit each other is no reason: they are set one after
    /// the other.
    async fn check_certificates(&self, before: &Config, config: &Config) -> Result<(), OpsError> {
        let wanted = config.tls.pairs();
        if config.tls.proxy_listen.is_empty() || wanted == before.tls.pairs() {
            return Ok(());
        }
        let read = move |_: &Store| wanted.iter().find_map(|pair| load(&pair.chain, &pair.key).err());
        match self.blocking(read).await? {
            Some(error) if !matches!(error.finding, Finding::OtherKey { .. } | Finding::NotFirst { .. }) => {
                Err(OpsError::BadValue(format!("tls.certificate: {error}")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses what can be no picture.
    async fn check_logo(&self, before: &Config, config: &Config) -> Result<(), OpsError> {
        let Some(path) = config.portal.logo.clone().filter(|path| Some(path) != before.portal.logo.as_ref())
        else {
            return Ok(());
        };
        let read = self.blocking(move |_| Logo::read(&path)).await?;
        read.map(drop).map_err(|error| OpsError::BadValue(format!("portal.logo: {error}")))
    }

    /// Takes back what was set: the file's word counts again, or the default. On disk when this returns. Refused as in
    /// [`set`](Self::set).
    pub(super) async fn unset(
        &self,
        name: &str,
        by: Actor,
        administers: Option<&Identity>,
    ) -> Result<Setting, OpsError> {
        let key = find(name)?;
        let mut state = self.state.lock().await;
        if !state.set.contains_key(key.name()) {
            let stated = state.file.statement(key).is_some();
            return Err(OpsError::NotSet { key: key.name().into(), stated });
        }
        let before = self.config();
        let mut config = (*before).clone();
        key.set(&mut config, &key.get(&state.file.config))
            .map_err(|error| OpsError::BadValue(error.to_string()))?;
        keeps_administering(key, &before, &config, administers)?;
        let line = line(key, &before, &config, &by, "unset");
        self.change(&mut state, key, None, line, config).await
    }

    /// Has a setting kept, or forgotten if there is none, together with the line that tells of it; then it is in force.
    async fn change(
        &self,
        state: &mut State,
        key: &'static keys::Key,
        set: Option<StoredSetting>,
        line: Arc<TrailEntry>,
        config: Config,
    ) -> Result<Setting, OpsError> {
        let (kept, told) = (set.clone(), Arc::clone(&line));
        let written =
            self.blocking(move |store| store.set_by_order(key.name(), kept.as_ref(), &told)).await?;
        written.map_err(OpsError::NotChanged)?;
        match set {
            Some(set) => state.set.insert(key.name().into(), set),
            None => state.set.remove(key.name()),
        };
        self.audit.record_kept(line);
        self.put_in_force(config).await;
        Ok(setting(key, state, &self.config()))
    }

    /// Reads the file again, and returns the keys that have changed by it. A bad file changes nothing.
    pub(super) async fn reload(&self, by: Actor) -> Result<Vec<&'static keys::Key>, OpsError> {
        let Some(path) = self.path.clone() else { return Ok(Vec::new()) };
        let mut state = self.state.lock().await;
        let read = {
            let path = path.clone();
            self.blocking(move |_| Document::read(&path)).await?
        };
        let file = read.map_err(|error| self.refuse(path.clone(), &error))?;
        *self.bad_file.lock().unwrap_or_else(PoisonError::into_inner) = None;
        if file == state.file {
            return Ok(Vec::new());
        }
        let (newer, mut set) = (file.clone(), state.set.clone());
        let laid_over = self.blocking(move |store| {
            let config = overlay(&newer, &mut set, store);
            (config, set)
        });
        let (config, set) = laid_over.await?;
        *state = State { file, set };
        let before = self.config();
        let changed = before.differences(&config);
        for key in &changed {
            // It keeps what is about no session.
            self.audit.record(line(key, &before, &config, &by, "file"));
        }
        self.put_in_force(config).await;
        self.told().await;
        info!(path = %path.display(), changed = changed.len(), "the configuration file was read again");
        Ok(changed)
    }

    /// Puts a configuration in force. When this returns, every decision goes by it.
    async fn put_in_force(&self, config: Config) {
        let config = Arc::new(config);
        self.in_force.store(Arc::clone(&config));
        (self.apply)(config).await;
    }

    /// Waits until the audit trail on disk has what was recorded: whose order it was is known as long as what it did.
    async fn told(&self) {
        let (kept, done) = oneshot::channel();
        // If it cannot be kept, that is shown elsewhere; the file says what is in force.
        self.journal.submit(
            Vec::new(),
            Some(Box::new(move |_| {
                // Whoever asked may have left.
                let _ = kept.send(());
            })),
        );
        let _ = done.await;
    }

    fn refuse(&self, path: PathBuf, error: &ConfigError) -> OpsError {
        let problem = error.to_string();
        let mut bad_file = self.bad_file.lock().unwrap_or_else(PoisonError::into_inner);
        if bad_file.as_ref() != Some(&problem) {
            warn!("the configuration file was refused, the running settings stay:\n{problem}");
            *bad_file = Some(problem.clone());
        }
        OpsError::BadFile { path, problem }
    }

    /// Has the store written, or the file read, by a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Result<T, OpsError> {
        let store = Arc::clone(&self.store);
        self.threads.run(move || work(&store))?.await.map_err(|_| OpsError::Stopping)
    }
}

/// Whether somebody of a realm who administers the gateway still does afterwards.
fn keeps_administering(
    key: &keys::Key,
    before: &Config,
    after: &Config,
    who: Option<&Identity>,
) -> Result<(), OpsError> {
    let loses = |who: &&Identity| before.role_of(who).may_change() && !after.role_of(who).may_change();
    match who.filter(loses) {
        Some(_) => Err(OpsError::OwnRole { key: key.name().into() }),
        None => Ok(()),
    }
}

fn find(name: &str) -> Result<&'static keys::Key, OpsError> {
    keys::find(name).map_err(|error| OpsError::UnknownKey(error.to_string()))
}

/// The line of the audit trail that tells whose order it was that a key changes.
fn line(
    key: &'static keys::Key,
    before: &Config,
    after: &Config,
    by: &Actor,
    how: &'static str,
) -> Arc<TrailEntry> {
    let (before, after) = (key.get(before), key.get(after));
    TrailEntry::now(Event::Setting(SettingEvent { key: key.name(), before, after, how, actor: by.clone() }))
}

fn setting(key: &'static keys::Key, state: &State, config: &Config) -> Setting {
    let (file, set) = (state.file.statement(key), state.set.get(key.name()).cloned());
    let source = match (&set, &file) {
        (Some(_), _) => Source::Set,
        (None, Some(_)) => Source::File,
        (None, None) => Source::Default,
    };
    Setting { key, value: key.get(config), source, file, set }
}
