//! TLS handshakes of clients: at most some at a time, and each within its time.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tracing::debug;

use crate::net::{ClientStream, Connection, TlsServer};
use crate::types::{ClientAddr, ConnectionId};

/// A handshake that is not done within this time is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// How many handshakes one core has under way. Beyond that the oldest of the client that has the most is given up: those who
/// only begin handshakes do not keep out those who finish them, however long these take.
pub(super) const MAX_HANDSHAKES: usize = if cfg!(test) { 4 } else { 1024 };

/// What became of a handshake.
pub(super) enum Secured {
    /// It is done.
    Done(ClientStream),
    /// The client began to speak HTTP, without TLS. Nothing of it has been taken.
    Plain(ClientStream),
    /// The client began it, and did not come to its end.
    Failed,
    /// The client left without a word, or the connection was ended meanwhile.
    Ended,
}

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

impl Handshakes {
    /// Does the handshake on a connection that was accepted just now.
    pub(super) async fn run(&self, stream: ClientStream, server: &TlsServer) -> Secured {
        let connection = Arc::clone(stream.connection());
        let client = connection.client();
        let _counts = self.begin(&connection);
        let mut has_begun = false;
        let done = {
            let mut handshake = pin!(shake(stream, server, &mut has_begun));
            let ended_or_done = poll_fn(|cx| connection.poll_until_end(cx, handshake.as_mut()));
            timeout(HANDSHAKE_TIMEOUT, ended_or_done).await
        };
        match done {
            Ok(Some(secured @ (Secured::Done(_) | Secured::Plain(_)))) => secured,
            Ok(Some(_)) if has_begun => Secured::Failed,
            Err(_) if has_begun => {
                debug!(%client, "a TLS handshake took too long");
                Secured::Failed
            }
            Ok(_) | Err(_) => Secured::Ended,
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

/// The handshake itself; `has_begun` from the first byte of it on.
async fn shake(stream: ClientStream, server: &TlsServer, has_begun: &mut bool) -> Secured {
    let client = stream.connection().client();
    match stream.first_byte().await {
        // A method of HTTP; every record of TLS begins with a number below these.
        Ok(Some(b'A'..=b'Z')) => return Secured::Plain(stream),
        Ok(Some(_)) => *has_begun = true,
        Ok(None) | Err(_) => return Secured::Ended,
    }
    let Ok(handshake) = stream.secure(server) else { return Secured::Ended };
    match handshake.await {
        Ok(stream) => Secured::Done(stream),
        Err(error) => {
            debug!(%client, %error, "a TLS handshake failed");
            Secured::Failed
        }
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
