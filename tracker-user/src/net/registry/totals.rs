//! What has moved on all connections together.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use super::{Connection, Connections};
use crate::types::Traffic;

/// What moved on the connections that are no more.
#[derive(Debug, Default)]
pub(super) struct Gone {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Gone {
    pub(super) fn add(&self, connection: &Connection) {
        let (received, sent) = connection.bytes();
        self.received.fetch_add(received, Relaxed);
        self.sent.fetch_add(sent, Relaxed);
    }
}

impl Connections {
    /// Payload bytes on all connections since the start, closed ones included. It looks at each open one: for now and then. What
    /// moved on a connection that closes in this very moment may be missing, and is there the next time.
    #[must_use]
    pub fn totals(&self) -> Traffic {
        let mut total = Traffic { rx: self.gone.received.load(Relaxed), tx: self.gone.sent.load(Relaxed) };
        for own in &self.clients {
            for connection in own.values() {
                let (received, sent) = connection.bytes();
                total.rx = total.rx.saturating_add(received);
                total.tx = total.tx.saturating_add(sent);
            }
        }
        total
    }
}
