//! Idle connections to origins, kept for the next request to the same one.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;

use super::access::RequestBody;
use super::connection::Client;
use crate::clock::{BootTime, boot_now};

/// A connection to an origin, as its user sees it; dropping it closes the connection.
pub(super) type Sender = SendRequest<RequestBody>;

/// Neighbouring origins seldom wait for each other.
const SHARDS: usize = 16;

/// How long a connection may take to become ready for the next request after an answer.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// An idle connection.
pub(super) struct Idle {
    pub(super) sender: Sender,
    /// Since when.
    pub(super) since: BootTime,
}

type Shard = Mutex<HashMap<Arc<str>, Vec<Idle>>>;

/// See the module. No lock is held across an await.
#[derive(Default)]
pub(super) struct Pool {
    hasher: RandomState,
    shards: [Shard; SHARDS],
}

impl Pool {
    /// The connection to this origin that was used last: the likeliest to be still open, and the others get to be
    /// closed.
    pub(super) fn take(&self, key: &str, idle_timeout: Duration) -> Option<Idle> {
        let mut shard = self.shard(key)?;
        let idle = shard.get_mut(key)?;
        let oldest_good = boot_now();
        while let Some(candidate) = idle.pop() {
            if candidate.sender.is_ready() && oldest_good.since(candidate.since) < idle_timeout {
                return Some(candidate);
            }
        }
        shard.remove(key);
        None
    }

    fn put(&self, key: Arc<str>, sender: Sender, limit: usize) {
        let surplus = {
            let Some(mut shard) = self.shard(&key) else { return };
            let idle = shard.entry(key).or_default();
            idle.push(Idle { sender, since: boot_now() });
            (idle.len() > limit).then(|| idle.remove(0))
        };
        drop(surplus);
    }

    /// Closes what has been idle for too long, and forgets what has been closed.
    pub(super) fn sweep(&self, idle_timeout: Duration) {
        let now = boot_now();
        for shard in &self.shards {
            lock(shard).retain(|_, idle| {
                idle.retain(|one| !one.sender.is_closed() && now.since(one.since) < idle_timeout);
                !idle.is_empty()
            });
        }
    }

    /// Closes all: what was allowed may not be any more.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let closed = std::mem::take(&mut *lock(shard));
            drop(closed);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).values().map(Vec::len).sum::<usize>()).sum()
    }

    fn shard(&self, key: &str) -> Option<MutexGuard<'_, HashMap<Arc<str>, Vec<Idle>>>> {
        let hash = self.hasher.hash_one(key) as usize;
        self.shards.get(hash % SHARDS).map(lock)
    }
}

fn lock(shard: &Shard) -> MutexGuard<'_, HashMap<Arc<str>, Vec<Idle>>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection whose answer is still coming. Given back at the answer's end; dropped before, it is closed, since
/// nobody knows what is still on its way.
pub(super) struct GiveBack {
    pub(super) client: Arc<Client>,
    pub(super) key: Arc<str>,
    pub(super) sender: Sender,
    /// For this client only: it has authenticated itself to the origin on this connection.
    pub(super) pinned: bool,
}

impl GiveBack {
    pub(super) fn now(self) {
        if self.sender.is_ready() {
            return self.put();
        }
        // Closed, or not yet done: the connection's own task has still to see the end, or the request is still being
        // sent although it was answered.
        if self.sender.is_closed() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let mut this = self;
            if let Ok(Ok(())) = tokio::time::timeout(READY_TIMEOUT, this.sender.ready()).await {
                this.put();
            }
        });
    }

    fn put(self) {
        if self.pinned {
            self.client.pin(self.key, self.sender);
        } else {
            let limit = self.client.shared.options.load().pool_per_origin;
            self.client.shared.pool.put(self.key, self.sender, limit);
        }
    }
}
