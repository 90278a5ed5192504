//! What readers on the hot path see: one entry per valid session, one table read and one comparison per request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use tracker_ebpf::abi::ClientAddr;

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

#[derive(Clone, Debug)]
struct Entry {
    good_until: BootTime,
    /// The policy by which it was judged.
    epoch: u64,
    admitted: Admitted,
}

/// The published view of the table. Written by the table only.
#[derive(Debug, Default)]
pub struct Index {
    entries: DashMap<ClientAddr, Entry>,
    /// Counts the policies; what was published under an earlier one has to be judged anew.
    epoch: AtomicU64,
}

impl Index {
    /// What is to be done at `now`; `None` if the record has to be read first, because a gap may have passed.
    #[must_use]
    pub fn decide(&self, client: ClientAddr, now: BootTime) -> Option<Decision> {
        match self.entries.get(&client) {
            None => Some(Decision::Challenge),
            Some(entry) if now < entry.good_until && entry.epoch == self.epoch.load(Ordering::Acquire) => {
                Some(Decision::Allow(entry.admitted.clone()))
            }
            Some(_) => None,
        }
    }

    pub(super) fn publish(&self, client: ClientAddr, good_until: BootTime, admitted: Admitted) {
        let epoch = self.epoch.load(Ordering::Acquire);
        self.entries.insert(client, Entry { good_until, epoch, admitted });
    }

    pub(super) fn outdate(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn withdraw(&self, client: ClientAddr) {
        self.entries.remove(&client);
    }
}
