//! What becomes of a request that brings no credentials: the one place where the rules come together.
//!
//! [`decide`] is asked by the event loop, rendered by [`explain`](super::explain()), and cached for the hot path by the
//! [`Index`](super::Index). It is pure: whatever it goes by stands in the [`Situation`].

use std::fmt;
use std::sync::Arc;

use super::evidence::Evidence;
use super::judge::{Clock, Verdict, judge};
use super::policy::Policy;
use super::record::{Session, State};
use super::settings::Revalidate;
use crate::clock::BootTime;
use crate::types::{ClientAddr, Device, Factor, Identity, SessionId};

/// All that a decision about a request is made from.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The client.
    pub client: ClientAddr,
    /// Whether it is one of `timeouts.shared-hosts`. Then session and evidence are those of the connection.
    pub is_shared_host: bool,
    /// The session of the client, or of the connection, as the table has it.
    pub session: Option<&'a Session>,
    /// What is known of what the client did, or of what happened on the connection, read before `now`; `None` if it cannot
    /// be read.
    pub evidence: Option<&'a Evidence>,
    /// The device at the address now; `None` if it is not known, or a router's.
    pub device: Option<Device>,
    /// Since when every connection was watched; `None` while that is in doubt.
    pub watched_since: Option<BootTime>,
    /// The connection on which the request came.
    pub arrival: Arrival,
    /// The policy in force.
    pub policy: &'a Policy,
    /// Now.
    pub now: BootTime,
}

/// What is known of the connection on which a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Whether what happens on it is noticed.
    pub is_watched: bool,
    /// Whether it was established to another device than the one that is at the address now.
    pub is_of_earlier_device: bool,
    /// The session for which it was cleared before, by a proof or by a decision.
    pub cleared: Option<SessionId>,
}

impl Arrival {
    /// A connection that has just been established, and about which there is nothing to say.
    pub const NEW: Self = Self { is_watched: true, is_of_earlier_device: false, cleared: None };

    /// Why nobody is served on it, nor may log in, whoever they are.
    #[must_use]
    pub const fn denial(&self) -> Option<Denial> {
        if self.is_watched { None } else { Some(Denial::Unwatched) }
    }
}

/// A request is served in the name of this session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The session.
    pub session: SessionId,
    /// Its user.
    pub identity: Arc<Identity>,
}

impl From<&Session> for Admitted {
    fn from(session: &Session) -> Self {
        Self { session: session.id, identity: Arc::clone(&session.identity) }
    }
}

/// What is to be done with a request that carries no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Serve it.
    Allow(Admitted),
    /// Ask the client to prove who it is.
    Challenge,
    /// Its user has proved who they are; ask them for this further factor.
    StepUp(Factor),
    /// Do not serve it: no proof would change that.
    Deny(Denial),
}

/// Why a request is not served, whoever sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Nobody would notice the end of its connection, nor what moves on it.
    Unwatched,
}

impl fmt::Display for Denial {
    /// For the operator.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unwatched => "nobody would notice the end of the connection, nor what moves on it",
        })
    }
}

/// The rules, in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Is the connection watched?
    Watched,
    /// Is the address one behind which many users sit?
    SharedHost,
    /// Is somebody logged in there?
    Session,
    /// Is it still the device that the session was proved from, and that the connection was established to?
    Device,
    /// Is the evidence to be had?
    Record,
    /// Is the cap over all modes reached?
    Lifetime,
    /// Has the session been found stale before?
    State,
    /// Was there a gap of the timeout's length, over by now?
    Gap,
    /// Is a gap of the timeout's length running?
    Timeout,
    /// Does a new connection have to prove itself although nothing ran out?
    Revalidate,
    /// Is a further factor missing?
    Factor,
}

impl Rule {
    /// The rule's name, as the API shows it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Watched => "watched",
            Self::SharedHost => "shared-host",
            Self::Session => "session",
            Self::Device => "device",
            Self::Record => "record",
            Self::Lifetime => "lifetime",
            Self::State => "state",
            Self::Gap => "gap",
            Self::Timeout => "timeout",
            Self::Revalidate => "revalidate",
            Self::Factor => "factor",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What [`decide`] answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The rule that decides.
    pub rule: Rule,
    /// What is to be done.
    pub decision: Decision,
    /// What the judge says of the session, where there is one and evidence: the table follows it, whatever rule decides.
    pub verdict: Option<Verdict>,
}

