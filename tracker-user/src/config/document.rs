//! The configuration file: TOML text onto a configuration, with everything that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use super::check;
use super::codec::Faults;
use super::keys::{self, Key};
use super::node::Node;
use super::problem::Problem;
use super::suggest::closest;
use super::types::Config;

/// Sets the keys that `text` has, and returns which these are. The problems are sorted by line; with any of them, `config` is
/// not to be gone by: it has the keys that are right.
pub(super) fn apply(text: &str, config: &mut Config) -> (Vec<Problem>, BTreeSet<&'static str>) {
    let (root, errors) = DeTable::parse_recoverable(text);
    let line_ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at).collect();
    let mut reader =
        Reader { line_ends, config, problems: Vec::new(), seen: BTreeMap::new(), strict: errors.is_empty() };
    reader.syntax(&errors);
    reader.table("", root.get_ref());
    if reader.strict {
        reader.combinations();
    }
    let mut problems = reader.problems;
    problems.sort();
    problems.dedup();
    (problems, reader.seen.into_keys().collect())
}

struct Reader<'a> {
    /// Where each line ends, in bytes.
    line_ends: Vec<usize>,
    config: &'a mut Config,
    problems: Vec<Problem>,
    /// The keys that the text has: their line, and whether their value is right.
    seen: BTreeMap<&'static str, (usize, bool)>,
    /// Whether the text is TOML. If not, what could be understood of it is still looked at, but nothing is said
    /// that may only follow from the error: that keys are unknown, or do not go together.
    strict: bool,
}

impl Reader<'_> {
    fn line(&self, at: usize) -> usize {
        1 + self.line_ends.partition_point(|end| *end < at)
    }

    fn problem(&mut self, line: usize, key: &str, message: String, remedy: String) {
        self.problems.push(Problem { line, key: key.to_owned(), message, remedy });
    }

    /// The first error of each line; the others follow from it.
    fn syntax(&mut self, errors: &[Error]) {
        let mut last = 0;
        for error in errors {
            let line = self.line(error.span().map_or(0, |span| span.start));
            if line != last {
                let message = format!("is not TOML: {}", error.message().replace('\n', ", "));
                let remedy = if error.message().contains("duplicate") {
                    "keep one of the two"
                } else {
                    "correct this line: texts stand in \"quotes\", lists in [brackets], tables begin with [name]"
                };
                self.problem(line, "", message, remedy.to_owned());
                last = line;
            }
        }
    }

    fn table(&mut self, path: &str, table: &DeTable<'_>) {
        for (name, value) in table {
            let line = self.line(name.span().start);
            let name = name.get_ref();
            let full = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
            // A quoted name with a dot in it is none of ours, however it looks when it is put together.
            let known = |key: &&Key| key.name() == full && !name.contains('.');
            if let Some(key) = keys::all().iter().find(known) {
                self.value(key, line, value);
            } else if is_table(&full) && !name.contains('.') {
                match value.get_ref() {
                    DeValue::Table(inner) => self.table(&full, inner),
                    _ if self.strict => {
                        let message = "is a table, not a value".to_owned();
                        self.problem(line, &full, message, format!("write [{full}] and its keys below"));
                    }
                    _ => {}
                }
            } else if self.strict {
                let is_inner = matches!(value.get_ref(), DeValue::Table(_));
                self.unknown(line, path, name, &full, is_inner);
            }
        }
    }

    fn value(&mut self, key: &'static Key, line: usize, value: &Spanned<DeValue<'_>>) {
        let read = key.read(self.config, Node::from_toml(value));
        self.seen.insert(key.name(), (line, read.is_ok()));
        let Err(Faults(faults)) = read else { return };
        for fault in faults {
            let line = self.line(fault.at);
            if self.strict
                || !self.problems.iter().any(|problem| problem.line == line && problem.key.is_empty())
            {
                self.problem(line, key.name(), fault.refusal.message, fault.refusal.remedy);
            }
        }
    }

    fn unknown(&mut self, line: usize, path: &str, name: &str, full: &str, is_inner: bool) {
        let kind = if is_inner { "table" } else { "key" };
        // First one that is misplaced, then one that is misspelt.
        let misplaced = || {
            let mut same = keys::all().iter().filter(|key| !is_inner && key.short() == name);
            let only = same.next().filter(|_| same.next().is_none())?;
            Some(match only.table() {
                "" => format!("{name} stands above all tables"),
                table => format!("{name} belongs below [{table}]"),
            })
        };
        let misspelt = || {
            let near = closest(name, children(path))?;
            let near = if path.is_empty() { near.to_owned() } else { format!("{path}.{near}") };
            Some(format!("did you mean {near}?"))
        };
        let elsewhere = || keys::suggestion(full).map(|near| format!("did you mean {near}?"));
        let remedy = misplaced().or_else(misspelt).or_else(elsewhere);
        let remedy = remedy.unwrap_or_else(|| "remove it; docs/CONFIGURATION.md lists all keys".to_owned());
        self.problem(line, full, format!("there is no such {kind}"), remedy);
    }

    fn combinations(&mut self) {
        for conflict in check::combinations(self.config) {
            // What is wrong by itself has been said, and its value here is not the one that was meant.
            let is_wrong = |key| matches!(self.seen.get(key), Some((_, false)));
            if conflict.keys.into_iter().any(is_wrong) {
                continue;
            }
            let blamed = conflict.keys.into_iter().find_map(|key| Some((key, self.seen.get(key)?.0)));
            let (key, line) = blamed.unwrap_or((conflict.keys[0], 0));
            self.problem(line, key, conflict.refusal.message, conflict.refusal.remedy);
        }
    }
}

/// Whether some key stands in the table called `full`, or in one below it.
fn is_table(full: &str) -> bool {
    keys::all().iter().any(|key| key.name().strip_prefix(full).is_some_and(|rest| rest.starts_with('.')))
}

/// The names of keys and tables that can stand in the table called `path`.
fn children(path: &str) -> impl Iterator<Item = &'static str> {
    keys::all().iter().filter_map(move |key| {
        let below =
            if path.is_empty() { key.name() } else { key.name().strip_prefix(path)?.strip_prefix('.')? };
        below.split('.').next()
    })
}
