//! Whether a request is offered Kerberos, and the memory of what came of it.

use std::borrow::Cow;

use tracing::info;

use super::exchange::Peer;
use super::message::{Method, Name, RequestHead};
use super::options::ProxyOptions;
use crate::auth::conditions::{Asked, Denied, Finding, STEPS};
use crate::auth::recent::{Came, Decided};
use crate::clock::wall_now;
use crate::links::shown;
use crate::outside;

/// What the conditions say of a request, with what `trackerctl explain` will tell of it.
pub(super) struct Look {
    /// Whether Kerberos is offered.
    pub(super) offered: Result<(), Denied>,
    findings: Vec<Finding>,
    method: Cow<'static, str>,
    url: String,
    user_agent: Option<String>,
}

impl Look {
    /// Evaluates the conditions for a request.
    pub(super) fn at(peer: &Peer, head: &RequestHead, options: &ProxyOptions) -> Self {
        let field = |name| head.field(name).map(String::from_utf8_lossy);
        let (cookie, user_agent) = (field(Name::Cookie), field(Name::UserAgent));
        let path = match head.path() {
            b"" => "/".into(),
            path => String::from_utf8_lossy(path),
        };
        let asked = Asked {
            client: Some(peer.address().ip()),
            cookie: cookie.as_deref(),
            // A plain proxy is not told by which name it was reached.
            server_name: None,
            path_and_query: (head.method() != Method::Connect).then_some(&*path),
            user_agent: user_agent.as_deref(),
        };
        let mut findings = Vec::with_capacity(STEPS);
        let offered = options.conditions.evaluate(&asked, |finding| {
            findings.push(finding);
            if options.debugging {
                info!(
                    target: "kerberos",
                    client = %shown(peer.address()),
                    step = %finding.step,
                    outcome = ?finding.outcome,
                    why = finding.why,
                    url = asked.path_and_query.map(|url| outside::shown(url, outside::NAME)).as_deref(),
                    user_agent = asked.user_agent.map(|agent| outside::shown(agent, outside::NAME)).as_deref(),
                    "is Kerberos offered?"
                );
            }
        });
        // Secrets are found in queries: one is kept only where it is what was decided by.
        let mut url = match head.scheme() {
            b"" => Vec::new(),
            scheme => [scheme, b"://"].concat(),
        };
        url.extend_from_slice(head.authority());
        let path = head.path();
        let end = path.iter().position(|&b| b == b'?').filter(|_| !options.conditions.look_at_urls());
        url.extend_from_slice(path.get(..end.unwrap_or(path.len())).unwrap_or_default());
        Self {
            offered,
            findings,
            method: head.method_name(),
            url: outside::shown_bytes(&url, outside::NAME),
            user_agent: user_agent.map(|agent| outside::shown(&agent, outside::NAME).into_owned()),
        }
    }

    /// Remembers what came of it.
    pub(super) fn came(self, peer: &Peer, result: Came) {
        let Self { findings, method, url, user_agent, .. } = self;
        let decided = Decided { at: wall_now(), method, url, user_agent, findings, result };
        peer.worker().shared.recent.keep(peer.address(), decided);
    }
}
