//! What readers on the hot path see: one entry per session that is served or waits for a factor, one table read and one
//! comparison per request.
//!
//! It is a cache of [`decide`](super::decide())'s answer. An entry was published with the evidence of some moment; until
//! `good_until` no gap can complete, so that the same rules give the same answer. It answers by itself only what does
//! not depend on anything that may have changed since: [`Index::decide`] says when. A property holds it to what `decide`
//! says (`decide_tests`).

use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use super::decide::{Admitted, Decision};
use super::piece_map::{Keyed, PieceMap};
use super::settings::{Revalidate, Timeouts};
use crate::clock::BootTime;
use crate::types::{ClientAddr, ConnectionId, Factor, Scope, SessionId};

/// The part of the policy that the hot path goes by.
#[derive(Clone, Debug, Default)]
pub struct HotPolicy {
    /// Whether a connection that has not been cleared yet is decided about by the loop although the session is valid.
    evaluates_new_connections: bool,
    /// Which addresses are shared hosts.
    timeouts: Timeouts,
}

impl From<&Timeouts> for HotPolicy {
    fn from(timeouts: &Timeouts) -> Self {
        Self {
            evaluates_new_connections: timeouts.revalidate == Revalidate::OnReopen
                || timeouts.judges_devices(),
            timeouts: timeouts.clone(),
        }
    }
}

/// What was decided, for as long as it is good.
#[derive(Debug)]
pub(super) enum Answer {
    /// Serve it.
    Allow(Admitted),
    /// Ask for this factor.
    StepUp(Factor),
}

// The factor lies where the session does: an entry takes no more for it.
const _: () = assert!(size_of::<Answer>() == size_of::<Admitted>());

impl Answer {
    /// Whether it holds for a connection that was cleared for this session.
    fn is_of(&self, cleared: Option<SessionId>) -> bool {
        matches!(self, Self::Allow(admitted) if cleared == Some(admitted.session))
    }

    fn decision(&self) -> Decision {
        match self {
            Self::Allow(admitted) => Decision::Allow(admitted.clone()),
            Self::StepUp(factor) => Decision::StepUp(*factor),
        }
    }
}

#[derive(Debug)]
struct Entry<K> {
    key: K,
    good_until: BootTime,
    /// The policy by which it was judged.
    epoch: u64,
    answer: Answer,
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
    /// What is to be done at `now` with a request on this connection; `cleared` is the session that the connection was
    /// cleared for before. `None` if the loop has to be asked, because
    ///
    /// - a gap may have passed since the evidence was read, or another policy came into force, or
    /// - the policy looks at new connections (has their client left meanwhile? is it another device?), and this one has
    ///   not been cleared for the session.
    ///
    /// The connection is one that is watched. Where there is no entry nobody is served: there is no session, or one that
    /// is stale.
    #[must_use]
    pub fn decide(
        &self,
        policy: &HotPolicy,
        client: ClientAddr,
        connection: ConnectionId,
        cleared: Option<SessionId>,
        now: BootTime,
    ) -> Option<Decision> {
        if policy.timeouts.is_shared(client) {
            return self
                .answer(shard_of_connection(&self.connections, connection), connection, now, |_| true);
        }
        let is_good = |answer: &Answer| !policy.evaluates_new_connections || answer.is_of(cleared);
        self.answer(shard_of_client(&self.clients, client), client, now, is_good)
    }

    /// The same of a client address, or of a connection of a shared host, for a connection that was cleared.
    #[must_use]
    pub fn published(&self, scope: impl Into<Scope>, now: BootTime) -> Option<Decision> {
        let scope = scope.into();
        match scope.connection {
            None => self.answer(shard_of_client(&self.clients, scope.client), scope.client, now, |_| true),
            Some(one) => self.answer(shard_of_connection(&self.connections, one), one, now, |_| true),
        }
    }

    /// Whether nobody may be logged in at this address, which is no shared host's.
    #[must_use]
    pub fn is_unknown(&self, policy: &HotPolicy, client: ClientAddr, now: BootTime) -> bool {
        let is_nobodys = || {
            let published = self.published(client, now);
            matches!(published, Some(Decision::Challenge | Decision::StepUp(_)))
        };
        !policy.timeouts.is_shared(client) && is_nobodys()
    }

    /// What the entry says at `now`, where it is not outdated and `is_good` agrees.
    fn answer<K: Copy + Eq + Hash>(
        &self,
        shard: &RwLock<PieceMap<Entry<K>>>,
        key: K,
        now: BootTime,
        is_good: impl FnOnce(&Answer) -> bool,
    ) -> Option<Decision> {
        let entries = shard.read().unwrap_or_else(PoisonError::into_inner);
        let Some(Entry { good_until, epoch, answer, .. }) = entries.get(key) else {
            return Some(Decision::Challenge);
        };
        let is_current = now < *good_until && *epoch == self.epoch.load(Ordering::Acquire);
        (is_current && is_good(answer)).then(|| answer.decision())
    }

    pub(super) fn publish(&self, scope: Scope, good_until: BootTime, answer: Answer) {
        let epoch = self.epoch.load(Ordering::Acquire);
        match scope.connection {
            None => {
                let shard = shard_of_client(&self.clients, scope.client);
                insert(shard, Entry { key: scope.client, good_until, epoch, answer });
            }
            Some(connection) => {
                let shard = shard_of_connection(&self.connections, connection);
                insert(shard, Entry { key: connection, good_until, epoch, answer });
            }
        }
    }

    /// Another policy is in force: nothing that was published is good any more.
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
