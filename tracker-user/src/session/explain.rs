//! A decision in words, rule by rule: what a request without credentials gets in a situation, which rule decides, and what
//! would end that. What is decided is [`decide`]'s answer; the findings only describe what it went by.

use std::fmt;

use tracker_ebpf::record::GRACE;

use super::decide::{Decided, Decision, Rule, Situation, decide, is_replaced, may_have_reopened};
use super::event::Reason;
use super::evidence::{Evidence, Gap, Presence};
use super::judge::{Clock, Verdict, WAITS_FOR, lifetime_end, reopened_at};
use super::policy::Policy;
use super::record::{Session, State};
use super::settings::{Mode, Revalidate};
use crate::clock::BootTime;
use crate::types::Factor;

/// What becomes of connections that their client has ended.
const HALF: &str = "they hold nothing once nothing has been delivered on them for 5s";
const _: () = assert!(GRACE == 5_000_000_000);

/// What a rule found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// In a sentence; its moments stand beside it.
    pub finding: String,
    /// Since when that is so.
    pub since: Option<BootTime>,
    /// Until when, or when it will be over.
    pub until: Option<BootTime>,
    /// Whether this is what decides.
    pub decides: bool,
}

/// What [`explain`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What becomes of a request without credentials.
    pub decision: Decision,
    /// What the judge says of the session, if there is one to judge.
    pub verdict: Option<Verdict>,
    /// Why, in a sentence.
    pub why: String,
    /// What would end that, in a sentence each.
    pub ends: Vec<String>,
    /// When the session goes stale or ends if nothing more happens.
    pub deadline: Option<BootTime>,
    /// Rule by rule. Exactly one of them decides; those after it are told all the same.
    pub findings: Vec<Finding>,
}

/// Explains the decision about a client. `sessions` is how many sessions there are from its address: on a shared host each
/// connection has one of its own.
#[must_use]
pub fn explain(situation: &Situation<'_>, sessions: usize) -> Explanation {
    let Situation { session, evidence, arrival, policy, now, .. } = *situation;
    let Decided { rule: decides, decision, verdict } = decide(situation);
    let deadline = match (verdict, session) {
        (Some(Verdict::Active { deadline, .. }), _) => deadline,
        (Some(Verdict::Stale { .. }), Some(session)) => lifetime_end(session, policy),
        (Some(Verdict::Ended { at }), _) => Some(at),
        _ => None,
    };

    let mut findings = Vec::new();
    if let Some(denial) = arrival.denial() {
        findings.push(found(Rule::Watched, denial.to_string()));
    }
    findings.push(shared_host(situation, sessions));
    if session.is_some() || !situation.is_shared_host {
        findings.push(session_finding(situation));
    }
    if let Some(session) = session {
        findings.push(device_finding(situation, session));
        findings.push(record_finding(evidence));
        findings.push(lifetime(session, policy, now));
        findings.push(state(session));
        if let Some(evidence) = evidence {
            let clock = Clock::of(session, evidence, policy);
            findings.push(gap(session, evidence, policy, &clock));
            findings.push(timeout(evidence, policy, &clock, now));
            findings.push(revalidate(situation, session, evidence));
        }
        if policy.factors.asks_anybody() {
            findings.push(factor(session, policy));
        }
    }
    for finding in &mut findings {
        finding.decides = finding.rule == decides;
    }
    let (why, ends) = (why(decides, verdict, situation), ends(verdict, situation));
    Explanation { decision, verdict, why, ends, deadline, findings }
}

fn found(rule: Rule, finding: impl Into<String>) -> Finding {
    Finding { rule, finding: finding.into(), since: None, until: None, decides: false }
}

fn shared_host(situation: &Situation<'_>, sessions: usize) -> Finding {
    let client = situation.client;
    let text = if situation.is_shared_host {
        format!(
            "{client} is in timeouts.shared-hosts: each connection has a session of its own ({sessions} now)"
        )
    } else {
        format!("{client} is not in timeouts.shared-hosts: who proved themselves there is remembered")
    };
    found(Rule::SharedHost, text)
}

fn session_finding(situation: &Situation<'_>) -> Finding {
    let Some(session) = situation.session else {
        return found(Rule::Session, format!("nobody is logged in from {}", situation.client));
    };
    let text = format!("{} is logged in by {} (session {})", session.identity, session.method, session.id);
    Finding { since: Some(session.created), ..found(Rule::Session, text) }
}

fn device_finding(situation: &Situation<'_>, session: &Session) -> Finding {
    let Situation { device, arrival, policy, .. } = *situation;
    let known = match (session.device, device) {
        _ if arrival.is_of_earlier_device => {
            "the connection was established to another device than the one that is there now".to_owned()
        }
        (None, _) => "the device of the proof is not known (not on link, or behind a router)".to_owned(),
        (Some(before), None) => format!("proved from {before}; what is there now is not known"),
        (Some(before), Some(now)) if before == now => format!("still the device of the proof, {before}"),
        (Some(before), Some(now)) => format!("{now} is there now; it was proved from {before}"),
    };
    found(Rule::Device, format!("device-change = {}: {known}", policy.timeouts.device_change))
}

