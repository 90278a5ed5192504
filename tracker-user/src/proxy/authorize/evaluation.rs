//! What a request may be offered, Kerberos by the conditions and a password by its connection, and the memory of what came of it.

use std::borrow::Cow;

use tracing::info;

use super::lead::Lead;
use crate::auth::Chances;
use crate::auth::kerberos::conditions::{Finding, RequestFacts, STEPS};
use crate::clock::{boot_now, wall_now};
use crate::config::Basic;
use crate::links::shown;
use crate::outside;
use crate::proxy::decision_log::{DecisionRecord, DecisionResult};
use crate::proxy::exchange::Peer;
use crate::proxy::message::{Method, Name, RequestHead};
use crate::proxy::options::ProxyOptions;

/// What the conditions say of a request, with what `trackerctl explain` will tell of it.
pub(super) struct Evaluation {
    /// What it may be offered.
    pub(super) chances: Chances,
    /// Where whoever sent it is led.
    pub(super) lead: Lead,
    findings: Vec<Finding>,
    method: Cow<'static, str>,
    url: String,
    user_agent: Option<String>,
}

impl Evaluation {
    /// For a request.
    pub(super) fn of(peer: &Peer, head: &RequestHead, options: &ProxyOptions) -> Self {
        peer.note_language(head);
        let field = |name| head.field(name).map(String::from_utf8_lossy);
        let (cookie, user_agent) = (field(Name::Cookie), field(Name::UserAgent));
        let path = match head.path() {
            b"" => "/".into(),
            path => String::from_utf8_lossy(path),
        };
        let facts = RequestFacts {
            client: Some(peer.address().ip()),
            cookie: cookie.as_deref(),
            // A plain proxy is not told by which name it was reached.
            server_name: None,
            path_and_query: (head.method() != Method::Connect).then_some(&*path),
            user_agent: user_agent.as_deref(),
        };
        let mut findings = Vec::with_capacity(STEPS);
        let kerberos = options.conditions.evaluate(&facts, |finding| {
            findings.push(finding);
            if options.debugging {
                info!(
                    target: "kerberos",
                    client = %shown(peer.address()),
                    step = %finding.step,
                    outcome = ?finding.outcome,
                    why = finding.why,
                    url = facts.path_and_query.map(|url| outside::shown(url, outside::NAME)).as_deref(),
                    user_agent = facts.user_agent.map(|agent| outside::shown(agent, outside::NAME)).as_deref(),
                    "is Kerberos offered?"
                );
            }
        });
        let is_held = peer.worker().shared.holds.until(peer.address(), boot_now()).is_some();
        Self {
            chances: Chances { kerberos, basic: takes_passwords(peer, options), is_held },
            lead: Lead::of(peer, head, options),
            findings,
            method: head.method_name(),
            url: outside::shown_bytes(&url(head, options.conditions.look_at_urls()), outside::NAME),
            user_agent: user_agent.map(|agent| outside::shown(&agent, outside::NAME).into_owned()),
        }
    }

    /// Remembers what came of it.
    pub(super) fn record(self, peer: &Peer, result: DecisionResult) {
        let Self { findings, method, url, user_agent, .. } = self;
        let record = DecisionRecord { at: wall_now(), method, url, user_agent, findings, result };
        peer.worker().shared.decisions.keep(peer.address(), record);
    }
}

/// Whether a password may be asked for on the connection. One that is sent all the same where it may not is not looked at.
pub(super) fn takes_passwords(peer: &Peer, options: &ProxyOptions) -> bool {
    let may = match options.basic {
        Basic::Never => false,
        Basic::TlsAndLoopback => peer.is_private(),
        Basic::Always => true,
    };
    may && peer.worker().shared.verifier.passwords().is_some()
}

/// What was asked for. Secrets are found in queries: one is kept only where it is what was decided by.
fn url(head: &RequestHead, with_query: bool) -> Vec<u8> {
    let mut url = match head.scheme() {
        b"" => Vec::new(),
        scheme => [scheme, b"://"].concat(),
    };
    url.extend_from_slice(head.authority());
    let path = head.path();
    let end = path.iter().position(|&b| b == b'?').filter(|_| !with_query);
    url.extend_from_slice(path.get(..end.unwrap_or(path.len())).unwrap_or_default());
    url
}
