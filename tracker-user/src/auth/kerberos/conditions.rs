//! The conditions under which Kerberos is offered, in the order of evaluation of PortalGuard's `SSOConditions`
//! (docs of Kerberos SSO to PortalGuard, "Order of Evaluation"); each step is looked at only if no earlier one decided.
//!
//! Where a request lacks a thing (no cookie or path in a CONNECT, the name by which the client reached a plain proxy) the
//! step is passed over. Other than in the document, CIDR and IPv6 work in the address lists.

use std::fmt;
use std::net::IpAddr;

use regex::RegexSet;

use crate::types::{AddressPattern, UserMessage};

/// `PortalGuard`'s cookie by which a browser opts out of Kerberos.
pub const OPT_OUT_COOKIE: &str = "PstarNoKerberos";
/// Every browser is offered Kerberos: today's browsers all answer it properly.
pub const ALL_BROWSERS: &str = "*";

/// When Kerberos is offered, as an operator sets it: `PortalGuard`'s `SSOConditions`.
#[derive(Clone, Debug, PartialEq)]
pub struct ConditionSettings {
    /// Kerberos is never offered.
    pub disabled: bool,
    /// Every decision is logged with its reasons, and every accepted ticket with all that it says.
    pub debugging: bool,
    /// The cookie by which a browser opts out; `None`: it cannot.
    pub opt_out_cookie: Option<String>,
    /// Clients that are offered Kerberos; empty: all.
    pub ip_allow: Vec<AddressPattern>,
    /// Clients that are not.
    pub ip_deny: Vec<AddressPattern>,
    /// Names of this host under which Kerberos works, in lower case; empty: all.
    pub spns: Vec<String>,
    /// Regular expressions on path and query where Kerberos is not offered.
    pub url_deny: Vec<String>,
    /// Parts of User-Agent, in any case; `*` is all, an empty list none.
    pub browsers: Vec<String>,
}

impl Default for ConditionSettings {
    fn default() -> Self {
        Self {
            disabled: false,
            debugging: false,
            opt_out_cookie: Some(OPT_OUT_COOKIE.to_owned()),
            ip_allow: Vec::new(),
            ip_deny: Vec::new(),
            spns: Vec::new(),
            url_deny: Vec::new(),
            browsers: vec![ALL_BROWSERS.to_owned()],
        }
    }
}

/// What is known of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestFacts<'a> {
    /// The client; `None` is a question about no client in particular.
    pub client: Option<IpAddr>,
    /// The Cookie field.
    pub cookie: Option<&'a str>,
    /// The name by which the client reached this host, without a port.
    pub server_name: Option<&'a str>,
    /// Path and query.
    pub path_and_query: Option<&'a str>,
    /// The User-Agent field.
    pub user_agent: Option<&'a str>,
}

/// The steps, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Kerberos is switched off altogether.
    Disabled,
    /// The cookie by which a browser opts out.
    Cookie,
    /// The address lists.
    Addresses,
    /// The names of this host.
    Names,
    /// The URLs where Kerberos is not offered.
    Url,
    /// The browsers to which it is.
    Browser,
}

impl Step {
    /// Why Kerberos is not offered, for the person at the client.
    #[must_use]
    pub const fn user_message(self) -> UserMessage {
        UserMessage::new(match self {
            Self::Disabled => "Logging in is switched off on this proxy.",
            Self::Cookie => "This browser has been told, by a cookie, not to log in to this proxy.",
            Self::Addresses => "This proxy does not let your computer's address log in.",
            Self::Names => "This proxy does not go by the name that your computer uses for it.",
            Self::Url => {
                "This proxy lets nobody log in for this page, and shows it only to people who are logged in."
            }
            Self::Browser => "This proxy does not accept logins from this browser or program.",
        })
    }

    /// As a page names it: a word that its reader can tell the operator.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Disabled => "logins-off",
            Self::Cookie => "cookie",
            Self::Addresses => "address",
            Self::Names => "proxy-name",
            Self::Url => "url",
            Self::Browser => "browser",
        }
    }
}

impl fmt::Display for Step {
    /// For operators: the keys of the configuration that it goes by.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disabled => "disabled",
            Self::Cookie => "opt-out-cookie",
            Self::Addresses => "ip-allow, ip-deny",
            Self::Names => "spns",
            Self::Url => "url-deny",
            Self::Browser => "browsers",
        })
    }
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// Kerberos is not offered. The last step that was looked at.
    Denied,
    /// Nothing against it.
    Passed,
    /// There is no such condition, or the request lacks what it asks for.
    PassedOver,
}

/// One step and why it came to what it came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The step.
    pub step: Step,
    /// What it came to.
    pub outcome: StepOutcome,
    /// Why, in a few words.
    pub why: &'static str,
}

/// Kerberos is not offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {why}")]
pub struct Denied {
    /// The step that decided.
    pub step: Step,
    /// Why.
    pub why: &'static str,
}

/// A pattern of `url-deny` is no regular expression.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadPattern(String);

/// The conditions, ready to be evaluated.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    disabled: bool,
    opt_out_cookie: Option<String>,
    ip_allow: Vec<AddressPattern>,
    ip_deny: Vec<AddressPattern>,
    spns: Vec<String>,
    url_deny: RegexSet,
    /// In lower case; `*` is every browser.
    browsers: Vec<String>,
}

/// How many steps there are.
pub const STEPS: usize = 6;

/// What a step looks at.
type Test = fn(&Conditions, &RequestFacts<'_>) -> (StepOutcome, &'static str);

