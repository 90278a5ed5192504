//! How far a session reaches: a client address, or, where many users share that, one connection.

use crate::types::{ClientAddr, ConnectionId};

/// What a session is of. At most one session is of the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    /// The client address.
    pub client: ClientAddr,
    /// Only this connection of it, on a shared host; `None`: the address as a whole.
    pub connection: Option<ConnectionId>,
}

impl Scope {
    /// One connection of a shared host.
    #[must_use]
    pub const fn connection(client: ClientAddr, connection: ConnectionId) -> Self {
        Self { client, connection: Some(connection) }
    }
}

impl From<ClientAddr> for Scope {
    fn from(client: ClientAddr) -> Self {
        Self { client, connection: None }
    }
}
