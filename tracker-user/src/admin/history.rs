//! The past, from the store: who had which address when, and the audit trail beyond what memory holds.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tracing::warn;

use super::report::{ReportError, Sources};
use super::wire;
use crate::audit::AuditEvent;
use crate::clock::Anchor;
use crate::links::shown;
use crate::session::{Session, State};
use crate::store::{StalePeriod, Tenure, Wanted};

/// So many events are read from the store at once.
const PAGE: usize = 1_000;

impl Sources {
    /// `history`: the newest first.
    ///
    /// # Errors
    /// When the gateway is stopping or the store cannot be read.
    pub async fn history(&self, wanted: Wanted) -> Result<Vec<wire::Tenure>, ReportError> {
        let (sessions, _) = self.snapshot(wanted.client).await?;
        let (store, asked) = (Arc::clone(&self.store), wanted.clone());
        let stored = self.threads.run(move || store.history(&asked))?.await;
        let mut tenures = stored.map_err(|_| ReportError::Stopping)??;
        // What the store has not been told yet, or has forgotten the beginning of, runs all the same.
        let known: HashSet<&str> = tenures.iter().map(|tenure| tenure.session.as_str()).collect();
        let anchor = Anchor::now();
        let running = sessions.iter().filter(|session| !known.contains(session.id.to_string().as_str()));
        let more: Vec<Tenure> = running.map(|session| tenure(session, &anchor)).collect();
        let more = more.into_iter().filter(|tenure| wanted.accepts(tenure));
        let more: Vec<Tenure> = more.collect();
        if !more.is_empty() {
            tenures.extend(more);
            tenures.sort_by_key(|tenure| std::cmp::Reverse(tenure.from));
            tenures.truncate(wanted.most);
        }
        Ok(tenures.into_iter().map(wire::Tenure::from).collect())
    }

    /// Sends the audit trail from `since` on: from the store what memory does not reach back to, then what memory has (of
    /// many refusals, some are only there). Ends early when nobody listens.
    pub(super) async fn send_past(
        &self,
        since: Timestamp,
        remembered: Vec<AuditEvent>,
        lines: &mpsc::Sender<AuditEvent>,
    ) -> Result<(), mpsc::error::SendError<AuditEvent>> {
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
            let older = |event: &AuditEvent| reaches.is_none_or(|reaches| event.time < reaches);
            let more = events.last().is_some_and(older) || events.is_empty();
            for event in events {
                if older(&event) && !known.contains(&identity(&event)) {
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
fn identity(event: &AuditEvent) -> String {
    format!("{} {:?} {:?} {:?}", event.time, event.event, event.session, event.client)
}

/// A running session as the store would have it.
fn tenure(session: &Session, anchor: &Anchor) -> Tenure {
    let stale = match session.state {
        State::Active | State::Waiting { .. } => None,
        State::Stale { reason, since } => {
            Some(StalePeriod { from: anchor.wall(since), until: None, reason: reason.to_string() })
        }
    };
    Tenure {
        session: session.id.to_string(),
        client: shown(session.client).to_string(),
        user: session.identity.user().into(),
        domain: session.identity.domain().into(),
        realm: session.identity.hidden_realm().map(Into::into),
        method: session.method.to_string(),
        from: anchor.wall(session.created),
        until: None,
        reason: None,
        by: None,
        stale_count: u32::from(stale.is_some()),
        stale: stale.into_iter().collect(),
    }
}
