//! What stands in a row under a column.

use std::cmp::Ordering;
use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::Value;

use crate::cli::show::{bytes, moment, span};
use crate::outside;

/// See the module: typed, so that it can be compared.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli) enum Cell {
    /// Nothing is known, or it does not apply.
    Nothing,
    /// Words.
    Text(String),
    /// A word, and what people read for it.
    Said(String, &'static str),
    /// Several words, as of one user's addresses.
    Several(Vec<String>),
    /// An address, or what begins with one.
    Address(String),
    /// A count.
    Count(u64),
    /// Bytes.
    Bytes(f64),
    /// Bytes a second.
    Rate(f64),
    /// A length of time, in seconds; and how it is said.
    Span(f64, &'static str),
    /// A moment.
    Moment(Timestamp),
    /// How far a moment is away: it is shown by that, and sorts by itself.
    Away(Timestamp, String),
}

impl Cell {
    /// Text, where there is some.
    pub(in crate::cli) fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        if text.is_empty() { Self::Nothing } else { Self::Text(text) }
    }

    /// As people read it; nothing in it does something on a terminal.
    pub(in crate::cli) fn shown(&self) -> String {
        let text = match self {
            Self::Nothing => return "-".into(),
            Self::Text(text) | Self::Address(text) => text.clone(),
            Self::Said(_, shown) => return (*shown).into(),
            Self::Several(all) => all.join(" "),
            Self::Count(count) => return count.to_string(),
            Self::Bytes(count) => return bytes(*count),
            Self::Rate(rate) => return format!("{}/s", bytes(*rate)),
            Self::Span(seconds, words) => return format!("{}{words}", span(*seconds)),
            Self::Moment(at) => return moment(*at),
            Self::Away(_, shown) => return shown.clone(),
        };
        outside::shown(&text, outside::SENTENCE).into_owned()
    }

    /// Whether it is a number: those stand on the right.
    pub(in crate::cli) const fn is_number(&self) -> bool {
        matches!(self, Self::Count(_) | Self::Bytes(_) | Self::Rate(_) | Self::Span(..))
    }

    /// The number that it is compared by.
    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Count(count) => Some(*count as f64),
            Self::Bytes(number) | Self::Rate(number) | Self::Span(number, _) => Some(*number),
            _ => None,
        }
    }

    /// The moment that it is compared by.
    pub(super) const fn moment(&self) -> Option<Timestamp> {
        match self {
            Self::Moment(at) | Self::Away(at, _) => Some(*at),
            _ => None,
        }
    }

    /// The words that a filter looks at.
    pub(super) fn words(&self) -> Vec<String> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Several(all) => all.clone(),
            Self::Said(word, shown) => vec![word.clone(), (*shown).into()],
            other => vec![other.shown()],
        }
    }

    /// As a program reads it.
    pub(super) fn json(&self) -> Value {
        match self {
            Self::Nothing => Value::Null,
            Self::Text(text) | Self::Address(text) | Self::Said(text, _) => text.as_str().into(),
            Self::Several(all) => all.clone().into(),
            Self::Count(count) => (*count).into(),
            Self::Bytes(number) | Self::Rate(number) | Self::Span(number, _) => (*number).into(),
            Self::Moment(at) | Self::Away(at, _) => at.to_string().into(),
        }
    }

    /// Numbers as numbers, addresses as addresses, words in any case; what is not known comes last.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Nothing, Self::Nothing) => Ordering::Equal,
            (Self::Nothing, _) => Ordering::Greater,
            (_, Self::Nothing) => Ordering::Less,
            _ => {
                if let Some((a, b)) = self.number().zip(other.number()) {
                    return a.total_cmp(&b);
                }
                if let Some((a, b)) = self.moment().zip(other.moment()) {
                    return a.cmp(&b);
                }
                let (a, b) = (self.shown(), other.shown());
                match (address(&a), address(&b)) {
                    (Some(a), Some(b)) => a.cmp(&b),
                    _ => a.to_lowercase().cmp(&b.to_lowercase()),
                }
            }
        }
    }
}

/// The address that a text is, with or without a port or a zone.
fn address(text: &str) -> Option<(bool, IpAddr, u16)> {
    if let Ok(with_port) = text.parse::<std::net::SocketAddr>() {
        return Some((with_port.is_ipv6(), with_port.ip(), with_port.port()));
    }
    let bare = text.split('%').next().unwrap_or_default();
    let address: IpAddr = bare.parse().ok()?;
    Some((address.is_ipv6(), address, 0))
}
