//! TLS handshakes of clients: at most some at a time, and each within its time.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::debug;

use crate::net::{ClientStream, Connection, HandshakeError, TlsServer};
use crate::types::{ClientAddr, ConnectionId};

/// A handshake that is not done within this time is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// How many handshakes one core has under way. Beyond that the oldest of the client that has the most is given up: those who
/// only begin handshakes do not keep out those who finish them, however long these take.
pub(super) const MAX_HANDSHAKES: usize = if cfg!(test) { 4 } else { 1024 };

/// The handshakes of a core that are under way, by client. Numbers of connections rise, so the first one of a client is its
/// oldest.
#[derive(Debug, Default)]
pub(super) struct Handshakes(RefCell<UnderWay>);

#[derive(Debug, Default)]
struct UnderWay {
    of: HashMap<ClientAddr, BTreeMap<ConnectionId, Arc<Connection>>>,
    count: usize,
}

impl UnderWay {
    fn insert(&mut self, connection: &Arc<Connection>) {
        let before =
            self.of.entry(connection.client()).or_default().insert(connection.id(), Arc::clone(connection));
        self.count += usize::from(before.is_none());
    }

    fn remove(&mut self, client: ClientAddr, id: ConnectionId) -> Option<Arc<Connection>> {
        let own = self.of.get_mut(&client)?;
        let removed = own.remove(&id)?;
        if own.is_empty() {
            self.of.remove(&client);
        }
        self.count -= 1;
        Some(removed)
    }

    /// Takes out the oldest of the client that has the most; of several such clients, the oldest of all of theirs.
    fn pop(&mut self) -> Option<Arc<Connection>> {
        let heads = self.of.iter().filter_map(|(client, own)| {
            let (oldest, _) = own.first_key_value()?;
            Some((own.len(), std::cmp::Reverse(*oldest), *client))
        });
        let (_, oldest, client) = heads.max_by_key(|(count, oldest, _)| (*count, *oldest))?;
        self.remove(client, oldest.0)
    }
}

/// What a handshake came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A new session of TLS.
    Full,
    /// One that goes on from an earlier one.
    Resumed,
    /// The client left before it said anything.
    Unused,
    /// The client spoke no TLS.
    Plain,
    /// Nothing in common.
    Incompatible,
    /// The client did not want to go on; most often it does not trust the certificate.
    Refused,
    /// The protocol was broken.
    Broken,
    /// The client left in the middle.
    Left,
    /// It took too long.
    TimedOut,
    /// The connection was ended from outside: the gateway stops, or there were too many handshakes.
    Ended,
}

impl Outcome {
    /// All of them.
    pub(super) const ALL: [Self; 10] = [
        Self::Full,
        Self::Resumed,
        Self::Unused,
        Self::Plain,
        Self::Incompatible,
        Self::Refused,
        Self::Broken,
        Self::Left,
        Self::TimedOut,
        Self::Ended,
    ];

    /// As metrics name it.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Resumed => "resumed",
            Self::Unused => "unused",
            Self::Plain => "plain",
            Self::Incompatible => "incompatible",
            Self::Refused => "refused",
            Self::Broken => "broken",
            Self::Left => "left",
            Self::TimedOut => "timed-out",
            Self::Ended => "ended",
        }
    }
}

impl From<&HandshakeError> for Outcome {
    fn from(error: &HandshakeError) -> Self {
        match error {
            HandshakeError::Unused => Self::Unused,
            HandshakeError::Plain => Self::Plain,
            HandshakeError::Incompatible(_) => Self::Incompatible,
            HandshakeError::Refused(_) => Self::Refused,
            HandshakeError::Broken(_) => Self::Broken,
            HandshakeError::Left(_) => Self::Left,
        }
    }
}

/// How a handshake ended.
pub(super) struct Done {
    /// The connection, if it can be served.
    pub(super) stream: Option<ClientStream>,
    pub(super) outcome: Outcome,
    /// Whether it speaks against the client ([`HandshakeError::is_offence`]).
    pub(super) is_offence: bool,
}

impl Handshakes {
    /// Does the handshake on a connection that was accepted just now.
    pub(super) async fn run(&self, stream: ClientStream, server: &TlsServer) -> Done {
        let failed = |outcome, is_offence| Done { stream: None, outcome, is_offence };
        let connection = Arc::clone(stream.connection());
        let client = connection.client();
        let _counts = self.begin(&connection);
        let Ok(handshake) = stream.secure(server) else { return failed(Outcome::Ended, false) };
        let mut handshake = pin!(handshake);
        let ended_or_done = poll_fn(|cx| connection.poll_until_end(cx, handshake.as_mut()));
        match timeout(HANDSHAKE_TIMEOUT, ended_or_done).await {
            Ok(Some(Ok(stream))) => {
                let outcome = if stream.is_resumed() { Outcome::Resumed } else { Outcome::Full };
                Done { stream: Some(stream), outcome, is_offence: false }
            }
            Ok(Some(Err(error))) => {
                debug!(%client, %error, "a TLS handshake came to nothing");
                failed(Outcome::from(&error), error.is_offence())
            }
            Ok(None) => failed(Outcome::Ended, false),
            Err(_) => {
                debug!(%client, "a TLS handshake took too long");
                // Whoever has said nothing has not had the gateway work.
                failed(Outcome::TimedOut, handshake.has_begun())
            }
        }
    }

    fn begin(&self, connection: &Arc<Connection>) -> Counts<'_> {
        let mut all = self.0.borrow_mut();
        all.insert(connection);
        if all.count > MAX_HANDSHAKES
            && let Some(oldest) = all.pop()
        {
            oldest.end();
        }
        Counts { all: self, client: connection.client(), id: connection.id() }
    }
}

/// A handshake that counts.
struct Counts<'a> {
    all: &'a Handshakes,
    client: ClientAddr,
    id: ConnectionId,
}

impl Drop for Counts<'_> {
    fn drop(&mut self) {
        self.all.0.borrow_mut().remove(self.client, self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::net::{Connections, Signal};

    async fn of_client(registry: &Arc<Connections>, client: u8) -> (ClientStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, peer) = listener.accept().await.unwrap();
        (registry.accept(Ipv4Addr::new(192, 0, 2, client).into(), peer, near), far)
    }

    /// Whoever has the most gives way, and who has few is not outlasted by them, be theirs ever so old.
    #[tokio::test]
    async fn the_client_with_the_most_gives_way() {
        let registry = Arc::new(Connections::new(None));
        let mut streams = Vec::new();
        for client in [1, 2, 2, 3, 2, 4] {
            streams.push(of_client(&registry, client).await);
        }
        let all = Handshakes::default();
        let connection = |at: usize| streams[at].0.connection();
        let ended = || (0..6).filter(|at| connection(*at).signal() == Signal::End).collect::<Vec<_>>();
        let mut counts: Vec<_> = (0..4).map(|at| all.begin(connection(at))).collect();
        assert_eq!(ended(), [0_usize; 0]);
        counts.push(all.begin(connection(4)));
        assert_eq!(ended(), [1], "the oldest of client 2, though client 1 began before");
        counts.push(all.begin(connection(5)));
        assert_eq!(ended(), [1, 2]);
        assert_eq!(all.0.borrow().count, MAX_HANDSHAKES);
        // One each: now it is the oldest of all.
        let seventh = of_client(&registry, 5).await;
        counts.push(all.begin(seventh.0.connection()));
        assert_eq!(ended(), [0, 1, 2]);
        drop(counts);
        assert!(all.0.borrow().of.is_empty() && all.0.borrow().count == 0);
    }
}
