//! TLS handshakes of clients: at most some at a time, and each within its time.

mod by_client;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::debug;

use self::by_client::ByClient;
use crate::net::{ClientStream, Connection, TlsServer};
use crate::types::{ClientAddr, ConnectionId};

/// A handshake that is not done within this time is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// How many handshakes one core has under way. Beyond that the oldest of the client that has the most is given up: those
/// who only begin handshakes do not keep out those who finish them, however long these take.
pub(super) const MAX_HANDSHAKES: usize = if cfg!(test) { 4 } else { 1024 };

/// The handshakes of a core that are under way.
#[derive(Debug, Default)]
pub(super) struct Handshakes(RefCell<ByClient>);

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
        all.insert(connection);
        if all.len() > MAX_HANDSHAKES
            && let Some(oldest) = all.pop()
        {
            oldest.end();
        }
        UnderWay { all: self, client: connection.client(), id: connection.id() }
    }
}

/// A handshake that counts.
struct UnderWay<'a> {
    all: &'a Handshakes,
    client: ClientAddr,
    id: ConnectionId,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.all.0.borrow_mut().remove(self.client, self.id);
    }
}
