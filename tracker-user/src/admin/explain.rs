//! The judge's view of a client, for the API.

use tracker_ebpf::record::Record;

use super::decisions::{Hypothetical, decision};
use super::report::{ReportError, Sources};
use super::wire;
use crate::auth::kerberos::Conditions;
use crate::clock::{Anchor, BootTime, boot_now};
use crate::links::shown;
use crate::session::{Situation, Verdict, explain};
use crate::types::ClientAddr;

impl Sources {
    /// `explain CLIENT`, and how a request would fare that was described.
    ///
    /// # Errors
    /// When the gateway is stopping.
    pub async fn explain(
        &self,
        client: ClientAddr,
        asked: &Hypothetical,
    ) -> Result<wire::Explanation, ReportError> {
        let (sessions, policy) = self.snapshot(Some(client)).await?;
        let is_shared = policy.timeouts.is_shared(client);
        let session = sessions.first().filter(|_| !is_shared);
        let read = self.observer.evidence(client);
        let known = read.as_ref().is_ok_and(Option::is_some);
        // A client that never connected has nothing open; one whose record cannot be read is asked.
        let record = read.ok().map(Option::unwrap_or_default);
        let now = boot_now();
        let situation = Situation {
            client,
            shared: is_shared.then_some(sessions.as_slice()),
            session,
            record: record.as_ref(),
            device: self.observer.neighbour(client),
            watched_since: self.observer.watched_since(),
            policy: &policy,
            now,
        };
        let explained = explain(&situation);
        let anchor = Anchor::now();
        let wall = |at: BootTime| anchor.wall(at);
        let findings = explained.findings.into_iter().map(|finding| wire::Finding {
            rule: finding.rule.to_string(),
            finding: finding.finding,
            since: finding.since.map(wall),
            until: finding.until.map(wall),
            decides: finding.decides,
        });
        let conditions = || Conditions::new(&self.live.config().kerberos.conditions).ok();
        let walk = asked.is_described().then(conditions).flatten();
        let walk = walk.map(|conditions| asked.walk(&conditions, client.ip()));
        let against = walk.iter().flat_map(|walk| &walk.steps).find(|step| step.decides);
        // A valid session needs no conditions.
        let (decided, why) = match against.filter(|_| !explained.allow) {
            Some(step) => ("deny", format!("Kerberos is not offered to it ({}: {})", step.step, step.why)),
            None if explained.allow => ("allow", explained.why),
            None => ("challenge", explained.why),
        };
        Ok(wire::Explanation {
            client: shown(client).to_string(),
            decision: decided.into(),
            why,
            shared: is_shared,
            sessions: match is_shared {
                true => self.describe_all(sessions.clone(), &policy)?,
                false => Vec::new(),
            },
            session: session.map(|session| session.id.to_string()),
            user: session.map(|session| session.identity.user().into()),
            domain: session.map(|session| session.identity.domain().into()),
            state: explained.verdict.map(|verdict| match verdict {
                Verdict::Active { .. } => "active".into(),
                Verdict::Stale { .. } => "stale".into(),
                Verdict::Ended { .. } => "ended".into(),
            }),
            mode: policy.timeouts.mode.to_string(),
            expires: explained.deadline.map(wall),
            ends: explained.ends,
            findings: findings.collect(),
            walk,
            recent: self.recent.of(client).into_iter().map(decision).collect(),
            record: record.filter(|_| known).map(|record| facts(&record, now, &anchor)),
        })
    }
}

fn facts(record: &Record, now: BootTime, anchor: &Anchor) -> wire::Facts {
    let stamp = |at: u64| BootTime::from_stamp(at).map(|at| anchor.wall(at));
    let gap = |start: u64, end: u64| Some(wire::Gap { from: stamp(start)?, until: stamp(end)? });
    wire::Facts {
        open_connections: record.connections(),
        opened: stamp(record.opened_at),
        closed: stamp(record.closed_by(now.as_nanos())),
        last_traffic: stamp(record.traffic_at),
        closed_gap: gap(record.closed_gap_start, record.closed_gap_end),
        traffic_gap: gap(record.traffic_gap_start, record.traffic_gap_end),
        bytes_received: record.rx,
        bytes_sent: record.tx,
    }
}
