//! What readers on the hot path see: one entry per valid session, one table read and one comparison per request.

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::piece_map::{Keyed, PieceMap};
use crate::clock::BootTime;
use crate::types::{ClientAddr, ConnectionId, Identity, Scope, SessionId};

/// A request is served in the name of this session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The session.
    pub session: SessionId,
    /// Its user.
    pub identity: Arc<Identity>,
}

/// What is to be done with a request that carries no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Serve it.
    Allow(Admitted),
    /// Ask the client to prove who it is.
    Challenge,
}

#[derive(Debug)]
struct Entry<K> {
    key: K,
    good_until: BootTime,
    /// The policy by which it was judged.
    epoch: u64,
    admitted: Admitted,
}

impl<K: Copy + Eq + Hash> Keyed for Entry<K> {
    type Key = K;

    fn key(&self) -> K {
        self.key
    }
}

/// So many locks share the entries, so that readers seldom meet the writer.
const SHARDS: usize = 32;

type Shards<K> = [RwLock<PieceMap<Entry<K>>>; SHARDS];

/// The published view of the table. Written by the table only.
#[derive(Debug, Default)]
pub struct Index {
    clients: Shards<ClientAddr>,
    /// Of shared hosts.
    connections: Shards<ConnectionId>,
    /// Counts the policies; what was published under an earlier one has to be judged anew.
    epoch: AtomicU64,
}

impl Index {
    /// What is to be done at `now`; `None` if the record has to be read first, because a gap may have passed.
    #[must_use]
    pub fn decide(&self, client: ClientAddr, now: BootTime) -> Option<Decision> {
        self.look(shard_of_client(&self.clients, client), client, now)
    }

    /// The same for a connection of a shared host.
    #[must_use]
    pub fn decide_on(&self, connection: ConnectionId, now: BootTime) -> Option<Decision> {
        self.look(shard_of_connection(&self.connections, connection), connection, now)
    }

    fn look<K: Copy + Eq + Hash>(
        &self,
        shard: &RwLock<PieceMap<Entry<K>>>,
        key: K,
        now: BootTime,
    ) -> Option<Decision> {
        let entries = shard.read().unwrap_or_else(PoisonError::into_inner);
        match entries.get(key) {
            None => Some(Decision::Challenge),
            Some(entry) if now < entry.good_until && entry.epoch == self.epoch.load(Ordering::Acquire) => {
                Some(Decision::Allow(entry.admitted.clone()))
            }
            Some(_) => None,
        }
    }

    pub(super) fn publish(&self, scope: Scope, good_until: BootTime, admitted: Admitted) {
        let epoch = self.epoch.load(Ordering::Acquire);
        match scope.connection {
            None => {
                let shard = shard_of_client(&self.clients, scope.client);
                insert(shard, Entry { key: scope.client, good_until, epoch, admitted });
            }
            Some(connection) => {
                let shard = shard_of_connection(&self.connections, connection);
                insert(shard, Entry { key: connection, good_until, epoch, admitted });
            }
        }
    }

    pub(super) fn outdate(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn withdraw(&self, scope: Scope) {
        match scope.connection {
            None => remove(shard_of_client(&self.clients, scope.client), scope.client),
            Some(connection) => remove(shard_of_connection(&self.connections, connection), connection),
        }
    }
}

fn insert<K: Copy + Eq + Hash>(shard: &RwLock<PieceMap<Entry<K>>>, entry: Entry<K>) {
    shard.write().unwrap_or_else(PoisonError::into_inner).insert(entry);
}

fn remove<K: Copy + Eq + Hash>(shard: &RwLock<PieceMap<Entry<K>>>, key: K) {
    shard.write().unwrap_or_else(PoisonError::into_inner).remove(key);
}

/// Addresses that follow each other lie in different shards.
fn shard_of_client(shards: &Shards<ClientAddr>, client: ClientAddr) -> &RwLock<PieceMap<Entry<ClientAddr>>> {
    let mixed = client.0.iter().fold(0_usize, |mixed, byte| mixed.wrapping_mul(31) + usize::from(*byte));
    shard(shards, mixed)
}

fn shard_of_connection(
    shards: &Shards<ConnectionId>,
    connection: ConnectionId,
) -> &RwLock<PieceMap<Entry<ConnectionId>>> {
    shard(shards, connection.number() as usize)
}

fn shard<K>(shards: &Shards<K>, number: usize) -> &RwLock<PieceMap<Entry<K>>> {
    let [first, ..] = shards;
    shards.get(number % SHARDS).unwrap_or(first)
}
