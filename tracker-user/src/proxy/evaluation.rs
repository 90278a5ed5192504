//! Whether the conditions offer Kerberos to a request, and the memory of what came of it.

use std::borrow::Cow;

use tracing::info;

use super::client::Client;
use super::decision_log::{DecisionRecord, DecisionResult};
use super::destination::Target;
use super::http1::{Method, Name, Request};
use super::options::ProxyOptions;
use crate::auth::kerberos::conditions::{Denied, Finding, RequestFacts, STEPS};
use crate::clock::wall_now;
use crate::links::shown;
use crate::outside;

/// What the conditions say of a request, with what `trackerctl explain` will tell of it.
pub(super) struct Evaluation {
    /// Whether Kerberos is offered.
    pub(super) offered: Result<(), Denied>,
    findings: Vec<Finding>,
    method: Cow<'static, str>,
    url: String,
    user_agent: Option<String>,
}

impl Evaluation {
    /// For a request, whose head is what is unread.
    pub(super) fn of(client: &Client, request: &Request, target: &Target, options: &ProxyOptions) -> Self {
        let head = client.input.unread();
        let field = |name| request.field(head, name).map(String::from_utf8_lossy);
        let (cookie, user_agent) = (field(Name::Cookie), field(Name::UserAgent));
        let raw = request.target(head);
        let path = match target.path(raw) {
            b"" => "/".into(),
            path => String::from_utf8_lossy(path),
        };
        let facts = RequestFacts {
            client: Some(client.address.ip()),
            cookie: cookie.as_deref(),
            // A plain proxy is not told by which name it was reached.
            server_name: None,
            path_and_query: (request.method != Method::Connect).then_some(&*path),
            user_agent: user_agent.as_deref(),
        };
        let mut findings = Vec::with_capacity(STEPS);
        let offered = options.conditions.evaluate(&facts, |finding| {
            findings.push(finding);
            if options.debugging {
                info!(
                    target: "kerberos",
                    client = %shown(client.address),
                    step = %finding.step,
                    outcome = ?finding.outcome,
                    why = finding.why,
                    url = facts.path_and_query.map(|url| outside::shown(url, outside::NAME)).as_deref(),
                    user_agent = facts.user_agent.map(|agent| outside::shown(agent, outside::NAME)).as_deref(),
                    "is Kerberos offered?"
                );
            }
        });
        // Secrets are found in queries: one is kept only where it is what was decided by.
        let shown = match raw.iter().position(|&b| b == b'?') {
            Some(end) if !options.conditions.look_at_urls() => raw.get(..end).unwrap_or_default(),
            _ => raw,
        };
        Self {
            offered,
            findings,
            method: request.method_name(head),
            url: outside::shown_bytes(shown, outside::NAME),
            user_agent: user_agent.map(|agent| outside::shown(&agent, outside::NAME).into_owned()),
        }
    }

    /// Remembers what came of it.
    pub(super) fn record(self, client: &Client, result: DecisionResult) {
        let Self { findings, method, url, user_agent, .. } = self;
        let record = DecisionRecord { at: wall_now(), method, url, user_agent, findings, result };
        client.worker.shared.decisions.keep(client.address, record);
    }
}
