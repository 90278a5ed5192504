//! What stands in a column of a row: typed, so that numbers sort as numbers, whoever shows them.

use std::cmp::Ordering;
use std::fmt::Write as _;

use jiff::Timestamp;

use super::SessionRow;
use crate::links::shown;
use crate::types::{ClientAddr, Device, Identity};

/// A column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is explained in docs/OPERATIONS.md")]
pub enum Column {
    User,
    Users,
    Address,
    Addresses,
    Device,
    Login,
    Duration,
    Inactivity,
    ReceiveRate,
    SendRate,
    Received,
    Sent,
    Connections,
    Method,
    Mode,
    State,
    Deadline,
    Licences,
    Opened,
    Closed,
}

impl Column {
    const ALL: [Self; 20] = [
        Self::User,
        Self::Users,
        Self::Address,
        Self::Addresses,
        Self::Device,
        Self::Login,
        Self::Duration,
        Self::Inactivity,
        Self::ReceiveRate,
        Self::SendRate,
        Self::Received,
        Self::Sent,
        Self::Connections,
        Self::Method,
        Self::Mode,
        Self::State,
        Self::Deadline,
        Self::Licences,
        Self::Opened,
        Self::Closed,
    ];

    /// Its word, in addresses of pages and in the head of a CSV file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Users => "users",
            Self::Address => "address",
            Self::Addresses => "addresses",
            Self::Device => "device",
            Self::Login => "login",
            Self::Duration => "duration",
            Self::Inactivity => "inactivity",
            Self::ReceiveRate => "receive-rate",
            Self::SendRate => "send-rate",
            Self::Received => "received",
            Self::Sent => "sent",
            Self::Connections => "connections",
            Self::Method => "method",
            Self::Mode => "mode",
            Self::State => "state",
            Self::Deadline => "deadline",
            Self::Licences => "licences",
            Self::Opened => "opened",
            Self::Closed => "closed",
        }
    }

    /// The one that this word is of.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.as_str() == word)
    }

    /// Whether it has numbers that can be added up.
    #[must_use]
    pub const fn is_sum(self) -> bool {
        matches!(
            self,
            Self::ReceiveRate
                | Self::SendRate
                | Self::Received
                | Self::Sent
                | Self::Connections
                | Self::Licences
        )
    }
}

/// What stands there.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Nothing is known, or applies.
    Nothing,
    /// Somebody.
    User(&'a Identity),
    /// Everybody who has one of these sessions, which are of one host.
    Users(&'a [SessionRow]),
    /// An address, and the port where it is about one connection.
    Client(ClientAddr, Option<u16>),
    /// Addresses where somebody is served, and where they are not.
    Clients(&'a [ClientAddr], &'a [ClientAddr]),
    /// A hardware address.
    Device(Device),
    /// A moment.
    Moment(Timestamp),
    /// The time since a moment; `None`: since ever.
    Since(Option<Timestamp>),
    /// Bytes per second.
    Rate(f64),
    /// Bytes.
    Bytes(u64),
    /// So many.
    Number(u64),
    /// A word of a fixed set.
    Word(&'static str),
}

impl Value<'_> {
    /// Whether there is nothing to tell.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        match self {
            Self::Nothing | Self::Since(None) => true,
            Self::Word(word) => word.is_empty(),
            Self::Users(rows) => rows.is_empty(),
            _ => false,
        }
    }

    /// The order of two of one column. Nothing comes last.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            _ if self.is_nothing() || other.is_nothing() => self.is_nothing().cmp(&other.is_nothing()),
            (Self::User(a), Self::User(b)) => by_name(a, b),
            (Self::Users(a), Self::Users(b)) => first(a).cmp(&first(b)),
            (Self::Client(a, port), Self::Client(b, other)) => (a, port).cmp(&(b, other)),
            (Self::Clients(a, more), Self::Clients(b, others)) => {
                (a.len() + more.len()).cmp(&(b.len() + others.len())).then_with(|| a.cmp(b))
            }
            (Self::Device(a), Self::Device(b)) => a.cmp(b),
            (Self::Moment(a), Self::Moment(b)) => a.cmp(b),
            // What began later has lasted for less.
            (Self::Since(a), Self::Since(b)) => b.cmp(a),
            (Self::Rate(a), Self::Rate(b)) => a.total_cmp(b),
            (Self::Bytes(a), Self::Bytes(b)) | (Self::Number(a), Self::Number(b)) => a.cmp(b),
            (Self::Word(a), Self::Word(b)) => a.cmp(b),
            // A column has one kind of value.
            _ => Ordering::Equal,
        }
    }

    /// Whether it has this text in it, which is in lower case. `buffer` is somewhere to write.
    pub(super) fn has(&self, text: &str, buffer: &mut String) -> bool {
        match self {
            Self::User(who) => names(who, text, buffer),
            Self::Users(rows) => rows.iter().any(|row| names(&row.identity, text, buffer)),
            Self::Client(client, _) => addresses(*client, text, buffer),
            Self::Clients(all, more) => {
                all.iter().chain(*more).any(|client| addresses(*client, text, buffer))
            }
            Self::Device(device) => {
                buffer.clear();
                // A string takes everything.
                let _ = write!(buffer, "{device}");
                buffer.contains(text)
            }
            _ => false,
        }
    }
}

fn by_name(a: &Identity, b: &Identity) -> Ordering {
    // In lower case, so that the order is the one that people expect.
    a.key().cmp(b.key())
}

/// The first of those who have these sessions.
fn first(rows: &[SessionRow]) -> Option<&str> {
    rows.iter().map(|row| row.identity.key()).min()
}

fn names(who: &Identity, text: &str, buffer: &mut String) -> bool {
    if who.key().contains(text) {
        return true;
    }
    // As it is shown: with the short domain.
    buffer.clear();
    // A string takes everything.
    let _ = write!(buffer, "{who}");
    buffer.make_ascii_lowercase();
    buffer.contains(text)
}

fn addresses(client: ClientAddr, text: &str, buffer: &mut String) -> bool {
    buffer.clear();
    // A string takes everything.
    let _ = write!(buffer, "{}", shown(client));
    buffer.contains(text)
}
