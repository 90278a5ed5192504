//! The past, from the store: who had which address when, and the audit trail beyond what memory holds.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tracing::warn;

use super::report::{ReportError, Sources};
use super::wire;
use crate::clock::Anchor;
use crate::store::{HistoryEntry, Wanted};
use crate::types::SessionId;

/// So many events are read from the store at once.
const PAGE: usize = 1_000;

impl Sources {
    /// `history`: the newest first.
    ///
    /// # Errors
    /// When the gateway is stopping or the store cannot be read.
    pub async fn history(&self, wanted: Wanted) -> Result<Vec<wire::PastSession>, ReportError> {
        let (sessions, _) = self.snapshot(wanted.client).await?;
        let (store, asked) = (Arc::clone(&self.store), wanted.clone());
        let stored = self.threads.run(move || store.history(&asked))?.await;
        let mut entries = stored.map_err(|_| ReportError::Stopping)??;
        // What the store has not been told yet, or has forgotten the beginning of, runs all the same.
        let known: HashSet<SessionId> = entries.iter().map(|entry| entry.session).collect();
        let anchor = Anchor::now();
        let running = sessions.iter().filter(|session| !known.contains(&session.id));
        let more = running.map(|session| HistoryEntry::running(session, &anchor));
        let more: Vec<HistoryEntry> = more.filter(|entry| wanted.accepts(entry)).collect();
        if !more.is_empty() {
            entries.extend(more);
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.from));
            entries.truncate(wanted.most);
        }
        Ok(entries.into_iter().map(wire::PastSession::from).collect())
    }

    /// Sends the audit trail from `since` on: from the store what memory does not reach back to, then what memory has (of
    /// many refusals, some are only there). Ends early when nobody listens.
    pub(super) async fn send_past(
        &self,
        since: Timestamp,
        remembered: Vec<wire::Event>,
        lines: &mpsc::Sender<wire::Event>,
    ) -> Result<(), mpsc::error::SendError<wire::Event>> {
        let reaches = remembered.iter().map(|event| event.time).min();
        let known: HashSet<String> = remembered.iter().map(identity).collect();
        let mut after = None;
        loop {
            let store = Arc::clone(&self.store);
            let Ok(page) = self.threads.run(move || store.events(since, after, PAGE)) else { break };
            let page = page.await;
            let (events, last) = match page {
                Ok(Ok(page)) => page,
                Ok(Err(error)) => {
                    warn!(%error, "the audit trail in the store cannot be read");
                    break;
                }
                Err(_) => break,
            };
            after = last;
            let full = after.is_some();
            let older = |time: Timestamp| reaches.is_none_or(|reaches| time < reaches);
            let more = events.last().is_none_or(|event| older(event.time));
            for event in events.into_iter().map(wire::Event::from) {
                if older(event.time) && !known.contains(&identity(&event)) {
                    lines.send(event).await?;
                }
            }
            if !full || !more {
                break;
            }
        }
        for event in remembered.into_iter().filter(|event| event.time >= since) {
            lines.send(event).await?;
        }
        Ok(())
    }
}

/// What tells an event from every other.
fn identity(event: &wire::Event) -> String {
    format!("{} {:?} {:?} {:?}", event.time, event.event, event.session, event.client)
}
