//! What a snapshot has of each session, host and user: small, as there are many.

use std::sync::Arc;

use jiff::Timestamp;

use super::value::{Column, Value};
use super::{Snapshot, StandingFilter};
use crate::ops::Standing;
use crate::session::Mode;
use crate::session::settings::Word as _;
use crate::types::{ClientAddr, Device, Identity, Method, SessionId};

/// What somebody uses.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Connections open now.
    pub connections: u32,
    /// When data last moved; `None`: it has not.
    pub last_traffic: Option<Timestamp>,
    /// Payload bytes received from the client.
    pub received: u64,
    /// And sent to it.
    pub sent: u64,
    /// Bytes per second received, since the look before.
    pub receive_rate: f64,
    /// And sent.
    pub send_rate: f64,
}

impl Usage {
    pub(super) fn add(&mut self, other: &Self) {
        self.connections = self.connections.saturating_add(other.connections);
        self.last_traffic = self.last_traffic.max(other.last_traffic);
        self.received = self.received.saturating_add(other.received);
        self.sent = self.sent.saturating_add(other.sent);
        self.receive_rate += other.receive_rate;
        self.send_rate += other.send_rate;
    }

    fn value(&self, column: Column) -> Value<'_> {
        match column {
            Column::Inactivity => Value::Since(self.last_traffic),
            Column::ReceiveRate => Value::Rate(self.receive_rate),
            Column::SendRate => Value::Rate(self.send_rate),
            Column::Received => Value::Bytes(self.received),
            Column::Sent => Value::Bytes(self.sent),
            Column::Connections => Value::Number(self.connections.into()),
            _ => Value::Nothing,
        }
    }
}

/// A session.
#[derive(Clone, Debug)]
pub struct SessionRow {
    /// Its number.
    pub id: SessionId,
    /// The client.
    pub client: ClientAddr,
    /// The client's port, where it is of one connection of a shared host.
    pub port: Option<u16>,
    /// The user.
    pub identity: Arc<Identity>,
    /// The hardware address, where it is known.
    pub device: Option<Device>,
    /// How the user proved themselves.
    pub method: Method,
    /// Whether requests are served on it.
    pub standing: Standing,
    /// The mode it is judged by.
    pub mode: Mode,
    /// When it began.
    pub created: Timestamp,
    /// When it goes stale or ends if nothing more happens.
    pub expires: Option<Timestamp>,
    /// What its client uses, or its connection.
    pub usage: Usage,
}

/// An address that the observer knows.
#[derive(Clone, Debug)]
pub struct HostRow {
    /// The address.
    pub client: ClientAddr,
    /// Which of the snapshot's sessions are its own: from, and up to.
    pub(super) sessions: (u32, u32),
    /// What these are.
    pub kinds: Kinds,
    /// When it last came to count as open.
    pub opened: Option<Timestamp>,
    /// When it last came to count as closed.
    pub closed: Option<Timestamp>,
    /// What it uses.
    pub usage: Usage,
}

/// A user with at least one session.
#[derive(Clone, Debug)]
pub struct UserRow {
    /// Who.
    pub identity: Arc<Identity>,
    /// The addresses of their active sessions, each once,
    pub clients: Vec<ClientAddr>,
    /// and those where they have others alone.
    pub other_clients: Vec<ClientAddr>,
    /// What their sessions are.
    pub kinds: Kinds,
    /// Licences they take.
    pub licences: u32,
    /// When their first session began.
    pub since: Timestamp,
    /// What all their clients use.
    pub usage: Usage,
}

/// Which kinds of sessions there are among some.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    pub(super) fn add(&mut self, standing: Standing, method: Method) {
        self.0 |= Self::of(standing) | Self::by(method);
    }

    const fn of(standing: Standing) -> u8 {
        match standing {
            Standing::Active => 1,
            Standing::Waiting => 2,
            Standing::Stale => 4,
        }
    }

    const fn by(method: Method) -> u8 {
        match method {
            Method::Kerberos => 8,
            Method::Password => 16,
            Method::ApplicationPassword => 32,
            Method::Passkey => 64,
        }
    }

    /// Whether one of them is so.
    #[must_use]
    pub const fn are(self, standing: StandingFilter) -> bool {
        match standing {
            StandingFilter::Is(standing) => self.0 & Self::of(standing) != 0,
            StandingFilter::Nobody => self.0 == 0,
        }
    }

    /// Whether one of them was proved so.
    #[must_use]
    pub const fn have(self, method: Method) -> bool {
        self.0 & Self::by(method) != 0
    }

    /// What to say of all together: that requests are served where on one of them they are.
    #[must_use]
    pub fn standing(self) -> Option<Standing> {
        [Standing::Active, Standing::Waiting, Standing::Stale]
            .into_iter()
            .find(|standing| self.are(StandingFilter::Is(*standing)))
    }
}

impl SessionRow {
    pub(super) fn kinds(&self) -> Kinds {
        let mut kinds = Kinds::default();
        kinds.add(self.standing, self.method);
        kinds
    }

    pub(super) fn value(&self, column: Column) -> Value<'_> {
        match column {
            Column::User => Value::User(&self.identity),
            Column::Address => Value::Client(self.client, self.port),
            Column::Device => self.device.map_or(Value::Nothing, Value::Device),
            Column::Login => Value::Moment(self.created),
            Column::Duration => Value::Since(Some(self.created)),
            Column::Method => Value::Word(self.method.as_str()),
            Column::Mode => Value::Word(self.mode.word()),
            Column::State => Value::Word(self.standing.as_str()),
            Column::Deadline => self.expires.map_or(Value::Nothing, Value::Moment),
            other => self.usage.value(other),
        }
    }
}

impl HostRow {
    /// The sessions of this host.
    #[must_use]
    pub fn sessions<'a>(&self, snapshot: &'a Snapshot) -> &'a [SessionRow] {
        let (from, to) = (self.sessions.0 as usize, self.sessions.1 as usize);
        snapshot.sessions.get(from..to).unwrap_or_default()
    }

    pub(super) fn value<'a>(&'a self, column: Column, snapshot: &'a Snapshot) -> Value<'a> {
        match column {
            Column::Address => Value::Client(self.client, None),
            Column::Users => Value::Users(self.sessions(snapshot)),
            Column::Device => {
                let known = self.sessions(snapshot).iter().find_map(|session| session.device);
                known.map_or(Value::Nothing, Value::Device)
            }
            Column::State => Value::Word(self.kinds.standing().map_or("", Standing::as_str)),
            Column::Opened => self.opened.map_or(Value::Nothing, Value::Moment),
            Column::Closed => self.closed.map_or(Value::Nothing, Value::Moment),
            other => self.usage.value(other),
        }
    }
}

impl UserRow {
    pub(super) fn value(&self, column: Column) -> Value<'_> {
        match column {
            Column::User => Value::User(&self.identity),
            Column::Addresses => Value::Clients(&self.clients, &self.other_clients),
            Column::Licences => Value::Number(self.licences.into()),
            Column::Login => Value::Moment(self.since),
            Column::Duration => Value::Since(Some(self.since)),
            Column::State => Value::Word(self.kinds.standing().map_or("", Standing::as_str)),
            other => self.usage.value(other),
        }
    }
}
