//! What would be decided for a client, and why.

use std::sync::Arc;

use jiff::Timestamp;

use super::bans::concerning;
use super::{Activity, BanView, Hypothetical, Offer, Ops, OpsError, Parts, SessionView};
use crate::auth::kerberos::Conditions;
use crate::clock::{Anchor, boot_now};
use crate::config::{Basic, Config};
use crate::net::Service;
use crate::proxy::decision_log::DecisionRecord;
use crate::session::{Arrival, Decision, Mode, Policy, Rule, Session, Situation, Verdict, explain};
use crate::types::{ClientAddr, Identity, SessionId};

/// What a request without credentials gets on a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is served.
    Allow,
    /// It is asked to prove who it is (407).
    Challenge,
    /// Its user has to prove a second factor (403).
    StepUp,
    /// The conditions do not offer Kerberos to the request that was described, and nothing else is (403).
    Deny,
}

/// What would be decided for a client, and why.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The client.
    pub client: ClientAddr,
    /// What a request without credentials gets.
    pub answer: Answer,
    /// Why, in a sentence.
    pub why: String,
    /// Whether it is one of `timeouts.shared-hosts`.
    pub is_shared: bool,
    /// On a shared host the sessions of its connections, the newest first.
    pub sessions: Vec<SessionView>,
    /// The address's own session and its user, if there is one.
    pub session: Option<(SessionId, Arc<Identity>)>,
    /// What the judge says of it.
    pub verdict: Option<Verdict>,
    /// The mode it is judged by.
    pub mode: Mode,
    /// When it goes stale or ends if nothing more happens; `None` while no deadline runs.
    pub expires: Option<Timestamp>,
    /// What would end it, or bring it back, in a sentence each.
    pub ends: Vec<String>,
    /// Rule by rule, in the order in which they are asked; one of them decides.
    pub findings: Vec<RuleFinding>,
    /// Whether Kerberos is offered to the request that was described; `None` if none was.
    pub offer: Option<Offer>,
    /// Where it would be asked for a password.
    pub basic: BasicOffer,
    /// Somebody has logged out there just now: nobody is logged in silently until then.
    pub held_until: Option<Timestamp>,
    /// The bans from sending passwords that concern it or its users, the newest first.
    pub bans: Vec<BanView>,
    /// The last decisions about real requests, the newest first.
    pub recent: Vec<DecisionRecord>,
    /// What is recorded of the client; `None` if nothing, or if it cannot be read.
    pub activity: Option<Activity>,
}

/// Where a client is asked for a password (the Basic scheme), of the ways that it can reach the proxy by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BasicOffer {
    /// Under TLS.
    pub tls: bool,
    /// Without.
    pub plain: bool,
}

impl BasicOffer {
    fn of(config: &Config, client: ClientAddr) -> Self {
        let is_near = client.ip().to_canonical().is_loopback();
        let (tls, plain) = match config.proxy.basic {
            Basic::Never => (false, false),
            Basic::TlsAndLoopback => (true, is_near),
            Basic::Always => (true, true),
        };
        let listeners = config.addresses_of(Service::Proxy);
        let listens = |is_tls: bool| listeners.iter().any(|listen| listen.is_tls == is_tls);
        Self { tls: tls && listens(true), plain: plain && listens(false) }
    }

    /// What a client is asked for that is not offered Kerberos; `None`: nothing.
    const fn instead(self) -> Option<&'static str> {
        match (self.tls, self.plain) {
            (_, true) => Some("it is asked for a name and a password"),
            (true, false) => Some("it is asked for a name and a password, and that only under TLS"),
            (false, false) => None,
        }
    }
}

/// What a rule found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFinding {
    /// The rule.
    pub rule: Rule,
    /// In a sentence.
    pub finding: String,
    /// Since when that is so.
    pub since: Option<Timestamp>,
    /// Until when, or when it will be over.
    pub until: Option<Timestamp>,
    /// Whether this is what decides.
    pub decides: bool,
}

