//! How the value of a key is read from what was written, and written so that it reads back as the same.

use std::collections::{BTreeMap, HashSet};
use std::marker::PhantomData;

use toml::Value;

use super::node::{Node, Raw};
use super::problem::{Fault, Refusal};
use super::suggest::closest;
use crate::session::settings::Word;
use crate::types::PortRange;

/// Everything that is wrong with one value.
#[derive(Debug, PartialEq)]
pub(super) struct Faults(pub(super) Vec<Fault>);

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

/// One kind of value.
pub(super) trait Codec: Sync {
    type Value: PartialEq;

    fn read(&self, node: Node) -> Result<Self::Value, Faults>;

    /// The value as TOML; `read` makes the same value of it.
    fn write(&self, value: &Self::Value) -> Value;

    /// What is accepted, in words: for messages ("wants ...") and for the documentation.
    fn wants(&self) -> String;

    /// The only words that are accepted, where these are few.
    fn words(&self) -> Vec<String> {
        Vec::new()
    }

    /// A value that is accepted, as TOML.
    fn example(&self) -> String;
}

/// `true` or `false`, in these two words or two others.
pub(super) struct Flag;

impl Codec for Flag {
    type Value = bool;

    fn read(&self, node: Node) -> Result<bool, Faults> {
        match &node.raw {
            Raw::Flag(flag) => Ok(*flag),
            Raw::Word(word) if word == "true" => Ok(true),
            Raw::Word(word) if word == "false" => Ok(false),
            _ => Err(node.wrong(&self.wants(), &self.example()).into()),
        }
    }

    fn write(&self, value: &bool) -> Value {
        Value::Boolean(*value)
    }

    fn wants(&self) -> String {
        "true or false".to_owned()
    }

    fn words(&self) -> Vec<String> {
        ["true", "false"].map(str::to_owned).into()
    }

    fn example(&self) -> String {
        "true".to_owned()
    }
}

/// The vendor's `enable` and `disable`.
pub(super) struct Switch;

impl Codec for Switch {
    type Value = bool;

    fn read(&self, node: Node) -> Result<bool, Faults> {
        match node.text(&self.wants(), &self.example())? {
            "enable" => Ok(true),
            "disable" => Ok(false),
            _ => Err(node.wrong(&self.wants(), &self.example()).into()),
        }
    }

    fn write(&self, value: &bool) -> Value {
        Value::String(if *value { "enable" } else { "disable" }.to_owned())
    }

    fn wants(&self) -> String {
        "enable or disable".to_owned()
    }

    fn words(&self) -> Vec<String> {
        ["enable", "disable"].map(str::to_owned).into()
    }

    fn example(&self) -> String {
        "\"enable\"".to_owned()
    }
}

/// One of several words.
pub(super) struct OneOf<T>(pub(super) PhantomData<fn() -> T>);

impl<T: Word> Codec for OneOf<T> {
    type Value = T;

    fn read(&self, node: Node) -> Result<T, Faults> {
        let text = node.text(&self.wants(), &self.example())?;
        T::from_word(text).map_err(|unknown| {
            let remedy = match closest(text, unknown.words.iter().copied()) {
                Some(word) => format!("did you mean {word:?}?"),
                None => format!("write it like {}", self.example()),
            };
            Refusal::new(format!("wants {}, not {text:?}", self.wants()), remedy).at(node.at).into()
        })
    }

    fn write(&self, value: &T) -> Value {
        Value::String(value.word().to_owned())
    }

    fn words(&self) -> Vec<String> {
        T::ALL.iter().map(|value| value.word().to_owned()).collect()
    }

