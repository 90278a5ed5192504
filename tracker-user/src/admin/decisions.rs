//! The conditions and the last decisions, for the API.

use super::wire;
use crate::auth::kerberos::conditions::{Conditions, Finding, RequestFacts, StepOutcome};
use crate::auth::kerberos::enctype;
use crate::auth::kerberos::negotiate::{Details, context_flags};
use crate::proxy::decision_log::{DecisionRecord, DecisionResult};

/// A request that nobody has made, as far as it was described.
#[derive(Clone, Debug, Default)]
pub struct Hypothetical {
    /// Where it would go: a URL, or `host:port` for a CONNECT.
    pub url: Option<String>,
    /// The name by which the client would reach this host.
    pub host: Option<String>,
    /// Its User-Agent field.
    pub user_agent: Option<String>,
    /// Its Cookie field.
    pub cookie: Option<String>,
}

impl Hypothetical {
    /// Whether anything was said of it.
    #[must_use]
    pub const fn is_described(&self) -> bool {
        self.url.is_some() || self.host.is_some() || self.user_agent.is_some() || self.cookie.is_some()
    }

    /// Its way through the conditions; `client` is where it would come from.
    #[must_use]
    pub fn walk(&self, conditions: &Conditions, client: std::net::IpAddr) -> wire::Walk {
        let facts = RequestFacts {
            client: Some(client),
            cookie: self.cookie.as_deref(),
            server_name: self.host.as_deref(),
            path_and_query: self.url.as_deref().and_then(path_and_query),
            user_agent: self.user_agent.as_deref(),
        };
        let mut findings = Vec::new();
        let offered = conditions.evaluate(&facts, |finding| findings.push(finding)).is_ok();
        wire::Walk { offered, steps: findings.iter().map(step).collect() }
    }
}

/// The path and the query of a URL; `None` for the target of a CONNECT, which has none.
fn path_and_query(url: &str) -> Option<&str> {
    if url.starts_with('/') {
        return Some(url);
    }
    let (_, rest) = url.split_once("://")?;
    let path = rest.find(['/', '?']).map_or("/", |at| rest.get(at..).unwrap_or("/"));
    Some(path.split('#').next().unwrap_or(path))
}

fn step(finding: &Finding) -> wire::Step {
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
    };
    decision.result = match result {
        DecisionResult::Challenged => "challenged",
        DecisionResult::NotOffered(denied) => {
            decision.why = Some(denied.to_string());
            "not-offered"
        }
        DecisionResult::Suppressed(cause) => {
            decision.cause = Some(cause.label().into());
            "given-up"
        }
        DecisionResult::Continued => "continued",
        DecisionResult::Accepted { user, ticket } => {
            decision.user = Some(user);
            decision.ticket = ticket.map(|ticket| accepted(*ticket, at));
            "accepted"
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_path_and_a_tunnel_has_none() {
        for (url, path) in [
            ("http://a.test/x/y?z=1#top", Some("/x/y?z=1")),
            ("http://a.test", Some("/")),
            ("http://a.test?q", Some("?q")),
            ("/x?y", Some("/x?y")),
            ("a.test:443", None),
        ] {
            assert_eq!(path_and_query(url), path, "{url}");
        }
    }

    #[test]
    fn a_walk_ends_at_the_step_that_decides() {
        let text = "[kerberos.conditions]\nspns = [\"proxy.test\"]\nurl-deny = [\"^/x\"]\n";
        let config = crate::config::Config::parse(text, "test").unwrap();
        let conditions = Conditions::new(&config.kerberos.conditions).unwrap();
        let client = "10.0.0.1".parse().unwrap();
        let asked = Hypothetical { host: Some("PROXY.test".into()), ..Hypothetical::default() };
        assert!(asked.walk(&conditions, client).offered);
        let asked = Hypothetical { url: Some("http://o.test/xy".into()), ..asked };
        let walk = asked.walk(&conditions, client);
        let last = walk.steps.last().unwrap();
        assert!(!walk.offered && last.decides && last.step == "url-deny", "{walk:?}");
        assert_eq!(walk.steps.iter().filter(|step| step.decides).count(), 1);
    }
}