impl Ops {
    /// What would be decided for a client, and how a request would fare that was described.
    ///
    /// # Errors
    /// When the gateway is stopping, or too much is asked for.
    pub async fn explain(&self, client: ClientAddr, asked: Hypothetical) -> Result<Explanation, OpsError> {
        self.look(async move |ops| {
            let (sessions, policy) = ops.sessions_of(client).await?;
            let policy = Arc::new(policy);
            let views = match policy.timeouts.is_shared(client) {
                true => ops.describe_all(sessions.clone(), &policy).await?,
                false => Vec::new(),
            };
            ops.blocking(move |parts| explained(parts, client, &sessions, views, &policy, &asked)).await
        })
        .await
    }
}

/// Why nothing is offered where it is held.
const HELD: &str = "somebody has logged out there just now (portal.logout-hold): nothing that a browser sends by itself is \
                    taken, but a password that is typed in the portal";

fn explained(
    parts: &Parts,
    client: ClientAddr,
    sessions: &[Session],
    views: Vec<SessionView>,
    policy: &Policy,
    asked: &Hypothetical,
) -> Explanation {
    let is_shared = policy.timeouts.is_shared(client);
    let session = sessions.first().filter(|_| !is_shared);
    let read = parts.observer.evidence(client);
    let known = read.as_ref().is_ok_and(Option::is_some);
    // A client that never connected has nothing open; one whose record cannot be read is asked.
    let evidence = read.ok().map(Option::unwrap_or_default);
    let now = boot_now();
    let situation = Situation {
        client,
        is_shared_host: is_shared,
        session,
        evidence: evidence.as_ref(),
        device: parts.observer.neighbour(client),
        watched_since: parts.observer.watched_since(),
        arrival: Arrival::NEW,
        policy,
        now,
    };
    let explained = explain(&situation, sessions.len());
    let anchor = Anchor::now();
    let findings = explained.findings.into_iter().map(|finding| RuleFinding {
        rule: finding.rule,
        finding: finding.finding,
        since: finding.since.map(|at| anchor.wall(at)),
        until: finding.until.map(|at| anchor.wall(at)),
        decides: finding.decides,
    });
    let conditions = || Conditions::new(&parts.configuration.config().kerberos.conditions).ok();
    let offer = asked.is_described().then(conditions).flatten();
    let offer = offer.map(|conditions| asked.offer(&conditions, client.ip()));
    let basic = BasicOffer::of(&parts.configuration.config(), client);
    // What is not challenged needs no conditions.
    let held_until = parts.holds.until(client, now).map(|until| anchor.wall(until));
    let (answer, why) = match (&explained.decision, offer.as_ref().and_then(Offer::against)) {
        (Decision::Challenge, _) if held_until.is_some() => (Answer::Deny, HELD.to_owned()),
        (Decision::Challenge, Some(step)) => {
            let why = format!("Kerberos is not offered to it ({}: {})", step.step, step.why);
            match basic.instead() {
                Some(instead) => (Answer::Challenge, format!("{why}: {instead}")),
                None => (Answer::Deny, why),
            }
        }
        (Decision::Challenge, None) => (Answer::Challenge, explained.why),
        (Decision::Allow(_), _) => (Answer::Allow, explained.why),
        (Decision::StepUp(_), _) => (Answer::StepUp, explained.why),
        (Decision::Deny(_), _) => (Answer::Deny, explained.why),
    };
    let users: Vec<&Identity> = sessions.iter().map(|session| &*session.identity).collect();
    Explanation {
        held_until,
        bans: concerning(parts, client, &users),
        client,
        answer,
        why,
        is_shared,
        sessions: views,
        session: session.map(|session| (session.id, Arc::clone(&session.identity))),
        verdict: explained.verdict,
        mode: policy.timeouts.mode,
        expires: explained.deadline.map(|at| anchor.wall(at)),
        ends: explained.ends,
        findings: findings.collect(),
        offer,
        basic,
        recent: parts.recent.of(client),
        activity: evidence.filter(|_| known).map(|evidence| Activity::of(&evidence, now, &anchor)),
    }
}
