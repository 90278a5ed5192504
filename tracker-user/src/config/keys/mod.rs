//! The keys of the configuration: one table serves the file, `trackerctl get` and `set`, and the documentation.

mod table;

use std::fmt;

use super::Config;
use super::check;
use super::codec::{Codec, Faults};
use super::node::{Node, to_command_line};
use super::problem::Refusal;
use super::suggest::closest;

/// All keys, in the order of the documentation.
#[must_use]
pub fn all() -> &'static [Key] {
    table::KEYS
}

/// The key called `name`: its full name, or as much of the end of it as is enough to tell it from all others.
///
/// # Errors
/// When no key has this name, or several could be meant.
pub fn find(name: &str) -> Result<&'static Key, UnknownKey> {
    let ends_so =
        |key: &&Key| key.name.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    let mut found: Vec<&'static Key> =
        if name.is_empty() { Vec::new() } else { all().iter().filter(ends_so).collect() };
    if let Some(exact) = found.iter().find(|key| key.name == name) {
        return Ok(exact);
    }
    match (found.pop(), found.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(last), false) => {
            found.push(last);
            let candidates = found.iter().map(|key| key.name).collect();
            Err(UnknownKey { given: name.to_owned(), ambiguous: true, candidates })
        }
        (None, _) => {
            let mut candidates: Vec<_> = suggestion(name).into_iter().collect();
            if candidates.is_empty() && name.len() >= 3 {
                candidates.extend(all().iter().filter(|key| key.short().contains(name)).map(|key| key.name));
            }
            Err(UnknownKey { given: name.to_owned(), ambiguous: false, candidates })
        }
    }
}

/// The key that was probably meant by `name`, full or short.
pub(super) fn suggestion(name: &str) -> Option<&'static str> {
    let full = closest(name, all().iter().map(|key| key.name));
    full.or_else(|| {
        let last = name.rsplit('.').next().unwrap_or(name);
        let short = closest(last, all().iter().map(Key::short))?;
        all().iter().find(|key| key.short() == short).map(|key| key.name)
    })
}

/// No key, or more than one, has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKey {
    /// The name that was asked for.
    pub given: String,
    /// Whether several keys have it.
    pub ambiguous: bool,
    /// The full names of the keys that could be meant; may be empty.
    pub candidates: Vec<&'static str>,
}

impl fmt::Display for UnknownKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { given, ambiguous, candidates } = self;
        match (ambiguous, candidates.as_slice()) {
            (true, _) => {
                write!(f, "several keys are called {given:?}; write one of {}", candidates.join(", "))
            }
            (false, []) => write!(f, "there is no key {given:?}; `trackerctl get` lists them all"),
            (false, _) => write!(f, "there is no key {given:?}; did you mean {}?", candidates.join(" or ")),
        }
    }
}

impl std::error::Error for UnknownKey {}

/// Why a key was not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetError {
    /// The key's full name.
    pub key: &'static str,
    /// What is wrong and what to do about it, one by one.
    pub problems: Vec<(String, String)>,
}

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (message, remedy)) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}: {message}; {remedy}", self.key)?;
        }
        Ok(())
    }
}

impl std::error::Error for SetError {}

/// When a new value takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Live,
    Restart,
}

/// One key of the configuration.
#[derive(Clone)]
pub struct Key {
    name: &'static str,
    change: Change,
    help: &'static str,
    place: &'static dyn Place,
}

impl Key {
    /// The full name, `timeouts.proxy-auth-timeout`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The name within its table, `proxy-auth-timeout`.
    #[must_use]
    pub fn short(&self) -> &'static str {
        self.name.rsplit_once('.').map_or(self.name, |(_, short)| short)
    }

    /// The table it stands in, `timeouts`; empty for the keys that stand in none.
    #[must_use]
    pub fn table(&self) -> &'static str {
        self.name.rsplit_once('.').map_or("", |(table, _)| table)
    }

    /// What it does, in one line.
    #[must_use]
    pub fn help(&self) -> &'static str {
        self.help
    }

    /// Which values it takes, with their unit.
    #[must_use]
    pub fn wants(&self) -> String {
        self.place.wants()
    }

    /// The only words that it takes, where these are few; else none.
    #[must_use]
    pub fn words(&self) -> Vec<String> {
        self.place.words()
    }

    /// Whether a new value takes effect on the running daemon; if not, at its next start.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.change == Change::Live
    }

    /// Whether the gateway already does what it says.
    #[must_use]
    pub fn is_in_effect(&self) -> bool {
        !table::NOT_YET.iter().any(|part| {
            self.name.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }

    /// Its value, as [`Key::set`] takes it.
    #[must_use]
    pub fn get(&self, config: &Config) -> String {
        to_command_line(&self.place.write(config))
    }

    /// Its value as TOML.
    #[must_use]
    pub fn toml(&self, config: &Config) -> toml::Value {
        self.place.write(config)
    }

    /// Sets it, or leaves `config` as it is. What a file is refused for is refused here, in the same words.
    ///
    /// # Errors
    /// When the text is no value of this key, or the value does not go with the others.
    pub fn set(&self, config: &mut Config, text: &str) -> Result<(), SetError> {
        let refused = |refusals: Vec<Refusal>| SetError {
            key: self.name,
            problems: refusals.into_iter().map(|refusal| (refusal.message, refusal.remedy)).collect(),
        };
        let mut changed = config.clone();
        let read = self.place.read(&mut changed, Node::from_command_line(text));
        read.map_err(|Faults(faults)| refused(faults.into_iter().map(|fault| fault.refusal).collect()))?;
        let before = check::combinations(config);
        let after = check::combinations(&changed);
        let new: Vec<_> = after.into_iter().filter(|it| !before.contains(it)).map(|it| it.refusal).collect();
        if !new.is_empty() {
            return Err(refused(new));
        }
        *config = changed;
        Ok(())
    }

    /// Sets it from what was written, without looking at other keys.
    pub(super) fn read(&self, config: &mut Config, node: Node) -> Result<(), Faults> {
        self.place.read(config, node)
    }

    /// Whether two configurations have the same value for it.
    #[must_use]
    pub fn is_same(&self, a: &Config, b: &Config) -> bool {
        self.place.is_same(a, b)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Key {}

/// The place of a key in [`Config`], whatever its type.
trait Place: Sync {
    fn read(&self, config: &mut Config, node: Node) -> Result<(), Faults>;
    fn write(&self, config: &Config) -> toml::Value;
    fn is_same(&self, a: &Config, b: &Config) -> bool;
    fn wants(&self) -> String;
    fn words(&self) -> Vec<String>;
}

/// A field of [`Config`] and what it can hold.
struct Field<C: Codec> {
    codec: C,
    get: fn(&Config) -> &C::Value,
    get_mut: fn(&mut Config) -> &mut C::Value,
}

impl<C: Codec> Place for Field<C> {
    fn read(&self, config: &mut Config, node: Node) -> Result<(), Faults> {
        *(self.get_mut)(config) = self.codec.read(node)?;
        Ok(())
    }

    fn write(&self, config: &Config) -> toml::Value {
        self.codec.write((self.get)(config))
    }

    fn is_same(&self, a: &Config, b: &Config) -> bool {
        (self.get)(a) == (self.get)(b)
    }

    fn wants(&self) -> String {
        self.codec.wants()
    }

    fn words(&self) -> Vec<String> {
        self.codec.words()
    }
}