fn record_finding(evidence: Option<&Evidence>) -> Finding {
    let Some(evidence) = evidence else {
        return found(Rule::Record, "the client's record cannot be read: in doubt, it is asked");
    };
    let (open, since) = match (evidence.presence(), evidence.opened_at) {
        (Presence::Closed(_), None) => ("it has not connected since the record began".to_owned(), None),
        (Presence::Closed(from), Some(_)) => ("no connection is open".to_owned(), from),
        (Presence::Open, opened) if evidence.open == 1 => ("1 connection is open".to_owned(), opened),
        (Presence::Open, opened) => (format!("{} connections are open", evidence.open), opened),
    };
    let text = match evidence.half_closed {
        0 => open,
        half => format!("{open}; {half} more were ended by the client, and are not closed: {HALF}"),
    };
    Finding { since, ..found(Rule::Record, text) }
}

fn lifetime(session: &Session, policy: &Policy, now: BootTime) -> Finding {
    match lifetime_end(session, policy) {
        None => found(Rule::Lifetime, "no lifetime: proxy-auth-lifetime is disabled"),
        Some(end) => {
            let text = match (session.has_begun(), now >= end) {
                (true, true) => "the lifetime is over",
                (true, false) => "the lifetime counts from the login",
                (false, true) => "the second factor has not come in time: the login is forgotten",
                (false, false) => "a login is waiting so long for the second factor",
            };
            Finding { since: Some(session.created), until: Some(end), ..found(Rule::Lifetime, text) }
        }
    }
}

fn state(session: &Session) -> Finding {
    match session.state {
        State::Active => Finding {
            since: Some(session.authenticated),
            ..found(Rule::State, "active: its user proved themselves")
        },
        State::Waiting { .. } => Finding {
            since: Some(session.authenticated),
            ..found(
                Rule::State,
                "waiting for the second factor: its user proved themselves, and gives it on the portal's page",
            )
        },
        State::Stale { reason, since } => {
            let text =
                format!("stale ({reason}): it waits for {} to prove themselves again", session.identity);
            Finding { since: Some(since), ..found(Rule::State, text) }
        }
    }
}

/// The last gap of at least the limit in force when it ended.
fn gap(session: &Session, evidence: &Evidence, policy: &Policy, clock: &Clock) -> Finding {
    let (name, gap) = match policy.timeouts.mode {
        Mode::Session => ("closed period", evidence.closed_gap),
        Mode::Traffic => ("silence", evidence.traffic_gap),
        Mode::Absolute => return found(Rule::Gap, "mode absolute knows no gaps"),
    };
    let Some(Gap { start: since, end: until }) = gap else {
        return found(Rule::Gap, format!("the kernel has latched no {name} of the timeout's length"));
    };
    let text = if clock.ran_out.is_some() {
        format!("a {name} of the timeout's length has passed since the last proof, though it is over")
    } else if until <= session.judged_from {
        format!("the last long {name} was over before the last proof")
    } else if until <= policy.since {
        format!("the last long {name} was over before the settings in force: they do not reach back")
    } else {
        format!("of the last long {name}, less than the timeout lies after the last proof")
    };
    Finding { since: Some(since), until: Some(until), ..found(Rule::Gap, text) }
}

fn timeout(evidence: &Evidence, policy: &Policy, clock: &Clock, now: BootTime) -> Finding {
    let (mode, span) = (policy.timeouts.mode, Seconds(policy.timeouts.timeout));
    let Some(since) = clock.runs_from else {
        let text = format!(
            "mode {mode}: the clock of {span} stands still while connections are open ({} now)",
            evidence.open
        );
        return found(Rule::Timeout, text);
    };
    let from = match mode {
        Mode::Session => "the last connection closed, or the last proof",
        Mode::Traffic => "new data last moved, or the last proof",
        Mode::Absolute => "the login, or the last renewal",
    };
    let until = since.after(policy.timeouts.timeout);
    let text = if now < since {
        format!("mode {mode}: the clock of {span} will run: {HALF}")
    } else {
        let verb = if now >= until { "has run out; it ran" } else { "runs" };
        format!("mode {mode}: the clock of {span} {verb} since {from}")
    };
    Finding { since: Some(since), until: Some(until), ..found(Rule::Timeout, text) }
}

