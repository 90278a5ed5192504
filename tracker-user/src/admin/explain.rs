//! The judge's view of a client, for the API.

use super::decisions::{Hypothetical, decision};
use super::report::{ReportError, Sources};
use super::wire;
use crate::auth::Conditions;
use crate::clock::{Anchor, BootTime, boot_now};
use crate::links::shown;
use crate::session::{Arrival, Decision, Evidence, Gap, Situation, State, Verdict, explain};
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
        let evidence = read.ok().map(Option::unwrap_or_default);
        let now = boot_now();
        let situation = Situation {
            client,
            is_shared_host: is_shared,
            session,
            evidence: evidence.as_ref(),
            arrival: Arrival::NEW,
            device: self.observer.neighbour(client),
            watched_since: self.observer.watched_since(),
            policy: &policy,
            now,
        };
        let explained = explain(&situation, sessions.len());
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
        let (decided, why) = match (&explained.decision, against) {
            (Decision::Challenge, Some(step)) => {
                ("deny", format!("Kerberos is not offered to it ({}: {})", step.step, step.why))
            }
            (Decision::Challenge, None) => ("challenge", explained.why),
            (Decision::Allow(_), _) => ("allow", explained.why),
            (Decision::StepUp(_), _) => ("step-up", explained.why),
            (Decision::Deny(_), _) => ("deny", explained.why),
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
                Verdict::Active { .. }
                    if session.is_some_and(|one| matches!(one.state, State::Waiting { .. })) =>
                {
                    "waiting".into()
                }
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
            record: evidence.filter(|_| known).map(|evidence| facts(&evidence, now, &anchor)),
        })
    }
}

fn facts(evidence: &Evidence, now: BootTime, anchor: &Anchor) -> wire::Facts {
    let wall = |at: BootTime| anchor.wall(at);
    let gap = |Gap { start, end }: Gap| wire::Gap { from: wall(start), until: wall(end) };
    wire::Facts {
        open_connections: evidence.connections(),
        opened: evidence.opened_at.map(wall),
        closed: evidence.closed_by(now).map(wall),
        last_traffic: evidence.traffic_at.map(wall),
        closed_gap: evidence.closed_gap.map(gap),
        traffic_gap: evidence.traffic_gap.map(gap),
        bytes_received: evidence.received,
        bytes_sent: evidence.sent,
    }
}
