//! Hosts: every address that the observer knows, with who is there and how much moves.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Activity, Ops, OpsError};
use crate::clock::{Anchor, boot_now};
use crate::session::State;
use crate::types::{ClientAddr, Identity};

/// An address that the observer knows.
#[derive(Clone, Debug)]
pub struct Host {
    /// The address.
    pub client: ClientAddr,
    /// Everybody who is logged in there, each once.
    pub users: Vec<Arc<Identity>>,
    /// The state of its session; on a shared host active if one is. `None` where nobody is logged in.
    pub state: Option<State>,
    /// What is recorded of it; `last_traffic` only if data has moved.
    pub activity: Activity,
    /// Bytes per second received from the client, over the last half second.
    pub receive_rate: f64,
    /// Bytes per second sent to it.
    pub send_rate: f64,
}

/// Who is logged in at an address.
#[derive(Default)]
struct Present {
    users: Vec<Arc<Identity>>,
    state: Option<State>,
}

impl Ops {
    /// Every address that the observer knows, the busiest first. Takes half a second, for the rates. Who comes or leaves
    /// while they are gathered is among them or not.
    ///
    /// # Errors
    /// As [`Self::sessions`].
    pub async fn hosts(&self) -> Result<Vec<Host>, OpsError> {
        self.walk(async |ops| {
            let mut before: HashMap<ClientAddr, (u64, u64)> = HashMap::new();
            let from = boot_now();
            ops.each_recorded(|client, evidence| {
                before.insert(client, (evidence.received, evidence.sent));
            })
            .await?;
            ops.fits(before.len())?;
            tokio::time::sleep(ops.0.limits.rate_span).await;
            let mut present = ops.present().await?;
            let anchor = Anchor::now();
            let span = boot_now().since(from).as_secs_f64().max(1e-3);
            let mut hosts = Vec::with_capacity(before.len());
            ops.each_recorded(|client, evidence| {
                let (received, sent) =
                    before.get(&client).copied().unwrap_or((evidence.received, evidence.sent));
                let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / span;
                let Present { users, state } = present.remove(&client).unwrap_or_default();
                let moved = evidence.received + evidence.sent > 0;
                let activity = Activity::of(evidence, boot_now(), &anchor).since_opened();
                hosts.push(Host {
                    client,
                    users,
                    state,
                    activity: Activity { last_traffic: activity.last_traffic.filter(|_| moved), ..activity },
                    receive_rate: rate(evidence.received, received),
                    send_rate: rate(evidence.sent, sent),
                });
            })
            .await?;
            ops.fits(hosts.len())?;
            let busy = |host: &Host| host.receive_rate + host.send_rate;
            hosts.sort_by(|a, b| busy(b).total_cmp(&busy(a)).then_with(|| a.client.cmp(&b.client)));
            Ok(hosts)
        })
        .await
    }

    /// Who is logged in where.
    async fn present(&self) -> Result<HashMap<ClientAddr, Present>, OpsError> {
        let mut walk = self.walk_sessions().await?;
        let mut present: HashMap<ClientAddr, Present> = HashMap::new();
        while let Some(portion) = walk.next().await? {
            for session in portion {
                let here = present.entry(session.client).or_default();
                if here.state.is_none() || session.state == State::Active {
                    here.state = Some(session.state);
                }
                here.users.push(session.identity);
            }
        }
        for here in present.values_mut() {
            here.users.sort_unstable_by(|a, b| a.key().cmp(b.key()));
            here.users.dedup();
        }
        Ok(present)
    }
}