fn revalidate(situation: &Situation<'_>, session: &Session, evidence: &Evidence) -> Finding {
    let Situation { watched_since, policy, .. } = *situation;
    let unseen = may_have_reopened(session, policy, watched_since);
    let closed = reopened_at(session, evidence);
    let text = match (policy.timeouts.revalidate, closed) {
        (Revalidate::OnTimeout, None) => {
            "the client has not closed everything since the proof, nor would it matter"
        }
        (Revalidate::OnTimeout, Some(_)) => "that everything was closed since the proof does not matter",
        (Revalidate::OnReopen, Some(_)) => {
            "everything was closed since the proof, so that a new connection must prove itself"
        }
        (Revalidate::OnReopen, None) if unseen => {
            "not every connection since the proof was watched: a new one must prove itself"
        }
        (Revalidate::OnReopen, None) => "the client has not closed everything since the proof",
    };
    let since = closed.or(watched_since.filter(|_| unseen));
    let text = format!("revalidate = {}: {text}", policy.timeouts.revalidate);
    Finding { since, ..found(Rule::Revalidate, text) }
}

fn factor(session: &Session, policy: &Policy) -> Finding {
    let proved: Vec<&str> = session.factors.iter().map(Factor::as_str).collect();
    let text = match (policy.factors.missing(&session.proven()), proved.is_empty()) {
        (Some(factor), _) => format!("second-factor: required and not proved ({factor})"),
        (None, true) => "second-factor: not required of this user".to_owned(),
        (None, false) => format!("second-factor: proved ({})", proved.join(", ")),
    };
    found(Rule::Factor, text)
}

fn why(decides: Rule, verdict: Option<Verdict>, situation: &Situation<'_>) -> String {
    let who = situation.session.map(|session| session.identity.to_string()).unwrap_or_default();
    match (decides, verdict) {
        (Rule::Watched, _) => "nobody would notice what happens on the connection".into(),
        (Rule::SharedHost, _) => "each connection of a shared host proves itself".into(),
        (Rule::Session, _) => "nobody is logged in there".into(),
        (Rule::Device, _) if situation.session.is_some_and(|session| is_replaced(situation, session)) => {
            format!("another device than {who}'s is there: the session ends (device-changed)")
        }
        (Rule::Device, _) => "the connection is of a device that is not there any more".into(),
        (Rule::Record, _) => "what the client did cannot be read".into(),
        (Rule::Lifetime, _) => format!("the lifetime of {who}'s session is over"),
        (Rule::Revalidate, _) => format!("is it still {who}? the client may have come back in between"),
        (Rule::Factor, _) => format!("{who} proved themselves, and is waiting for the second factor"),
        (_, Some(Verdict::Stale { reason, .. })) => format!("the session of {who} is stale ({reason})"),
        _ => format!("{who} proved themselves, and nothing has run out"),
    }
}

fn ends(verdict: Option<Verdict>, situation: &Situation<'_>) -> Vec<String> {
    let Situation { session, evidence, policy, now, .. } = *situation;
    let Some((session, verdict)) = session.zip(verdict) else { return Vec::new() };
    let span = Seconds(policy.timeouts.timeout);
    let who = &session.identity;
    let mut ends = Vec::new();
    match verdict {
        Verdict::Ended { .. } => return ends,
        Verdict::Stale { .. } => {
            ends.push(format!("{who} proves themselves: the session goes on"));
            ends.push("another user does: the session ends (kicked) and its connections are closed".into());
        }
        Verdict::Active { .. } => {
            if session.is_waiting() {
                ends.push(format!("{who} proves the second factor on the portal: requests are served"));
            }
            if !session.has_begun() {
                ends.push(format!("{} without it: the login is forgotten", Seconds(WAITS_FOR)));
            }
            ends.push(match (policy.timeouts.mode, evidence.is_some_and(|evidence| evidence.is_open(now))) {
                (Mode::Session, true) => {
                    format!("{span} after the last connection closes ({})", Reason::ClosedTimeout)
                }
                (Mode::Session, false) => {
                    format!("{span} without a connection ({})", Reason::ClosedTimeout)
                }
                (Mode::Traffic, _) => format!("{span} without new data ({})", Reason::TrafficTimeout),
                (Mode::Absolute, _) => format!("{span} in all ({})", Reason::AbsoluteTimeout),
            });
            if policy.timeouts.revalidate == Revalidate::OnReopen {
                ends.push("everything closed and opened again: the new connection must prove itself".into());
            }
            ends.push("another user proves themselves from this address (kicked)".into());
            if policy.timeouts.judges_devices() {
                ends.push(format!("another device takes the address ({})", Reason::DeviceChanged));
            }
        }
    }
    if policy.timeouts.lifetime().is_some() {
        ends.push(format!("the end of its lifetime ({})", Reason::Lifetime));
    }
    ends.push("a logout, or an operator".into());
    ends
}

/// A length of time in whole seconds or minutes.
struct Seconds(std::time::Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds if seconds >= 60 && seconds.is_multiple_of(60) => write!(f, "{}m", seconds / 60),
            _ => write!(f, "{}s", self.0.as_secs_f64()),
        }
    }
}
