//! A connection's place in the registry, and the counting of what moves on it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::task::Poll;

use tracker_ebpf::record::Direction;

use super::{Connection, Connections, Left};
use crate::clock::boot_now;

/// A connection's place in the registry, for as long as this lives. Whoever holds it together with the descriptor drops
/// this one first: while the registry knows a descriptor, it is open and the connection's.
pub(in crate::net) struct Membership {
    registry: Arc<Connections>,
    connection: Arc<Connection>,
}

impl Membership {
    pub(in crate::net) const fn new(registry: Arc<Connections>, connection: Arc<Connection>) -> Self {
        Self { registry, connection }
    }

    /// The connection.
    pub(in crate::net) const fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// From now on what is on the wire is TLS: the kernel side sees that, and is told when payload moves. Of a connection
    /// through a balancer it sees nothing that is the client's, and is told nothing: others see its payload as it is.
    pub(in crate::net) fn is_under_tls(&self) {
        if self.connection.is_relayed() {
            return;
        }
        if let Some(payload) =
            self.registry.watcher.as_ref().and_then(|watcher| watcher.payload(self.connection.client))
        {
            // It becomes so once.
            let _ = self.connection.payload.set(payload);
        }
    }

    /// This many bytes of payload were received into a buffer with room; 0 means that the client has ended its side.
    #[inline]
    pub(in crate::net) fn received(&self, bytes: usize) {
        if bytes > 0 {
            return self.moved(Direction::Received, bytes);
        }
        if self.connection.ended.swap(true, AcqRel) {
            return;
        }
        let (client, at) = (self.connection.client, boot_now());
        if self.connection.note_end(at) {
            let connection = self.connection.id;
            self.registry.closings.tell(Left { client, connection, at, closed_after: None });
        }
        if let Some(eyes) = self.registry.eyes_of(&self.connection) {
            eyes.ended(client, at);
        }
    }

    /// This many bytes of payload were moved.
    #[inline]
    pub(in crate::net) fn moved(&self, direction: Direction, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let bytes = bytes as u64;
        match direction {
            Direction::Received => &self.connection.rx,
            Direction::Sent => &self.connection.tx,
        }
        .fetch_add(bytes, Relaxed);
        self.traffic(direction, bytes);
    }

    /// What was moved is traffic: whoever decides by that is told. All that is read and written is, as long as a
    /// connection's payload is requests and content alone; a protocol with words of its own in it (the PINGs of HTTP/2) has
    /// its front call this for requests and content.
    #[inline]
    fn traffic(&self, direction: Direction, bytes: u64) {
        let rules = &self.registry.rules;
        self.connection.note_traffic(direction, rules, boot_now);
        if let Some(payload) = self.connection.payload.get()
            && rules.counts(direction)
        {
            payload.moved(boot_now());
        }
        if let Some(eyes) = self.registry.eyes_of(&self.connection) {
            let ended = self.connection.ended.load(Relaxed);
            eyes.data(self.connection.client, direction, bytes, ended, boot_now());
        }
    }

    /// Counts what a write has taken.
    #[inline]
    pub(in crate::net) fn sent(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = result {
            self.moved(Direction::Sent, bytes);
        }
        result
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.registry.forget(&self.connection);
    }
}