impl Conditions {
    /// The conditions that the settings name.
    ///
    /// # Errors
    /// When a pattern is no regular expression; the configuration is checked for that when it is read.
    pub fn new(settings: &ConditionSettings) -> Result<Self, BadPattern> {
        let lower = |names: &[String]| names.iter().map(|name| name.to_lowercase()).collect();
        Ok(Self {
            disabled: settings.disabled,
            opt_out_cookie: settings.opt_out_cookie.clone(),
            ip_allow: settings.ip_allow.clone(),
            ip_deny: settings.ip_deny.clone(),
            spns: lower(&settings.spns),
            url_deny: RegexSet::new(&settings.url_deny).map_err(|error| BadPattern(error.to_string()))?,
            browsers: lower(&settings.browsers),
        })
    }

    /// Whether the path and the query of a request make a difference.
    #[must_use]
    pub fn look_at_urls(&self) -> bool {
        !self.url_deny.is_empty()
    }

    /// Whether Kerberos is offered; `note` hears of every step that was looked at.
    ///
    /// # Errors
    /// When it is not, with the step that decided.
    pub fn evaluate(&self, facts: &RequestFacts<'_>, mut note: impl FnMut(Finding)) -> Result<(), Denied> {
        let steps: [(Step, Test); STEPS] = [
            (Step::Disabled, Self::disabled),
            (Step::Cookie, Self::cookie),
            (Step::Addresses, Self::addresses),
            (Step::Names, Self::names),
            (Step::Url, Self::url),
            (Step::Browser, Self::browser),
        ];
        for (step, test) in steps {
            let (outcome, why) = test(self, facts);
            note(Finding { step, outcome, why });
            if outcome == StepOutcome::Denied {
                return Err(Denied { step, why });
            }
        }
        Ok(())
    }

    fn disabled(&self, _: &RequestFacts<'_>) -> (StepOutcome, &'static str) {
        if self.disabled {
            (StepOutcome::Denied, "Kerberos is switched off")
        } else {
            (StepOutcome::Passed, "it is not")
        }
    }

    fn cookie(&self, facts: &RequestFacts<'_>) -> (StepOutcome, &'static str) {
        match (&self.opt_out_cookie, facts.cookie) {
            (None, _) => (StepOutcome::PassedOver, "no cookie opts out"),
            (_, None) => (StepOutcome::PassedOver, "the request has no cookie"),
            (Some(name), Some(field)) if opts_out(field, name) => {
                (StepOutcome::Denied, "the browser has opted out of Kerberos")
            }
            _ => (StepOutcome::Passed, "the browser has not opted out"),
        }
    }

    /// The allow list first, and the deny list only if that was satisfied: an address is denied implicitly as soon as
    /// there is an allow list, and allowed implicitly as long as there is none.
    fn addresses(&self, facts: &RequestFacts<'_>) -> (StepOutcome, &'static str) {
        let Some(client) = facts.client else { return (StepOutcome::PassedOver, "the client is not known") };
        let on = |list: &[AddressPattern]| list.iter().any(|pattern| pattern.matches(client));
        match (self.ip_allow.is_empty(), self.ip_deny.is_empty()) {
            (true, true) => (StepOutcome::PassedOver, "there is no list of addresses"),
            (false, _) if !on(&self.ip_allow) => {
                (StepOutcome::Denied, "the address is not on the allow list")
            }
            (_, false) if on(&self.ip_deny) => (StepOutcome::Denied, "the address is on the deny list"),
            (false, true) => (StepOutcome::Passed, "the address is on the allow list"),
            (false, false) => {
                (StepOutcome::Passed, "the address is on the allow list and not on the deny list")
            }
            (true, false) => (StepOutcome::Passed, "the address is not on the deny list"),
        }
    }

    fn names(&self, facts: &RequestFacts<'_>) -> (StepOutcome, &'static str) {
        match facts.server_name {
            _ if self.spns.is_empty() => (StepOutcome::PassedOver, "there is no list of names"),
            None => (StepOutcome::PassedOver, "the name that the client used for this host is not known"),
            Some(name) if self.spns.iter().any(|spn| spn.eq_ignore_ascii_case(name)) => {
                (StepOutcome::Passed, "the name is on the list")
            }
            Some(_) => {
                (StepOutcome::Denied, "the name that the client used for this host is not on the list")
            }
        }
    }

    fn url(&self, facts: &RequestFacts<'_>) -> (StepOutcome, &'static str) {
        match facts.path_and_query {
            _ if self.url_deny.is_empty() => (StepOutcome::PassedOver, "there is no list of URLs"),
            None => (StepOutcome::PassedOver, "the request has no path"),
            Some(url) if self.url_deny.is_match(url) => {
                (StepOutcome::Denied, "path and query match the deny list")
            }
            Some(_) => (StepOutcome::Passed, "path and query match nothing on the deny list"),
        }
    }

    fn browser(&self, facts: &RequestFacts<'_>) -> (StepOutcome, &'static str) {
        if self.browsers.is_empty() {
            return (StepOutcome::Denied, "the list of browsers is empty");
        }
        if self.browsers.iter().any(|browser| browser == "*") {
            return (StepOutcome::Passed, "every browser will do");
        }
        let Some(agent) = facts.user_agent else {
            return (StepOutcome::Denied, "the request does not say which browser it comes from");
        };
        let agent = agent.to_lowercase();
        if self.browsers.iter().any(|browser| agent.contains(browser.as_str())) {
            (StepOutcome::Passed, "the browser is on the list")
        } else {
            (StepOutcome::Denied, "the browser is not on the list")
        }
    }
}

/// Whether the Cookie field (RFC 6265, section 4.2) has `name` with the value 1.
fn opts_out(field: &str, name: &str) -> bool {
    let mut pairs = field.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.any(|(key, value)| key == name && value == "1")
}

#[cfg(test)]
#[path = "conditions_tests.rs"]
mod tests;
