//! Connections by client, and which of them gives way when there are too many: whoever has the most has to.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::net::Connection;
use crate::types::{ClientAddr, ConnectionId};

/// See the module. Numbers of connections rise, so the first one of a client is its oldest.
#[derive(Debug, Default)]
pub(super) struct ByClient {
    of: HashMap<ClientAddr, BTreeMap<ConnectionId, Arc<Connection>>>,
    count: usize,
}

impl ByClient {
    /// How many there are.
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// One more.
    pub(super) fn insert(&mut self, connection: &Arc<Connection>) {
        let own = self.of.entry(connection.client()).or_default();
        if own.insert(connection.id(), Arc::clone(connection)).is_none() {
            self.count += 1;
        }
    }

    /// Takes one out, if it is there.
    pub(super) fn remove(&mut self, client: ClientAddr, id: ConnectionId) -> Option<Arc<Connection>> {
        let own = self.of.get_mut(&client)?;
        let removed = own.remove(&id)?;
        if own.is_empty() {
            self.of.remove(&client);
        }
        self.count -= 1;
        Some(removed)
    }

    /// Takes out the oldest of the client that has the most; where several have as many, the oldest of all of theirs.
    pub(super) fn pop(&mut self) -> Option<Arc<Connection>> {
        let oldest = self.of.iter().filter_map(|(client, own)| {
            let (id, _) = own.first_key_value()?;
            Some((own.len(), Reverse(*id), *client))
        });
        let (_, Reverse(id), client) = oldest.max_by_key(|(count, id, _)| (*count, *id))?;
        self.remove(client, id)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::net::{ClientStream, Connections};

    async fn of_client(registry: &Arc<Connections>, client: u8) -> (ClientStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, peer) = listener.accept().await.unwrap();
        (registry.accept(Ipv4Addr::new(192, 0, 2, client).into(), peer, near), far)
    }

    /// Who has few is not outlasted by who has many, be theirs ever so new.
    #[tokio::test]
    async fn the_client_with_the_most_gives_way() {
        let registry = Arc::new(Connections::new(None));
        let mut all = ByClient::default();
        let mut streams = Vec::new();
        for client in [1, 2, 2, 3, 2, 4] {
            let stream = of_client(&registry, client).await;
            all.insert(stream.0.connection());
            streams.push(stream);
        }
        let number = |connection: &Arc<Connection>| {
            streams.iter().position(|(stream, _)| stream.connection().id() == connection.id())
        };
        // Client 2 gives way until it has one like the others; then it is the oldest of all.
        let order: Vec<_> = std::iter::from_fn(|| all.pop()).map(|connection| number(&connection)).collect();
        assert_eq!(order, [1, 2, 0, 3, 4, 5].map(Some));
        assert_eq!((all.len(), all.of.len()), (0, 0));
        all.insert(streams[0].0.connection());
        all.insert(streams[0].0.connection());
        let (client, id) = (streams[0].0.connection().client(), streams[0].0.connection().id());
        assert!(all.remove(client, id).is_some() && all.remove(client, id).is_none());
        assert_eq!((all.len(), all.of.len()), (0, 0));
    }
}
