//! Whether what happens on a connection is seen: on one that nobody sees, no session may be used or held.

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use super::LOOKED_AT;
use crate::clock::BootTime;
use crate::net::{Connection, Connections, Signal};
use crate::types::{ClientAddr, ConnectionId};

/// How a connection is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It is not seen, or closed.
    No,
    /// It is open.
    Open,
    /// It is open, and its client has ended its side.
    Half,
}

/// A client's connection that is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenConnection {
    /// Its number.
    pub id: ConnectionId,
    /// How it is seen.
    pub seen: Seen,
    /// Whether it came through a balancer. The proxy's own eyes see it then, and the watcher does not count it as the
    /// client's.
    pub is_relayed: bool,
}

/// Who knows of a socket whether what happens on it is seen.
pub trait Watcher: Send + Sync {
    /// How it is seen.
    fn look(&self, socket: BorrowedFd<'_>) -> Seen;

    /// Whom to tell when payload moves on a connection of this client under TLS, where what is seen on the wire does not
    /// show it; `None` if that is heard of otherwise.
    fn payload(&self, client: ClientAddr) -> Option<Box<dyn Payload>>;
}

/// Who is told, for one connection, when payload moves that counts as traffic.
pub trait Payload: fmt::Debug + Send + Sync {
    /// It moved now. Called with every read and write: it neither waits nor costs much.
    fn moved(&self, at: BootTime);
}

impl Connections {
    /// The same registry, where `watcher` knows what is seen. Without one, everything is.
    #[must_use]
    pub fn watched_by(mut self, watcher: Arc<dyn Watcher>) -> Self {
        self.watcher = Some(watcher);
        self
    }

    /// The client's connections that are seen, and how. Costs a system call each.
    #[must_use]
    pub fn seen(&self, client: ClientAddr) -> Vec<SeenConnection> {
        let all = self.snapshot(client).into_iter();
        let seen = all.map(|connection| SeenConnection {
            id: connection.id(),
            seen: self.look_at(&connection),
            is_relayed: connection.is_relayed(),
        });
        seen.filter(|one| one.seen != Seen::No).collect()
    }

    /// Whether a connection is known not to have come through a balancer. Of one that is closed that is only known where
    /// none has.
    #[must_use]
    pub fn is_direct(&self, client: ClientAddr, connection: ConnectionId) -> bool {
        match self.find(client, connection) {
            Some(connection) => !connection.is_relayed(),
            None => !self.has_relayed.load(Relaxed),
        }
    }

    /// Whether a connection that has been held since before `moment` is not seen, of one that is found without looking
    /// far.
    #[must_use]
    pub fn holds_unseen(&self, moment: BootTime) -> bool {
        let older = |connection: &&Arc<Connection>| {
            let is_open = connection.since < moment && connection.signal() != Signal::End;
            is_open && !connection.is_relayed()
        };
        let mut clients = self.clients.iter().take(LOOKED_AT);
        let one = clients.find_map(|own| own.values().find(older).cloned());
        one.is_some_and(|connection| {
            // Closed by the client, and not yet by us, it is not seen either.
            connection.bytes().0 > 0 && !connection.has_ended() && self.look_at(&connection) == Seen::No
        })
    }

    /// A connection was its client's last.
    pub(super) fn has_left(&self, connection: &Connection) {
        if connection.session().is_some() {
            self.left.lock().unwrap_or_else(PoisonError::into_inner).insert(connection.client);
        }
    }

    /// The clients with a session whose last connection was closed since this was asked last, and who have none now.
    #[must_use]
    pub fn have_left(&self) -> Vec<ClientAddr> {
        let left = std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner));
        left.into_iter().filter(|client| !self.clients.contains_key(client)).collect()
    }

    /// Whether what happens on this connection is seen. Costs a system call.
    #[must_use]
    pub fn is_seen(&self, connection: &Connection) -> bool {
        self.look_at(connection) != Seen::No
    }

    fn look_at(&self, connection: &Connection) -> Seen {
        let state = connection.guarded();
        let Some(fd) = state.fd else { return Seen::No };
        if connection.is_relayed() {
            return if connection.has_ended() { Seen::Half } else { Seen::Open };
        }
        #[expect(unsafe_code, reason = "the descriptor is kept by number, as the stream owns it")]
        // SAFETY: the stream takes the descriptor out under the lock that is held here before it closes it.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) };
        self.look(socket)
    }

    pub(super) fn look(&self, socket: BorrowedFd<'_>) -> Seen {
        self.watcher.as_ref().map_or(Seen::Open, |watcher| watcher.look(socket))
    }
}
