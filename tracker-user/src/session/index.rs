//! What readers on the hot path see: one entry per valid session, one table read and one comparison per request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tracker_ebpf::abi::ClientAddr;

use super::clients::{ClientMap, OfClient};
use super::identity::Identity;
use super::record::SessionId;
use crate::clock::BootTime;

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
struct Entry {
    client: ClientAddr,
    good_until: BootTime,
    /// The policy by which it was judged.
    epoch: u64,
    admitted: Admitted,
}

impl OfClient for Entry {
    fn client(&self) -> ClientAddr {
        self.client
    }
}

/// So many locks share the entries, so that readers seldom meet the writer.
const SHARDS: usize = 32;

/// The published view of the table. Written by the table only.
#[derive(Debug, Default)]
pub struct Index {
    shards: [RwLock<ClientMap<Entry>>; SHARDS],
    /// Counts the policies; what was published under an earlier one has to be judged anew.
    epoch: AtomicU64,
}

impl Index {
    /// What is to be done at `now`; `None` if the record has to be read first, because a gap may have passed.
    #[must_use]
    pub fn decide(&self, client: ClientAddr, now: BootTime) -> Option<Decision> {
        let entries = self.shard(client).read().unwrap_or_else(PoisonError::into_inner);
        match entries.get(client) {
            None => Some(Decision::Challenge),
            Some(entry) if now < entry.good_until && entry.epoch == self.epoch.load(Ordering::Acquire) => {
                Some(Decision::Allow(entry.admitted.clone()))
            }
            Some(_) => None,
        }
    }

    pub(super) fn publish(&self, client: ClientAddr, good_until: BootTime, admitted: Admitted) {
        let epoch = self.epoch.load(Ordering::Acquire);
        let mut entries = self.shard(client).write().unwrap_or_else(PoisonError::into_inner);
        entries.insert(Entry { client, good_until, epoch, admitted });
    }

    pub(super) fn outdate(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn withdraw(&self, client: ClientAddr) {
        self.shard(client).write().unwrap_or_else(PoisonError::into_inner).remove(client);
    }

    /// Addresses that follow each other lie in different shards.
    fn shard(&self, client: ClientAddr) -> &RwLock<ClientMap<Entry>> {
        let mixed = client.0.iter().fold(0_usize, |mixed, byte| mixed.wrapping_mul(31) + usize::from(*byte));
        let [first, ..] = &self.shards;
        self.shards.get(mixed % SHARDS).unwrap_or(first)
    }
}
