//! The judge: what a session, the evidence about its client, the policy and a moment come to.
//!
//! A session is expired if the gap of its mode has been running for the timeout, **or** if a gap of at least the limit
//! was latched by the kernel after the session was last proved. The second half is what makes a late, stopped or dead
//! daemon decide exactly as one that was awake.

use std::time::Duration;

use super::event::Reason;
use super::evidence::{Evidence, Gap, Presence};
use super::policy::Policy;
use super::record::{Session, State};
use super::settings::{Mode, Revalidate};
use crate::clock::BootTime;

/// What the judge says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Requests are served.
    Active {
        /// Until this moment no gap of the timeout's length can complete: the evidence need not be read again before.
        good_until: BootTime,
        /// When the session will go stale or end if nothing more happens; `None` while nothing runs.
        deadline: Option<BootTime>,
        /// The client closed or ended its last connection since the session was last proved. With `revalidate = "on-reopen"`
        /// the next connection must prove itself although the session is not stale.
        reopened: bool,
    },
    /// The timeout ran out; the session waits for its user.
    Stale {
        /// Which timeout.
        reason: Reason,
        /// When it ran out, as far as the evidence tells.
        since: BootTime,
    },
    /// The lifetime is over, at this moment.
    Ended {
        /// When it was over.
        at: BootTime,
    },
}

/// The clock that a mode goes by, as the evidence has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    /// What a session goes stale for by it.
    pub(super) reason: Reason,
    /// Since when it runs, or from when on it will if nothing more happens; `None` while it stands still.
    pub(super) runs_from: Option<BootTime>,
    /// When it ran out in a gap that the kernel latched: one that is over, but was long enough.
    pub(super) ran_out: Option<BootTime>,
}

impl Clock {
    /// The clock of `session` under `policy`.
    pub(super) fn of(session: &Session, evidence: &Evidence, policy: &Policy) -> Self {
        let timeout = policy.timeouts.timeout;
        let proved = session.judged_from;
        // A gap counts from the proof on, and only if it ended under the policy in force: another mode or timeout, set
        // since, does not reach back.
        let latched = |gap: Option<Gap>| {
            let Gap { start, end } = gap?;
            let start = start.max(proved);
            (end > policy.since && end.since(start) >= timeout).then(|| start.after(timeout))
        };
        let (reason, ran_out, runs_from) = match policy.timeouts.mode {
            Mode::Session => {
                let closed = match evidence.presence() {
                    Presence::Open => None,
                    // May be still to come: while all that is left are connections that the client has ended.
                    Presence::Closed(from) => Some(seen(session, from)),
                };
                (Reason::ClosedTimeout, latched(evidence.closed_gap), closed)
            }
            Mode::Traffic => {
                let silent = seen(session, evidence.traffic_at);
                (Reason::TrafficTimeout, latched(evidence.traffic_gap), Some(silent))
            }
            Mode::Absolute => (Reason::AbsoluteTimeout, None, Some(session.counted_from)),
        };
        Self { reason, runs_from, ran_out }
    }
}

/// A moment in the evidence, as the session sees it: what happened before its proof, or never, is the proof's own moment.
fn seen(session: &Session, at: Option<BootTime>) -> BootTime {
    let proved = session.judged_from;
    at.map_or(proved, |at| at.max(proved))
}

/// When the client last left since the proof, as far as the evidence tells. Whoever came after the proof had left before,
/// whether anybody saw that or not.
pub(super) fn reopened_at(session: &Session, evidence: &Evidence) -> Option<BootTime> {
    let since_proof = |at: Option<BootTime>| at.filter(|at| *at > session.judged_from);
    since_proof(evidence.left_at).or_else(|| since_proof(evidence.opened_at))
}

/// So long a login waits for its further factor.
pub const WAITS_FOR: Duration = Duration::from_secs(600);

/// When the lifetime of `session` is over, if it has one. A login that waits for its further factor has one in any case.
#[must_use]
pub fn lifetime_end(session: &Session, policy: &Policy) -> Option<BootTime> {
    let waits = (!session.has_begun()).then_some(WAITS_FOR);
    let lifetime = policy.timeouts.lifetime().into_iter().chain(waits).min();
    lifetime.map(|lifetime| session.created.after(lifetime))
}

/// Judges `session` at `now` by the evidence about its client.
#[must_use]
pub fn judge(session: &Session, evidence: &Evidence, policy: &Policy, now: BootTime) -> Verdict {
    let lifetime_end = lifetime_end(session, policy);
    if let Some(at) = lifetime_end.filter(|end| now >= *end) {
        return Verdict::Ended { at };
    }
    if let State::Stale { reason, since } = session.state {
        return Verdict::Stale { reason, since };
    }

    let timeout = policy.timeouts.timeout;
    let Clock { reason, runs_from, ran_out } = Clock::of(session, evidence, policy);
    if let Some(since) = ran_out {
        return Verdict::Stale { reason, since };
    }
    let timeout_end = runs_from.map(|start| start.after(timeout));
    if let Some(since) = timeout_end.filter(|end| now >= *end) {
        return Verdict::Stale { reason, since };
    }

    // Where it does not run yet, it may begin at once.
    let until = runs_from.map_or(now, |start| start.min(now)).after(timeout);
    let has_reopened = reopened_at(session, evidence).is_some();
    Verdict::Active {
        good_until: lifetime_end.map_or(until, |end| until.min(end)),
        deadline: match (timeout_end, lifetime_end) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        },
        reopened: policy.timeouts.revalidate == Revalidate::OnReopen && has_reopened,
    }
}
