//! The truth table of the conditions, generated, and the document's own examples.

use super::*;
use crate::types::parse_stars;

/// Whether a list is there, and whether the request matches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Absent,
    Hit,
    Miss,
}

const LISTS: [List; 3] = [List::Absent, List::Hit, List::Miss];

/// A network, or one address of its own.
fn network(text: &str) -> ipnet::IpNet {
    text.parse().unwrap_or_else(|_| text.parse::<IpAddr>().unwrap().into())
}

/// The conditions that a text says, one `key = value` a line, as the configuration's file does.
fn conditions(text: &str) -> Conditions {
    let mut settings = ConditionSettings::default();
    for (key, value) in text.parse::<toml::Table>().unwrap() {
        let list = || value.as_array().unwrap().iter().map(|entry| entry.as_str().unwrap().to_owned());
        let pattern =
            |text: &str| parse_stars(text).unwrap_or_else(|| AddressPattern::Network(network(text)));
        let patterns = || list().map(|entry| pattern(&entry)).collect();
        match key.as_str() {
            "disabled" => settings.disabled = value.as_bool().unwrap(),
            "opt-out-cookie" => {
                settings.opt_out_cookie = value.as_str().filter(|name| !name.is_empty()).map(Into::into);
            }
            "ip-allow" => settings.ip_allow = patterns(),
            "ip-deny" => settings.ip_deny = patterns(),
            "spns" => settings.spns = list().collect(),
            "url-deny" => settings.url_deny = list().collect(),
            "browsers" => settings.browsers = list().collect(),
            other => panic!("{other}"),
        }
    }
    Conditions::new(&settings).unwrap()
}

fn decided(conditions: &Conditions, facts: &RequestFacts<'_>) -> Option<Step> {
    conditions.evaluate(facts, |_| ()).err().map(|denied| denied.step)
}

/// What the document says, written down a second time and plainly.
fn expected(
    disabled: bool,
    cookie: List,
    allow: List,
    deny: List,
    names: List,
    url: List,
    browser: List,
) -> Option<Step> {
    if disabled {
        return Some(Step::Disabled);
    }
    if cookie == List::Hit {
        return Some(Step::Cookie);
    }
    let address_denied = match (allow, deny) {
        (List::Absent, List::Absent | List::Miss) => false,
        (List::Absent, List::Hit) | (List::Miss, _) => true,
        (List::Hit, deny) => deny == List::Hit,
    };
    if address_denied {
        return Some(Step::Addresses);
    }
    if names == List::Miss {
        return Some(Step::Names);
    }
    if url == List::Hit {
        return Some(Step::Url);
    }
    (browser != List::Hit).then_some(Step::Browser)
}

#[test]
fn every_combination_decides_as_documented_and_at_the_documented_step() {
    let mut combinations = 0;
    for disabled in [false, true] {
        for cookie in LISTS {
            for allow in LISTS {
                for deny in LISTS {
                    for names in LISTS {
                        for url in LISTS {
                            for browser in LISTS {
                                let list = |list, key: &str, hit: &str, miss: &str| match list {
                                    List::Absent => format!("{key} = []\n"),
                                    List::Hit => format!("{key} = [\"{hit}\"]\n"),
                                    List::Miss => format!("{key} = [\"{miss}\"]\n"),
                                };
                                let cookie_key = if cookie == List::Absent { "" } else { "PstarNoKerberos" };
                                let text =
                                    format!("disabled = {disabled}\nopt-out-cookie = \"{cookie_key}\"\n")
                                        + &list(allow, "ip-allow", "10.*.*.*", "192.168.0.0/16")
                                        + &list(deny, "ip-deny", "10.10.10.0/24", "10.10.11.*")
                                        + &list(names, "spns", "sso.acme.test", "other.acme.test")
                                        + &list(url, "url-deny", "^/_layouts/PG/", "^/elsewhere")
                                        + &list(browser, "browsers", "chrome/", "Trident/");
                                let cookie_field = match cookie {
                                    List::Miss => "a=b; PstarNoKerberos=0",
                                    _ => "a=b; PstarNoKerberos=1",
                                };
                                let facts = RequestFacts {
                                    client: Some("10.10.10.102".parse().unwrap()),
                                    cookie: Some(cookie_field),
                                    server_name: Some("SSO.acme.test"),
                                    path_and_query: Some("/_layouts/PG/login.aspx?x=1"),
                                    user_agent: Some("Mozilla/5.0 Chrome/156.0"),
                                };
                                let expected = expected(disabled, cookie, allow, deny, names, url, browser);
                                assert_eq!(decided(&conditions(&text), &facts), expected, "{text}");
                                combinations += 1;
                            }
                        }
                    }
                }
            }
        }
    }
    assert_eq!(combinations, 2 * 3_usize.pow(6));
}

