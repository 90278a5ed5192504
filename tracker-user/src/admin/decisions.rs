//! The conditions and the last decisions, as the API shows them.

use super::wire;
use crate::auth::conditions::{Finding, Outcome};
use crate::auth::enctype;
use crate::auth::negotiate::{Details, context_flags};
use crate::auth::recent::{Came, Decided};

pub(super) fn step(finding: &Finding) -> wire::Step {
    let outcome = match finding.outcome {
        Outcome::Denied => "denied",
        Outcome::Passed => "passed",
        Outcome::PassedOver => "passed-over",
    };
    wire::Step {
        step: finding.step.to_string(),
        outcome: outcome.into(),
        why: finding.why.into(),
        decides: finding.outcome == Outcome::Denied,
    }
}

/// A decision as the API tells it.
#[must_use]
pub(super) fn decision(decided: Decided) -> wire::Decision {
    let Decided { at, method, url, user_agent, findings, result } = decided;
    let mut decision = wire::Decision {
        at,
        method: method.into_owned(),
        url,
        user_agent,
        steps: findings.iter().map(step).collect(),
        result: String::new(),
        user: None,
        cause: None,
        why: None,
        ticket: None,
    };
    decision.result = match result {
        Came::Challenged => "challenged",
        Came::NotOffered(denied) => {
            decision.why = Some(denied.to_string());
            "not-offered"
        }
        Came::GivenUp(cause) => {
            decision.cause = Some(cause.label().into());
            "given-up"
        }
        Came::Continued => "continued",
        Came::Accepted { user, ticket } => {
            decision.user = Some(user);
            decision.ticket = Some(accepted(*ticket, at));
            "accepted"
        }
        Came::NotAdmitted { user, why } => {
            (decision.user, decision.why) = (Some(user), Some(why));
            "not-admitted"
        }
        Came::Refused { cause, why } => {
            (decision.cause, decision.why) = (Some(cause.label().into()), Some(why));
            "refused"
        }
        Came::Unavailable(why) => {
            decision.why = Some(why);
            "unavailable"
        }
    }
    .into();
    decision
}

fn accepted(details: Details, at: jiff::Timestamp) -> wire::Ticket {
    let lifetime = jiff::SignedDuration::try_from(details.lifetime).unwrap_or_default();
    wire::Ticket {
        principal: details.principal,
        service: details.service,
        mechanism: details.kind.to_string(),
        enctype: enctype::name(details.enctype),
        key_version: details.key_version,
        accepted_until: at.checked_add(lifetime).unwrap_or(at),
        flags: context_flags(details.flags),
        token_bytes: details.token_bytes,
        answer_bytes: details.answer_bytes,
    }
}
