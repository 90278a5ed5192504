//! Who had which address when, from the store and from what runs.

use std::collections::HashSet;

use super::{Ops, OpsError};
use crate::clock::Anchor;
use crate::session::Session;
use crate::store::{HistoryEntry, Wanted};
use crate::types::SessionId;

/// No answer has more entries: they are put together in memory.
pub const HISTORY_AT_MOST: usize = 100_000;

impl Ops {
    /// The entries that are wanted, the newest first. One that begins or ends while they are gathered may be told as it was.
    ///
    /// # Errors
    /// When the gateway is stopping, the store cannot be read, or too much is asked for.
    pub async fn history(&self, wanted: Wanted) -> Result<Vec<HistoryEntry>, OpsError> {
        let wanted = Wanted { most: wanted.most.min(HISTORY_AT_MOST), ..wanted };
        self.walk(async move |ops| {
            // First what runs: what ends meanwhile is in the store by then, and told as that has it.
            let running = ops.running(&wanted).await?;
            let asked = wanted.clone();
            let mut entries = ops.blocking(move |parts| parts.store.history(&asked)).await??;
            // What the store has not been told yet, or has forgotten the beginning of, runs all the same.
            let known: HashSet<SessionId> = entries.iter().map(|entry| entry.session).collect();
            let more = running.into_iter().filter(|entry| !known.contains(&entry.session));
            let more: Vec<HistoryEntry> = more.collect();
            if !more.is_empty() {
                entries.extend(more);
                entries.sort_by_key(|entry| std::cmp::Reverse(entry.from));
                entries.truncate(wanted.most);
            }
            Ok(entries)
        })
        .await
    }

    /// The newest of the entries that run, as far as they are wanted.
    async fn running(&self, wanted: &Wanted) -> Result<Vec<HistoryEntry>, OpsError> {
        let anchor = Anchor::now();
        let mut running = Vec::new();
        if let Some(client) = wanted.client {
            running = self.sessions_of(client).await?.0;
        } else {
            let mut walk = self.walk_sessions().await?;
            while let Some(portion) = walk.next().await? {
                let meant = |session: &Session| {
                    wanted.user.as_ref().is_none_or(|typed| session.identity.is_called(typed))
                        && wanted.at.is_none_or(|moment| anchor.wall(session.created) <= moment)
                };
                running.extend(portion.into_iter().filter(meant));
                if running.len() / 2 > wanted.most {
                    keep_newest(&mut running, wanted.most);
                }
            }
        }
        keep_newest(&mut running, wanted.most);
        let entries = running.iter().map(|session| HistoryEntry::running(session, &anchor));
        Ok(entries.filter(|entry| wanted.accepts(entry)).collect())
    }
}

fn keep_newest(sessions: &mut Vec<Session>, most: usize) {
    sessions.sort_unstable_by_key(|session| std::cmp::Reverse(session.created));
    sessions.truncate(most);
}
