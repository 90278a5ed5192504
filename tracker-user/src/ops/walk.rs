//! Walks over all sessions and all records, in portions. Between two of them the event loop carries out what others want.
//!
//! A walk is no snapshot: what is there from its beginning to its end is met once, as it is when its portion is read; what
//! begins or ends meanwhile is met or not.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Ops, OpsError};
use crate::observe::RecordWalk;
use crate::session::{Evidence, Policy, Session};
use crate::types::{ClientAddr, Scope, SessionId};

/// So many places of the table are looked at in one turn of the loop.
pub(super) const PORTION: usize = 256;

/// A walk over all sessions.
pub(super) struct SessionWalk {
    ops: Ops,
    next: usize,
    /// What begins behind that is not met: the walk ends.
    end: usize,
    met: usize,
    policy: Arc<Policy>,
}

impl SessionWalk {
    /// The next portion; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Session>>, OpsError> {
        if self.next >= self.end {
            return Ok(None);
        }
        let (from, places) = (self.next, PORTION.min(self.end - self.next));
        self.next += places;
        let portion = self.ops.parts().tracker.ask(move |view| {
            let portion: Vec<Session> = view.table.portion(from, places).cloned().collect();
            #[cfg(test)]
            super::tests::note_portion(portion.len());
            portion
        });
        let portion = portion.await.ok_or(OpsError::Stopping)?;
        self.met += portion.len();
        self.ops.fits(self.met)?;
        Ok(Some(portion))
    }

    /// The policy in force at its beginning.
    pub(super) const fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }
}

impl Ops {
    /// A walk over all sessions.
    pub(super) async fn walk_sessions(&self) -> Result<SessionWalk, OpsError> {
        let begun = self.parts().tracker.ask(|view| (view.table.places(), view.table.policy().clone()));
        let (end, policy) = begun.await.ok_or(OpsError::Stopping)?;
        Ok(SessionWalk { ops: self.clone(), next: 0, end, met: 0, policy: Arc::new(policy) })
    }

    /// The sessions of a client, in portions where they are those of its connections; the newest first. And the policy.
    pub(super) async fn sessions_of(&self, client: ClientAddr) -> Result<(Vec<Session>, Policy), OpsError> {
        let first = self
            .parts()
            .tracker
            .ask(move |view| (view.table.session(client).cloned(), view.table.policy().clone()));
        let (own, policy) = first.await.ok_or(OpsError::Stopping)?;
        let mut sessions: Vec<Session> = own.into_iter().collect();
        let mut after = None;
        loop {
            let more = self
                .parts()
                .tracker
                .ask(move |view| view.table.portion_of(client, after, PORTION).cloned().collect::<Vec<_>>());
            let more = more.await.ok_or(OpsError::Stopping)?;
            let Some(last) = more.last() else { break };
            after = last.connection;
            sessions.extend(more);
            self.fits(sessions.len())?;
        }
        newest_first(&mut sessions, |session| (session.id, session.scope()));
        Ok((sessions, policy))
    }

    /// Calls `each` with what is recorded of every client.
    pub(super) async fn each_recorded(
        &self,
        mut each: impl FnMut(ClientAddr, &Evidence),
    ) -> Result<(), OpsError> {
        let mut walk = self.parts().observer.walk();
        loop {
            let (back, portion, more) = self.blocking(move |parts| portion(parts, walk)).await??;
            portion.iter().for_each(|(client, record)| each(*client, record));
            if !more {
                return Ok(());
            }
            walk = back;
        }
    }
}

type Portion = (RecordWalk, Vec<(ClientAddr, Evidence)>, bool);

fn portion(parts: &super::Parts, mut walk: RecordWalk) -> Result<Portion, OpsError> {
    let mut records = Vec::new();
    let more = parts.observer.next_portion(&mut walk, |client, record| records.push((client, *record)))?;
    Ok((walk, records, more))
}

/// Sorts what is about sessions. Where one has followed another during a walk that has met both, the newer one is kept.
pub(super) fn newest_first<T>(all: &mut Vec<T>, key: impl Fn(&T) -> (SessionId, Scope)) {
    all.sort_unstable_by_key(|one| std::cmp::Reverse(key(one).0));
    let mut known = HashSet::with_capacity(all.len());
    all.retain(|one| known.insert(key(one).1));
}
