//! The conditions and the last decisions, as the API shows them.

use super::wire;
use crate::auth::kerberos::conditions::{Finding, StepOutcome};
use crate::auth::kerberos::enctype;
use crate::auth::kerberos::negotiate::{Details, context_flags};
use crate::proxy::decision_log::{DecisionRecord, DecisionResult};

pub(super) fn step(finding: &Finding) -> wire::Step {
    let outcome = match finding.outcome {
        StepOutcome::Denied => "denied",
        StepOutcome::Passed => "passed",
        StepOutcome::PassedOver => "passed-over",
    };
    wire::Step {
        step: finding.step.to_string(),
        outcome: outcome.into(),
        why: finding.why.into(),
        decides: finding.outcome == StepOutcome::Denied,
    }
}

/// A decision as the API tells it.
#[must_use]
pub(super) fn decision(record: DecisionRecord) -> wire::Decision {
    let DecisionRecord { at, method, url, user_agent, findings, result } = record;
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
        offered: Vec::new(),
        proved_by: None,
    };
    decision.result = match result {
        DecisionResult::Challenged(schemes) => {
            decision.offered = schemes.iter().map(|scheme| scheme.name().into()).collect();
            "challenged"
        }
        DecisionResult::NotOffered(denied) => {
            decision.why = Some(denied.to_string());
            "not-offered"
        }
        DecisionResult::Suppressed(cause) => {
            decision.cause = Some(cause.label().into());
            "given-up"
        }
        DecisionResult::Held => "logout-hold",
        DecisionResult::Continued => "continued",
        DecisionResult::Accepted { user, method, ticket } => {
            decision.proved_by = Some(method.to_string());
            decision.user = Some(user);
            decision.ticket = ticket.map(|ticket| accepted(*ticket, at));
            "accepted"
        }
        DecisionResult::Waits(factor) => {
            decision.why = Some(format!("waiting for the second factor ({factor})"));
            "waits"
        }
        DecisionResult::NotAdmitted { user, why } => {
            (decision.user, decision.why) = (Some(user), Some(why));
            "not-admitted"
        }
        DecisionResult::Refused { cause, why } => {
            (decision.cause, decision.why) = (Some(cause.label().into()), Some(why));
            "refused"
        }
        DecisionResult::Unavailable(why) => {
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
