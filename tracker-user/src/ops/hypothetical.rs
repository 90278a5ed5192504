//! A request that was described, and its way through the conditions.

use std::net::IpAddr;

use crate::auth::kerberos::Conditions;
use crate::auth::kerberos::conditions::{Finding, RequestFacts, StepOutcome};

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
    pub(super) fn offer(&self, conditions: &Conditions, client: IpAddr) -> Offer {
        let asked = RequestFacts {
            client: Some(client),
            cookie: self.cookie.as_deref(),
            server_name: self.host.as_deref(),
            path_and_query: self.url.as_deref().and_then(path_and_query),
            user_agent: self.user_agent.as_deref(),
        };
        let mut steps = Vec::new();
        let offered = conditions.evaluate(&asked, |finding| steps.push(finding)).is_ok();
        Offer { offered, steps }
    }
}

/// A request's way through the conditions.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Whether Kerberos is offered to it.
    pub offered: bool,
    /// Step by step; the last one decides.
    pub steps: Vec<Finding>,
}

impl Offer {
    /// The step that speaks against it, if one does.
    #[must_use]
    pub fn against(&self) -> Option<&Finding> {
        self.steps.iter().find(|step| step.outcome == StepOutcome::Denied)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::kerberos::conditions::Step;

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
    fn the_way_through_the_conditions_ends_at_the_step_that_decides() {
        let text = "[kerberos.conditions]\nspns = [\"proxy.test\"]\nurl-deny = [\"^/x\"]\n";
        let config = crate::config::Config::parse(text, "test").unwrap();
        let conditions = Conditions::new(&config.kerberos.conditions).unwrap();
        let client = "10.0.0.1".parse().unwrap();
        let asked = Hypothetical { host: Some("PROXY.test".into()), ..Hypothetical::default() };
        assert!(asked.offer(&conditions, client).offered);
        let asked = Hypothetical { url: Some("http://o.test/xy".into()), ..asked };
        let offer = asked.offer(&conditions, client);
        let last = offer.steps.last().unwrap();
        assert!(!offer.offered && offer.against() == Some(last) && last.step == Step::Url, "{offer:?}");
    }
}
