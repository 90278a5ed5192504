//! What is recorded of a single connection, for sessions that are of it alone (`timeouts.shared-hosts`): by the same
//! transitions as a client's record, fed by what the proxy itself reads and writes. Nothing is kept of other connections.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use tracker_ebpf::abi::{Settings, TRAFFIC_BOTH};
use tracker_ebpf::record::{Direction, Record};

use crate::clock::BootTime;
use crate::net::{Connection, Connections, Signal};
use crate::session::Evidence;
use crate::types::{ClientAddr, ConnectionId, Traffic};

/// A connection with a record of its own was closed, or its client has ended its side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Whose it was.
    pub client: ClientAddr,
    /// Which.
    pub connection: ConnectionId,
    /// When.
    pub at: BootTime,
    /// What had moved on it when it was closed; `None`: its client has only ended its side.
    pub closed_after: Option<Traffic>,
}

/// See the module.
pub(super) type PerConnectionRecord = Mutex<Record>;

/// What counts as traffic, and from which length on a silence is latched.
#[derive(Debug, Default)]
pub(super) struct TrafficRules {
    limit: AtomicU64,
    direction: AtomicU32,
}

impl TrafficRules {
    /// Whether data that goes this way is traffic.
    pub(super) fn counts(&self, direction: Direction) -> bool {
        direction == Direction::Received || self.direction.load(Relaxed) == TRAFFIC_BOTH
    }
}

/// What was closed or ended and has not been asked for yet. Bounded by the connections that had a record at some time since
/// they were last asked for, of which each tells of either once.
#[derive(Debug, Default)]
pub(super) struct Closings {
    waiting: Mutex<Vec<Left>>,
    told: Notify,
}

impl Closings {
    pub(super) fn tell(&self, left: Left) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(left);
        self.told.notify_one();
    }

    fn take(&self) -> Vec<Left> {
        std::mem::take(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Connections {
    /// From here on, silences of at least the limit are latched, and the directions count that the settings name.
    pub fn apply(&self, settings: Settings) {
        self.rules.limit.store(settings.limit, Relaxed);
        self.rules.direction.store(settings.direction, Relaxed);
    }

    /// Keeps a record of this connection from now on, and returns what it says; one that is kept already goes on. Its last traffic
    /// was `at`, as far as it is known. When the connection closes, [`Self::closed`] tells. `None` if it is closed.
    #[must_use]
    pub fn watch(&self, client: ClientAddr, connection: ConnectionId, at: BootTime) -> Option<Evidence> {
        // While this is held, the connection does not leave the map.
        let own = self.clients.get(&client)?;
        let connection = own.get(&connection).filter(|connection| connection.signal() != Signal::End)?;
        connection.own.get_or_init(|| {
            let begin = Record {
                open: 1,
                opened_at: connection.since.as_nanos(),
                traffic_at: at.as_nanos(),
                ..Record::default()
            };
            Box::new(Mutex::new(begin))
        });
        // Before there was a record of it.
        if connection.has_ended() {
            connection.note_end(at);
        }
        connection.evidence()
    }

    /// What the record says that is kept of this connection; `None` if there is none, or if the connection is closed.
    #[must_use]
    pub fn evidence(&self, client: ClientAddr, connection: ConnectionId) -> Option<Evidence> {
        self.find(client, connection)?.evidence()
    }

    /// The client's end of a connection.
    #[must_use]
    pub fn peer(&self, client: ClientAddr, connection: ConnectionId) -> Option<SocketAddr> {
        Some(self.find(client, connection)?.peer)
    }

    /// When a connection was accepted; `None` if it is closed.
    #[must_use]
    pub fn accepted(&self, client: ClientAddr, connection: ConnectionId) -> Option<BootTime> {
        Some(self.find(client, connection)?.since)
    }

    /// The connections with a record that were closed, or ended by their clients; waits until there is one. Whoever drops
    /// this before it is ready has missed nothing.
    pub async fn left(&self) -> Vec<Left> {
        loop {
            let left = self.closings.take();
            if !left.is_empty() {
                return left;
            }
            self.closings.told.notified().await;
        }
    }

    pub(super) fn find(&self, client: ClientAddr, connection: ConnectionId) -> Option<Arc<Connection>> {
        self.clients.get(&client)?.get(&connection).cloned()
    }
}

impl Connection {
    fn evidence(&self) -> Option<Evidence> {
        let evidence = Evidence::from(&*self.own.get()?.lock().unwrap_or_else(PoisonError::into_inner));
        let (received, sent) = self.bytes();
        Some(Evidence { received, sent, ..evidence })
    }

    /// New data moved on it. Costs nothing where no record is kept.
    #[inline]
    pub(super) fn note_traffic(
        &self,
        direction: Direction,
        rules: &TrafficRules,
        now: impl FnOnce() -> BootTime,
    ) {
        let Some(record) = self.own.get() else { return };
        let (now, limit) = (now().as_nanos(), rules.limit.load(Relaxed));
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        if rules.counts(direction) {
            record.on_traffic(now, limit);
        }
        if direction == Direction::Sent {
            record.on_delivered(now, limit);
        }
    }

    /// Its client has ended its side. True if a record of it is kept; saying it twice changes nothing.
    pub(super) fn note_end(&self, now: BootTime) -> bool {
        let Some(record) = self.own.get() else { return false };
        record.lock().unwrap_or_else(PoisonError::into_inner).on_end(now.as_nanos());
        true
    }
}
