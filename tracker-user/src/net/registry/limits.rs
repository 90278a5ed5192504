//! How many connections there may be, and which are given up for others.

use crate::clock::BootTime;
use crate::net::{Connection, Connections, Signal};
use crate::types::{ClientAddr, ConnectionId};

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of all clients.
    pub all: usize,
    /// Of one.
    pub of_client: usize,
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The one for all clients.
    All,
    /// The one for this client.
    Client,
}

impl Connections {
    /// Ends connections on which nothing is served and nobody was ever served, the oldest first, at most `most` of them.
    /// Returns how many.
    pub fn shed(&self, most: usize) -> usize {
        let mut idle = Vec::new();
        self.each(|connection| {
            if connection.signal() == Signal::None && connection.is_idle_and_unproved() {
                idle.push((connection.since, connection.client, connection.id));
            }
        });
        if idle.len() > most {
            idle.select_nth_unstable(most);
            idle.truncate(most);
        }
        let end = |(_, client, id): &(BootTime, ClientAddr, ConnectionId)| {
            let connection = self.clients.get(client).and_then(|own| own.get(id).cloned());
            connection.is_some_and(|connection| connection.end())
        };
        idle.iter().filter(|idle| end(idle)).count()
    }
}

impl Connection {
    fn is_idle_and_unproved(&self) -> bool {
        let guarded = self.guarded();
        guarded.session.is_none() && guarded.carried.is_empty()
    }
}
