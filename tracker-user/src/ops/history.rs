//! Who had which address when, from the store and from what runs.

use std::collections::HashSet;

use super::{Ops, OpsError};
use crate::clock::Anchor;
use crate::links::shown;
use crate::session::{Session, State};
use crate::store::{StalePeriod, Tenure, Wanted};

/// No answer has more tenures: they are put together in memory.
pub const HISTORY_AT_MOST: usize = 100_000;

impl Ops {
    /// The tenures that are wanted, the newest first. One that begins or ends while they are gathered may be told as it was.
    ///
    /// # Errors
    /// When the gateway is stopping, the store cannot be read, or too much is asked for.
    pub async fn history(&self, wanted: Wanted) -> Result<Vec<Tenure>, OpsError> {
        let wanted = Wanted { most: wanted.most.min(HISTORY_AT_MOST), ..wanted };
        self.walk(async move |ops| {
            // First what runs: what ends meanwhile is in the store by then, and told as that has it.
            let running = ops.running(&wanted).await?;
            let asked = wanted.clone();
            let mut tenures = ops.blocking(move |parts| parts.store.history(&asked)).await??;
            // What the store has not been told yet, or has forgotten the beginning of, runs all the same.
            let known: HashSet<&str> = tenures.iter().map(|tenure| tenure.session.as_str()).collect();
            let more = running.into_iter().filter(|tenure| !known.contains(tenure.session.as_str()));
            let more: Vec<Tenure> = more.collect();
            if !more.is_empty() {
                tenures.extend(more);
                tenures.sort_by_key(|tenure| std::cmp::Reverse(tenure.from));
                tenures.truncate(wanted.most);
            }
            Ok(tenures)
        })
        .await
    }

    /// The newest of the tenures that run, as far as they are wanted.
    async fn running(&self, wanted: &Wanted) -> Result<Vec<Tenure>, OpsError> {
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
        let tenures = running.iter().map(|session| tenure(session, &anchor));
        Ok(tenures.filter(|tenure| wanted.accepts(tenure)).collect())
    }
}

fn keep_newest(sessions: &mut Vec<Session>, most: usize) {
    sessions.sort_unstable_by_key(|session| std::cmp::Reverse(session.created));
    sessions.truncate(most);
}

/// A running session as the store would have it.
fn tenure(session: &Session, anchor: &Anchor) -> Tenure {
    let stale = match session.state {
        State::Active => None,
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