    fn wants(&self) -> String {
        let words: Vec<_> = T::ALL.iter().map(|value| value.word()).collect();
        match words.split_last() {
            Some((last, [])) => (*last).to_owned(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    }

    fn example(&self) -> String {
        T::ALL.first().map(|value| format!("{:?}", value.word())).unwrap_or_default()
    }
}

/// A whole number of at least `least`, and of at most what its type holds.
pub(super) struct Count<T> {
    pub(super) least: T,
    pub(super) most: T,
    /// What the number counts, for the documentation.
    pub(super) of: &'static str,
    pub(super) example: T,
}

impl<T: Copy + PartialEq + Sync + TryFrom<i128> + Into<i64>> Codec for Count<T> {
    type Value = T;

    fn read(&self, node: Node) -> Result<T, Faults> {
        let number = match &node.raw {
            Raw::Integer(number) => *number,
            Raw::Word(word) => word.parse().map_err(|_| node.wrong(&self.wants(), &self.example()))?,
            _ => return Err(node.wrong(&self.wants(), &self.example()).into()),
        };
        let (least, most): (i64, i64) = (self.least.into(), self.most.into());
        let within = (i128::from(least)..=i128::from(most)).contains(&number);
        let value = if within { T::try_from(number).ok() } else { None };
        value.ok_or_else(|| {
            let message = format!("{number} is out of range: wants {}", self.wants());
            Refusal::new(message, format!("write a whole number from {least} to {most}")).at(node.at).into()
        })
    }

    fn write(&self, value: &T) -> Value {
        Value::Integer((*value).into())
    }

    fn wants(&self) -> String {
        let (least, most): (i64, i64) = (self.least.into(), self.most.into());
        format!("{}, {least} to {most}", self.of)
    }

    fn example(&self) -> String {
        let example: i64 = self.example.into();
        example.to_string()
    }
}

/// A port, or a range of them: 443, "1025-65535".
pub(super) struct Ports;

impl Codec for Ports {
    type Value = PortRange;

    fn read(&self, node: Node) -> Result<PortRange, Faults> {
        let wrong = || Faults::from(node.wrong(&self.wants(), &self.example()));
        let out_of_range = |text: &dyn std::fmt::Display| {
            let message = format!("{text} is out of range: wants {}", self.wants());
            Refusal::new(message, "write a whole number from 1 to 65535, or two of them as \"FROM-TO\"")
                .at(node.at)
        };
        match &node.raw {
            Raw::Integer(number) => {
                let port = u16::try_from(*number).ok().filter(|port| *port != 0);
                Ok(port.map(PortRange::one).ok_or_else(|| out_of_range(number))?)
            }
            // A number is written as one in the file; on the command line all is text.
            Raw::Text(text) if !text.contains('-') => Err(wrong()),
            Raw::Word(text) | Raw::Text(text) => match PortRange::parse(text) {
                Some(range) => Ok(range),
                None if is_of_numbers(text) => Err(out_of_range(text).into()),
                None => Err(wrong()),
            },
            _ => Err(wrong()),
        }
    }

    fn write(&self, value: &PortRange) -> Value {
        if value.is_one() { Value::Integer(value.first.into()) } else { Value::String(value.to_string()) }
    }

    fn wants(&self) -> String {
        "port or \"FROM-TO\", 1 to 65535".to_owned()
    }

    fn example(&self) -> String {
        "443".to_owned()
    }
}

/// Whether this was meant to be a port or a range.
fn is_of_numbers(text: &str) -> bool {
    let number = |part: &str| !part.trim().is_empty() && part.trim().bytes().all(|b| b.is_ascii_digit());
    text.splitn(2, '-').all(number)
}

/// A text of some form.
pub(super) struct Text<T: 'static> {
    pub(super) parse: fn(&str) -> Result<T, Refusal>,
    pub(super) show: fn(&T) -> String,
    pub(super) wants: &'static str,
    pub(super) example: &'static str,
}

impl<T: PartialEq> Codec for Text<T> {
    type Value = T;

    fn read(&self, node: Node) -> Result<T, Faults> {
        let text = node.text(self.wants, &self.example())?;
        if text.is_empty() {
            let refusal = Refusal::new("is empty", format!("write it like {}", self.example()));
            return Err(refusal.at(node.at).into());
        }
        if let Some(control) = text.chars().find(|c| c.is_control()) {
            let message = format!("{text:?} has the control character {control:?} in it");
            return Err(Refusal::new(message, "leave it out").at(node.at).into());
        }
        Ok((self.parse)(text).map_err(|refusal| refusal.at(node.at))?)
    }

    fn write(&self, value: &T) -> Value {
        Value::String((self.show)(value))
    }

    fn wants(&self) -> String {
        self.wants.to_owned()
    }

    fn example(&self) -> String {
        format!("{:?}", self.example)
    }
}

/// A value, or the word that says there is none.
pub(super) struct Maybe<C> {
    pub(super) none: &'static str,
    pub(super) some: C,
    /// What none means.
    pub(super) means: &'static str,
}

impl<C: Codec> Codec for Maybe<C> {
    type Value = Option<C::Value>;

    fn read(&self, node: Node) -> Result<Self::Value, Faults> {
        match &node.raw {
            Raw::Word(text) | Raw::Text(text) if text == self.none => Ok(None),
            _ => self.some.read(node).map(Some),
        }
    }

    fn write(&self, value: &Self::Value) -> Value {
        match value {
            None => Value::String(self.none.to_owned()),
            Some(value) => self.some.write(value),
        }
    }

    fn wants(&self) -> String {
        let none = if self.none.is_empty() { "empty" } else { self.none };
        format!("{}; {none}: {}", self.some.wants(), self.means)
    }

    fn example(&self) -> String {
        self.some.example()
    }
}

/// Values, none of them twice.
pub(super) struct List<C> {
    pub(super) of: C,
    /// Why the list cannot be empty, if it cannot.
    pub(super) never_empty: Option<&'static str>,
}

impl<C: Codec> Codec for List<C> {
    type Value = Vec<C::Value>;

