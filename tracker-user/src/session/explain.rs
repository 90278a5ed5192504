//! The judge's view of a client, rule by rule: what a request without credentials would get now, which rule decides, and
//! what would end it. The verdict is [`judge`]'s own; the findings only say what it went by.

use std::fmt;

use tracker_ebpf::record::{GRACE, Record};

use super::event::Reason;
use super::judge::{Clock, Verdict, judge, lifetime_end, may_have_reopened};
use super::policy::Policy;
use super::record::{Session, State};
use super::settings::{Mode, Revalidate};
use crate::clock::BootTime;
use crate::types::{ClientAddr, Device};

/// What becomes of connections that their client has ended.
const HALF: &str = "they hold nothing once nothing has been delivered on them for 5s";
const _: () = assert!(GRACE == 5_000_000_000);

/// All that a decision about a client is made from.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The client.
    pub client: ClientAddr,
    /// Where it is one of `timeouts.shared-hosts`: the sessions of its connections.
    pub shared: Option<&'a [Session]>,
    /// The address's own session, as the table has it.
    pub session: Option<&'a Session>,
    /// The kernel's record as far as it may be relied upon, read before `now`; `None` if it cannot be read.
    pub record: Option<&'a Record>,
    /// The device at the address now; `None` if it is not known, or a router's.
    pub device: Option<Device>,
    /// Since when every connection was watched; `None` while that is in doubt.
    pub watched_since: Option<BootTime>,
    /// The policy in force.
    pub policy: &'a Policy,
    /// Now.
    pub now: BootTime,
}

/// The rules, in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Is the address one behind which many users sit?
    SharedHost,
    /// Is somebody logged in there?
    Session,
    /// Is it still the device that the session was proved from?
    Device,
    /// Is what the kernel recorded of it to be had?
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
}