#[test]
fn each_step_is_told_once_in_order_and_nothing_after_the_one_that_decides() {
    let conditions = conditions("ip-deny = [\"10.0.0.1\"]\n");
    let mut steps = Vec::new();
    let facts = RequestFacts { client: Some("10.0.0.1".parse().unwrap()), ..RequestFacts::default() };
    conditions.evaluate(&facts, |finding| steps.push((finding.step, finding.outcome))).unwrap_err();
    assert_eq!(
        steps,
        [
            (Step::Disabled, StepOutcome::Passed),
            (Step::Cookie, StepOutcome::PassedOver),
            (Step::Addresses, StepOutcome::Denied)
        ]
    );
}

#[test]
fn what_a_proxied_request_lacks_is_passed_over() {
    let all = conditions(
        "ip-allow = [\"fd00::/8\"]\nspns = [\"proxy.acme.test\"]\nurl-deny = [\"/secret\"]\nbrowsers = [\"firefox\"]\n",
    );
    // A CONNECT: no cookie, no path, and nobody knows by which name the client reached the proxy.
    let connect = RequestFacts {
        client: Some("fd00::7".parse().unwrap()),
        user_agent: Some("Mozilla/5.0 Firefox/153.0"),
        ..RequestFacts::default()
    };
    assert_eq!(decided(&all, &connect), None);
    assert_eq!(
        decided(&all, &RequestFacts { client: Some("10.0.0.1".parse().unwrap()), ..connect }),
        Some(Step::Addresses)
    );
}

#[test]
fn the_documents_examples() {
    let lan = conditions("ip-allow = [\"192.168.*.*\", \"10.*.*.*\"]\nip-deny = [\"10.10.10.102\"]\n");
    for (client, step) in [
        ("192.168.1.7", None),
        ("10.10.10.101", None),
        ("10.10.10.102", Some(Step::Addresses)),
        ("172.16.0.1", Some(Step::Addresses)),
    ] {
        let facts = RequestFacts { client: Some(client.parse().unwrap()), ..RequestFacts::default() };
        assert_eq!(decided(&lan, &facts), step, "{client}");
    }

    let browsers = conditions("browsers = [\"MSIE\", \"Trident/\", \"Chrome/\", \"Firefox/\"]\n");
    for (agent, step) in [
        (Some("Mozilla/5.0 (X11; Linux) Gecko/20100101 FIREFOX/153.0"), None),
        (Some("curl/7.88.1"), Some(Step::Browser)),
        (None, Some(Step::Browser)),
    ] {
        assert_eq!(
            decided(&browsers, &RequestFacts { user_agent: agent, ..RequestFacts::default() }),
            step,
            "{agent:?}"
        );
    }
    assert_eq!(decided(&conditions("browsers = []\n"), &RequestFacts::default()), Some(Step::Browser));

    // Exact, in any case, and no part of a name.
    let names = conditions("spns = [\"host\", \"host.acme.com\", \"sso.acme.com\"]\n");
    for (name, step) in
        [("HOST.acme.com", None), ("acme.com", Some(Step::Names)), ("myhost", Some(Step::Names))]
    {
        assert_eq!(
            decided(&names, &RequestFacts { server_name: Some(name), ..RequestFacts::default() }),
            step,
            "{name}"
        );
    }

    // As a regular expression, on path and query.
    let urls = conditions("url-deny = [\"/_layouts/PG/*\", \"[?&]id=some\"]\n");
    for (url, step) in [
        ("/_layouts/PG/login.aspx", Some(Step::Url)),
        ("/sso/go.ashx?id=somevalue", Some(Step::Url)),
        ("/sso/go.ashx?id=other", None),
    ] {
        assert_eq!(
            decided(&urls, &RequestFacts { path_and_query: Some(url), ..RequestFacts::default() }),
            step,
            "{url}"
        );
    }
}
