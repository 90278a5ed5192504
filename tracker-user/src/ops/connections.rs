//! Connections that clients hold to the proxy, and the last decisions about their requests.

use std::net::SocketAddr;

use jiff::Timestamp;

use super::{Ops, OpsError};
use crate::clock::Anchor;
use crate::net::Carried;
use crate::proxy::decision_log::DecisionRecord;
use crate::types::{ClientAddr, SessionId};

/// A connection of a client to the proxy.
#[derive(Clone, Debug)]
pub struct OpenConnection {
    /// The client's port.
    pub port: u16,
    /// The balancer's end, where it came through one.
    pub via: Option<SocketAddr>,
    /// Since when.
    pub since: Timestamp,
    /// The session it was last served on.
    pub session: Option<SessionId>,
    /// What it carries now.
    pub carries: Carried,
    /// Bytes received from the client.
    pub bytes_received: u64,
    /// Bytes sent to the client.
    pub bytes_sent: u64,
}

impl Ops {
    /// The client's connections to the proxy, the oldest first. There are never more than the proxy takes of one client.
    ///
    /// # Errors
    /// When the gateway is stopping.
    pub async fn connections(&self, client: ClientAddr) -> Result<Vec<OpenConnection>, OpsError> {
        self.look(async move |ops| Ok(ops.open_connections(client))).await
    }

    /// The last decisions about the client's requests that had to prove themselves, the newest first.
    ///
    /// # Errors
    /// When the gateway is stopping.
    pub async fn decisions(&self, client: ClientAddr) -> Result<Vec<DecisionRecord>, OpsError> {
        self.look(async move |ops| Ok(ops.parts().recent.of(client))).await
    }

    pub(super) fn open_connections(&self, client: ClientAddr) -> Vec<OpenConnection> {
        let anchor = Anchor::now();
        let all = self.parts().connections.of(client).into_iter();
        let all = all.map(|connection| OpenConnection {
            port: connection.peer.port(),
            via: connection.via,
            since: anchor.wall(connection.since),
            session: connection.session,
            carries: connection.carries,
            bytes_received: connection.rx,
            bytes_sent: connection.tx,
        });
        let mut all: Vec<OpenConnection> = all.collect();
        all.sort_by_key(|connection| connection.since);
        all
    }
}