/// Decides about a request without credentials.
#[must_use]
pub fn decide(situation: &Situation<'_>) -> Decided {
    let Situation { is_shared_host, session, evidence, arrival, policy, now, .. } = *situation;
    let verdict = session.zip(evidence).map(|(session, evidence)| judge(session, evidence, policy, now));
    let (rule, decision) = match (arrival.denial(), session) {
        (Some(denial), _) => (Rule::Watched, Decision::Deny(denial)),
        (None, None) if is_shared_host => (Rule::SharedHost, Decision::Challenge),
        (None, None) => (Rule::Session, Decision::Challenge),
        (None, Some(session)) => {
            match (against(situation, session, verdict), policy.factors.missing(&session.proven())) {
                (Some(rule), _) => (rule, Decision::Challenge),
                (None, Some(factor)) => (Rule::Factor, Decision::StepUp(factor)),
                // The rules before are about exceptions; this is what holds.
                (None, None) => (Rule::Timeout, Decision::Allow(session.into())),
            }
        }
    };
    Decided { rule, decision, verdict }
}

/// The first rule by which the user of `session` has to prove themselves again.
fn against(situation: &Situation<'_>, session: &Session, verdict: Option<Verdict>) -> Option<Rule> {
    let Situation { evidence, policy, .. } = *situation;
    if is_replaced(situation, session) || is_of_earlier_device(situation, session) {
        return Some(Rule::Device);
    }
    let (Some(verdict), Some(evidence)) = (verdict, evidence) else { return Some(Rule::Record) };
    match verdict {
        Verdict::Ended { .. } => Some(Rule::Lifetime),
        Verdict::Stale { .. } if matches!(session.state, State::Stale { .. }) => Some(Rule::State),
        Verdict::Stale { .. } if Clock::of(session, evidence, policy).ran_out.is_some() => Some(Rule::Gap),
        Verdict::Stale { .. } => Some(Rule::Timeout),
        Verdict::Active { reopened, .. } => {
            must_revalidate(situation, session, reopened).then_some(Rule::Revalidate)
        }
    }
}

/// Whether another device than the session was proved from is at the address: the session ends. On a shared host there are
/// many.
pub(super) fn is_replaced(situation: &Situation<'_>, session: &Session) -> bool {
    let Situation { is_shared_host, device, policy, .. } = *situation;
    let is_another = session.device.zip(device).is_some_and(|(before, now)| before != now);
    !is_shared_host && policy.timeouts.judges_devices() && is_another
}

/// Whether the connection was established to another device than the one that is at the address now: nothing that comes on
/// it says who is there. One that was cleared for the session was so while its device was there.
fn is_of_earlier_device(situation: &Situation<'_>, session: &Session) -> bool {
    let Situation { is_shared_host, arrival, policy, .. } = *situation;
    let is_earlier = arrival.is_of_earlier_device && !is_cleared(arrival, session);
    !is_shared_host && policy.timeouts.judges_devices() && is_earlier
}

/// Whether a new connection must prove itself although nothing ran out: its client has left since the proof, or may have
/// without anybody seeing it. A connection of a shared host is not opened again, and one that was cleared is not new.
fn must_revalidate(situation: &Situation<'_>, session: &Session, reopened: bool) -> bool {
    let Situation { is_shared_host, watched_since, arrival, policy, .. } = *situation;
    let is_new = !is_shared_host && !is_cleared(arrival, session);
    is_new && (reopened || may_have_reopened(session, policy, watched_since))
}

fn is_cleared(arrival: Arrival, session: &Session) -> bool {
    arrival.cleared == Some(session.id)
}

/// Whether the client may have come back since its proof without anybody seeing it: every connection has been watched
/// only since `watched_since`, or is not watched now. With `revalidate = "on-reopen"` the first new connection must then
/// prove itself, as after a reopening that was seen.
#[must_use]
pub(super) fn may_have_reopened(session: &Session, policy: &Policy, watched_since: Option<BootTime>) -> bool {
    policy.timeouts.revalidate == Revalidate::OnReopen
        && watched_since.is_none_or(|watched| session.authenticated < watched)
}
