//! A value as it was written, before its key has judged it: from the file, or from the command line.

use toml::de::DeValue;
use toml::{Spanned, Value};

use super::problem::{Fault, Refusal};

/// A written value and where it stands, in bytes from the start of the text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) raw: Raw,
}

/// A written value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Raw {
    /// From the command line, where nothing says what type it is.
    Word(String),
    Text(String),
    /// Saturated where it does not fit.
    Integer(i128),
    Flag(bool),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
    /// A kind that no key takes, by its name.
    Other(&'static str),
}

impl Node {
    /// A value of the file.
    pub(super) fn from_toml(value: &Spanned<DeValue<'_>>) -> Self {
        let raw = match value.get_ref() {
            DeValue::String(text) => Raw::Text(text.clone().into_owned()),
            DeValue::Integer(number) => Raw::Integer(integer(number.as_str(), number.radix())),
            DeValue::Boolean(flag) => Raw::Flag(*flag),
            DeValue::Array(items) => Raw::List(items.iter().map(Self::from_toml).collect()),
            DeValue::Table(table) => Raw::Map(
                table
                    .iter()
                    .map(|(key, value)| (key.get_ref().to_string(), Self::from_toml(value)))
                    .collect(),
            ),
            DeValue::Float(_) => Raw::Other("a number with a fraction"),
            DeValue::Datetime(_) => Raw::Other("a date"),
        };
        Self { at: value.span().start, raw }
    }

    /// What an operator typed: TOML where it can only be that, else a bare word.
    pub(super) fn from_command_line(text: &str) -> Self {
        let text = text.trim();
        if text.starts_with(['[', '{', '"', '\''])
            && let Ok(value) = DeValue::parse(text)
        {
            return Self::from_toml(&value);
        }
        Self::word(text)
    }

    fn word(text: &str) -> Self {
        Self { at: 0, raw: Raw::Word(text.to_owned()) }
    }

    /// The text that this is, or the refusal of anything else.
    pub(super) fn text(&self, wanted: &str, example: &str) -> Result<&str, Fault> {
        match &self.raw {
            Raw::Word(text) | Raw::Text(text) => Ok(text),
            _ => Err(self.wrong(wanted, example)),
        }
    }

    /// The elements that this is; a bare word is taken apart at commas and spaces.
    pub(super) fn items(self, wanted: &str, example: &str) -> Result<Vec<Self>, Fault> {
        match self.raw {
            Raw::List(items) => Ok(items),
            Raw::Word(text) => Ok(words(&text).map(Self::word).collect()),
            _ => Err(self.wrong(wanted, example)),
        }
    }

    /// The pairs that this is; a bare word is taken apart into `NAME=VALUE`.
    pub(super) fn pairs(self, wanted: &str, example: &str) -> Result<Vec<(String, Self)>, Fault> {
        match &self.raw {
            Raw::Map(_) => {}
            Raw::Word(text) => {
                let pairs: Option<Vec<_>> = words(text)
                    .map(|pair| {
                        pair.split_once('=').map(|(name, value)| (name.to_owned(), Self::word(value)))
                    })
                    .collect();
                return pairs.ok_or_else(|| self.wrong(wanted, example));
            }
            _ => return Err(self.wrong(wanted, example)),
        }
        let Raw::Map(pairs) = self.raw else { return Ok(Vec::new()) };
        Ok(pairs)
    }

    /// The fault of being of the wrong kind.
    pub(super) fn wrong(&self, wanted: &str, example: &str) -> Fault {
        let kind = match &self.raw {
            Raw::Word(text) => return self.refuse(format!("wants {wanted}, not {text:?}"), example),
            Raw::Text(text) => return self.refuse(format!("wants {wanted}, not the text {text:?}"), example),
            Raw::Integer(number) => {
                return self.refuse(format!("wants {wanted}, not the number {number}"), example);
            }
            Raw::Flag(flag) => return self.refuse(format!("wants {wanted}, not {flag}"), example),
            Raw::List(_) => "a list",
            Raw::Map(_) => "a table",
            Raw::Other(kind) => kind,
        };
        self.refuse(format!("wants {wanted}, not {kind}"), example)
    }

    fn refuse(&self, message: String, example: &str) -> Fault {
        Refusal::new(message, format!("write it like {example}")).at(self.at)
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty())
}

fn integer(digits: &str, radix: u32) -> i128 {
    i128::from_str_radix(digits, radix).unwrap_or(if digits.starts_with('-') { i128::MIN } else { i128::MAX })
}

/// A value as `trackerctl set` takes it: bare where that says the same, else TOML.
pub(super) fn to_command_line(value: &Value) -> String {
    let bare = match value {
        Value::Array(items) => items.iter().map(|item| bare(item, false)).collect::<Option<Vec<_>>>(),
        Value::Table(pairs) => pairs
            .iter()
            .map(|(name, value)| {
                let sound = is_bare(name, false) && !name.contains('=');
                sound.then(|| bare(value, false).map(|value| format!("{name}={value}")))?
            })
            .collect(),
        scalar => bare(scalar, true).map(|word| vec![word]),
    };
    match bare {
        // An empty list is `[]`: empty output would look like an answer that is missing.
        Some(words) if !words.is_empty() => words.join(", "),
        _ => value.to_string(),
    }
}

fn bare(value: &Value, alone: bool) -> Option<String> {
    match value {
        Value::String(text) => is_bare(text, alone).then(|| text.clone()),
        Value::Integer(_) | Value::Boolean(_) => Some(value.to_string()),
        _ => None,
    }
}

/// Whether `text` comes back as itself from a command line, alone or as one of a list.
fn is_bare(text: &str, alone: bool) -> bool {
    if alone {
        text.trim() == text && !text.starts_with(['[', '{', '"', '\''])
    } else {
        !text.is_empty()
            && !text.contains(|c: char| c == ',' || c.is_whitespace())
            && !text.starts_with(['{', '"', '\''])
            // `[::1]:3128` is no TOML and stays a word; anything that could be a list is written as one.
            && (!text.starts_with('[') || DeValue::parse(text).is_err() && text.contains("]:"))
    }
}
