//! TLS handshakes of clients: at most some at a time, and each within its time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::debug;

use crate::net::{ClientStream, Connection, TlsServer};
use crate::types::ConnectionId;

/// A handshake that is not done within this time is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// How many handshakes one core has under way. Beyond that the oldest is given up: those who only begin handshakes do not
/// keep out those who finish them.
pub(super) const MAX_HANDSHAKES: usize = if cfg!(test) { 4 } else { 1024 };

/// The handshakes of a core that are under way. Numbers of connections rise, so the first one is the oldest.
#[derive(Debug, Default)]
pub(super) struct Handshakes(RefCell<BTreeMap<ConnectionId, Arc<Connection>>>);

impl Handshakes {
    /// Does the handshake on a connection that was accepted just now; `None` if it fails, takes too long, or the
    /// connection is ended meanwhile.
    pub(super) async fn run(&self, stream: ClientStream, server: &TlsServer) -> Option<ClientStream> {
        let connection = Arc::clone(stream.connection());
        let _under_way = self.begin(&connection);
        let mut handshake = pin!(stream.secure(server).ok()?);
        let ended_or_done = poll_fn(|cx| connection.poll_until_end(cx, handshake.as_mut()));
        match timeout(HANDSHAKE_TIMEOUT, ended_or_done).await {
            Ok(Some(Ok(stream))) => return Some(stream),
            Ok(Some(Err(error))) => debug!(client = %connection.client(), %error, "a TLS handshake failed"),
            Ok(None) => {}
            Err(_) => debug!(client = %connection.client(), "a TLS handshake took too long"),
        }
        None
    }

    fn begin(&self, connection: &Arc<Connection>) -> UnderWay<'_> {
        let mut all = self.0.borrow_mut();
        all.insert(connection.id(), Arc::clone(connection));
        if all.len() > MAX_HANDSHAKES
            && let Some((_, oldest)) = all.pop_first()
        {
            oldest.end();
        }
        UnderWay { all: self, id: connection.id() }
    }
}

/// A handshake that counts.
struct UnderWay<'a> {
    all: &'a Handshakes,
    id: ConnectionId,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.all.0.borrow_mut().remove(&self.id);
    }
}