    fn read(&self, node: Node) -> Result<Self::Value, Faults> {
        let at = node.at;
        let mut values = Vec::new();
        let mut faults = Vec::new();
        // As they are written: what is written in the same way is the same.
        let mut known = HashSet::new();
        for item in node.items(&self.wants(), &self.example())? {
            let at = item.at;
            match self.of.read(item) {
                Ok(value) if !known.insert(self.of.write(&value).to_string()) => {
                    let message = format!("{} is there twice", self.of.write(&value));
                    faults.push(Refusal::new(message, "remove one of the two").at(at));
                }
                Ok(value) => values.push(value),
                Err(Faults(more)) => faults.extend(more),
            }
        }
        if let (Some(why), true, true) = (self.never_empty, values.is_empty(), faults.is_empty()) {
            let remedy = format!("write it like {}", self.example());
            faults.push(Refusal::new(format!("is empty: {why}"), remedy).at(at));
        }
        if faults.is_empty() { Ok(values) } else { Err(Faults(faults)) }
    }

    fn write(&self, value: &Self::Value) -> Value {
        Value::Array(value.iter().map(|item| self.of.write(item)).collect())
    }

    fn wants(&self) -> String {
        format!("list: {}", self.of.wants())
    }

    fn example(&self) -> String {
        format!("[{}]", self.of.example())
    }
}

/// One value, or a list of them; the empty word is none.
pub(super) struct OneOrMore<C> {
    pub(super) of: C,
    /// What none means.
    pub(super) means: &'static str,
}

impl<C: Codec> Codec for OneOrMore<C> {
    type Value = Vec<C::Value>;

    fn read(&self, node: Node) -> Result<Self::Value, Faults> {
        let is_one = match &node.raw {
            Raw::Word(text) | Raw::Text(text) if text.is_empty() => return Ok(Vec::new()),
            Raw::Word(text) => !text.contains(','),
            Raw::List(_) => false,
            _ => true,
        };
        if is_one {
            return Ok(vec![self.of.read(node)?]);
        }
        let mut values = Vec::new();
        let mut faults = Vec::new();
        for item in node.items(&self.wants(), &self.example())? {
            match self.of.read(item) {
                Ok(value) => values.push(value),
                Err(Faults(more)) => faults.extend(more),
            }
        }
        if faults.is_empty() { Ok(values) } else { Err(Faults(faults)) }
    }

    fn write(&self, value: &Self::Value) -> Value {
        let mut all: Vec<Value> = value.iter().map(|item| self.of.write(item)).collect();
        match all.as_slice() {
            [] => Value::String(String::new()),
            // On a command line, one with a comma would be several.
            [Value::String(text)] if text.contains(',') => Value::Array(all),
            [_] => all.remove(0),
            _ => Value::Array(all),
        }
    }

    fn wants(&self) -> String {
        format!("{}, or a list; empty: {}", self.of.wants(), self.means)
    }

    fn example(&self) -> String {
        self.of.example()
    }
}

/// Values by name; names that differ only in case are the same.
pub(super) struct Map<C> {
    pub(super) name: Text<String>,
    pub(super) of: C,
}

impl<C: Codec> Codec for Map<C> {
    type Value = BTreeMap<String, C::Value>;

    fn read(&self, node: Node) -> Result<Self::Value, Faults> {
        let mut values = BTreeMap::new();
        let mut faults = Vec::new();
        // In lower case.
        let mut known = HashSet::new();
        for (name, value) in node.pairs(&self.wants(), &self.example())? {
            let at = value.at;
            let name = match self.name.read(Node { at, raw: Raw::Text(name) }) {
                Ok(name) => Some(name),
                Err(Faults(more)) => {
                    faults.extend(more);
                    None
                }
            };
            match (name, self.of.read(value)) {
                (Some(name), _) if known.contains(&name.to_lowercase()) => {
                    faults.push(
                        Refusal::new(format!("{name:?} is there twice"), "remove one of the two").at(at),
                    );
                }
                (Some(name), Ok(value)) => {
                    known.insert(name.to_lowercase());
                    values.insert(name, value);
                }
                (None, Ok(_)) => {}
                (_, Err(Faults(more))) => faults.extend(more),
            }
        }
        if faults.is_empty() { Ok(values) } else { Err(Faults(faults)) }
    }

    fn write(&self, value: &Self::Value) -> Value {
        Value::Table(value.iter().map(|(name, item)| (name.clone(), self.of.write(item))).collect())
    }

    fn wants(&self) -> String {
        format!("table: {} = {}", self.name.wants, self.of.wants())
    }

    fn example(&self) -> String {
        format!("{{ {} = {} }}", self.name.example(), self.of.example())
    }
}