impl Rule {
    /// The rule's name, as the API shows it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SharedHost => "shared-host",
            Self::Session => "session",
            Self::Device => "device",
            Self::Record => "record",
            Self::Lifetime => "lifetime",
            Self::State => "state",
            Self::Gap => "gap",
            Self::Timeout => "timeout",
            Self::Revalidate => "revalidate",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

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
    /// Whether a request without credentials, on a new connection, is served.
    pub allow: bool,
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

/// Explains the decision about a client.
#[must_use]
pub fn explain(situation: &Situation<'_>) -> Explanation {
    let Situation { client, shared, session, record, device, watched_since, policy, now } = *situation;
    let verdict = match (session, record) {
        (Some(session), Some(record)) if shared.is_none() => Some(judge(session, record, policy, now)),
        _ => None,
    };
    let another_device = session.is_some_and(|session| is_another(session, device, policy));
    let unseen = session.is_some_and(|session| may_have_reopened(session, policy, watched_since));
    let decides = match (shared, session, verdict) {
        (Some(_), ..) => Rule::SharedHost,
        (_, None, _) => Rule::Session,
        _ if another_device => Rule::Device,
        (_, Some(_), None) => Rule::Record,
        (_, Some(_), Some(Verdict::Ended { .. })) => Rule::Lifetime,
        (_, Some(session), Some(Verdict::Stale { .. })) => match session.state {
            State::Stale { .. } => Rule::State,
            State::Active if record.is_some_and(|r| Clock::of(session, r, policy).ran_out.is_some()) => {
                Rule::Gap
            }
            State::Active => Rule::Timeout,
        },
        (_, Some(_), Some(Verdict::Active { reopened, .. })) if reopened || unseen => Rule::Revalidate,
        (_, Some(_), Some(Verdict::Active { .. })) => Rule::Timeout,
    };
    let allow = decides == Rule::Timeout && matches!(verdict, Some(Verdict::Active { .. }));
    let deadline = match (verdict, session) {
        (Some(Verdict::Active { deadline, .. }), _) => deadline,
        (Some(Verdict::Stale { .. }), Some(session)) => lifetime_end(session, policy),
        (Some(Verdict::Ended { at }), _) => Some(at),
        _ => None,
    };

    let mut findings = vec![shared_host(client, shared)];
    if shared.is_none() {
        findings.push(session_finding(client, session));
    }
    if let Some(session) = session {
        findings.push(device_finding(session, device, policy));
        findings.push(record_finding(record));
        findings.push(lifetime(session, policy, now));
        findings.push(state(session));
        if let Some(record) = record {
            let clock = Clock::of(session, record, policy);
            findings.push(gap(session, record, policy, &clock));
            findings.push(timeout(record, policy, &clock, now));
            findings.push(revalidate(session, record, policy, unseen, watched_since));
        }
    }
    for finding in &mut findings {
        finding.decides = finding.rule == decides;
    }
    Explanation {
        allow,
        verdict,
        why: why(decides, verdict, situation),
        ends: ends(verdict, situation),
        deadline,
        findings,
    }
}

fn found(rule: Rule, finding: impl Into<String>) -> Finding {
    Finding { rule, finding: finding.into(), since: None, until: None, decides: false }
}

fn shared_host(client: ClientAddr, shared: Option<&[Session]>) -> Finding {
    found(
        Rule::SharedHost,
        match shared {
            Some(sessions) => format!(
                "{client} is in timeouts.shared-hosts: each connection has a session of its own ({} now)",
                sessions.len()
            ),
            None => {
                format!("{client} is not in timeouts.shared-hosts: who proved themselves there is remembered")
            }
        },
    )
}

fn session_finding(client: ClientAddr, session: Option<&Session>) -> Finding {
    let Some(session) = session else {
        return found(Rule::Session, format!("nobody is logged in from {client}"));
    };
    let text = format!("{} is logged in by {} (session {})", session.identity, session.method, session.id);
    Finding { since: Some(session.created), ..found(Rule::Session, text) }
}

/// Whether the address has another device than at the proof, and that matters.
fn is_another(session: &Session, device: Option<Device>, policy: &Policy) -> bool {
    policy.timeouts.judges_devices() && session.device.zip(device).is_some_and(|(before, now)| before != now)
}

fn device_finding(session: &Session, device: Option<Device>, policy: &Policy) -> Finding {
    let known = match (session.device, device) {
        (None, _) => "the device of the proof is not known (not on link, or behind a router)".to_owned(),
        (Some(before), None) => format!("proved from {before}; what is there now is not known"),
        (Some(before), Some(now)) if before == now => format!("still the device of the proof, {before}"),
        (Some(before), Some(now)) => format!("{now} is there now; it was proved from {before}"),
    };
    found(Rule::Device, format!("device-change = {}: {known}", policy.timeouts.device_change))
}

fn record_finding(record: Option<&Record>) -> Finding {
    let Some(record) = record else {
        return found(Rule::Record, "the client's record cannot be read: in doubt, it is asked");
    };
    let (open, since) = match (record.open, record.opened_at, record.closes_at()) {
        (0, 0, _) => ("it has not connected since the record began".to_owned(), None),
        (0, _, closed) => ("no connection is open".to_owned(), closed.and_then(BootTime::from_stamp)),
        (1, opened, _) => ("1 connection is open".to_owned(), BootTime::from_stamp(opened)),
        (open, opened, _) => (format!("{open} connections are open"), BootTime::from_stamp(opened)),
    };
    let text = match record.half {
        0 => open,
        half => format!("{open}; {half} more were ended by the client, and are not closed: {HALF}"),
    };
    Finding { since, ..found(Rule::Record, text) }
}

fn lifetime(session: &Session, policy: &Policy, now: BootTime) -> Finding {
    match lifetime_end(session, policy) {
        None => found(Rule::Lifetime, "no lifetime: proxy-auth-lifetime is disabled"),
        Some(end) => {
            let text = if now >= end { "the lifetime is over" } else { "the lifetime counts from the login" };
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
        State::Stale { reason, since } => {
            let text =
                format!("stale ({reason}): it waits for {} to prove themselves again", session.identity);
            Finding { since: Some(since), ..found(Rule::State, text) }
        }
    }
}

/// The last gap of at least the limit in force when it ended.
fn gap(session: &Session, record: &Record, policy: &Policy, clock: &Clock) -> Finding {
    let (name, start, end) = match policy.timeouts.mode {
        Mode::Session => ("closed period", record.closed_gap_start, record.closed_gap_end),
        Mode::Traffic => ("silence", record.traffic_gap_start, record.traffic_gap_end),
        Mode::Absolute => return found(Rule::Gap, "mode absolute knows no gaps"),
    };
    let (Some(since), Some(until)) = (BootTime::from_stamp(start), BootTime::from_stamp(end)) else {
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

fn timeout(record: &Record, policy: &Policy, clock: &Clock, now: BootTime) -> Finding {
    let (mode, span) = (policy.timeouts.mode, Seconds(policy.timeouts.timeout));
    let Some(since) = clock.runs_from else {
        let text = format!(
            "mode {mode}: the clock of {span} stands still while connections are open ({} now)",
            record.open
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

fn revalidate(
    session: &Session,
    record: &Record,
    policy: &Policy,
    unseen: bool,
    watched_since: Option<BootTime>,
) -> Finding {
    let closed = BootTime::from_stamp(record.left_at).filter(|left| *left > session.judged_from);
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

fn why(decides: Rule, verdict: Option<Verdict>, situation: &Situation<'_>) -> String {
    let who = situation.session.map(|session| session.identity.to_string()).unwrap_or_default();
    match (decides, verdict) {
        (Rule::SharedHost, _) => "each connection of a shared host proves itself".into(),
        (Rule::Session, _) => "nobody is logged in there".into(),
        (Rule::Device, _) => {
            format!("another device than {who}'s is there: the session ends (device-changed)")
        }
        (Rule::Record, _) => "what the client did cannot be read".into(),
        (Rule::Lifetime, _) => format!("the lifetime of {who}'s session is over"),
        (Rule::Revalidate, _) => format!("is it still {who}? the client may have come back in between"),
        (_, Some(Verdict::Stale { reason, .. })) => format!("the session of {who} is stale ({reason})"),
        _ => format!("{who} proved themselves, and nothing has run out"),
    }
}

fn ends(verdict: Option<Verdict>, situation: &Situation<'_>) -> Vec<String> {
    let Situation { session, record, policy, now, .. } = *situation;
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
            ends.push(
                match (policy.timeouts.mode, record.is_some_and(|record| record.is_open(now.as_nanos()))) {
                    (Mode::Session, true) => {
                        format!("{span} after the last connection closes ({})", Reason::ClosedTimeout)
                    }
                    (Mode::Session, false) => {
                        format!("{span} without a connection ({})", Reason::ClosedTimeout)
                    }
                    (Mode::Traffic, _) => format!("{span} without new data ({})", Reason::TrafficTimeout),
                    (Mode::Absolute, _) => format!("{span} in all ({})", Reason::AbsoluteTimeout),
                },
            );
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
