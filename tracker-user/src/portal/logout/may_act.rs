//! What a GET of the logout URL may do. A logoff script sends one, and so does a bookmark: but so does every page elsewhere that
//! has an image, a frame, a form or a script with that address, and nobody wants to be logged out by those.
//!
//! Browsers say where a request comes from (Fetch Metadata: `Sec-Fetch-Site`, with the whole way of redirects in it), but only
//! under TLS; and on both ways a page can suppress `Referer`. So without TLS whatever is not plainly a script's is sent to the
//! pages under TLS, and decided there.

use http::header::{HOST, HeaderName, ORIGIN, REFERER, USER_AGENT};
use http::{HeaderMap, Method, Uri};

use crate::portal::visit::{Visit, is_browser};

/// What is known of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// It came under TLS.
    pub(super) is_tls: bool,
    /// There are pages under TLS.
    pub(super) has_tls: bool,
    /// Only the head of the answer is wanted.
    pub(super) is_head: bool,
    /// Nobody has asked for it yet: a browser makes ready.
    pub(super) is_prefetch: bool,
    /// It looks like a browser.
    pub(super) is_browser: bool,
    /// What the browser says of where it comes from.
    pub(super) fetch_site: FetchSite,
    /// The page that has sent it, where `Origin` says so,
    pub(super) origin: Page,
    /// and where `Referer` does.
    pub(super) referer: Page,
}

/// `Sec-Fetch-Site` (W3C Fetch Metadata, section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FetchSite {
    /// It is not there: a script, an old browser, or no TLS.
    Absent,
    /// `none`: typed, a bookmark.
    None,
    /// `same-origin`: one of our pages.
    SameOrigin,
    /// `same-site`: another host of the organisation.
    SameSite,
    /// `cross-site`, and whatever else it may say.
    CrossSite,
}

/// Whose page a field names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// The field is not there.
    Absent,
    /// One of ours.
    Own,
    /// Another's, or none that can be told.
    Foreign,
}

/// What the request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MayAct {
    /// Log out.
    Act,
    /// Be asked whether its user wants that.
    Confirm,
    /// Go to the same page under TLS.
    Redirect,
    /// Be told how: without pages under TLS there are no forms.
    Tell,
    /// Nothing at all.
    Nothing,
}

/// See the module.
pub(super) fn may_act(facts: &Facts) -> MayAct {
    if facts.is_head || facts.is_prefetch {
        return MayAct::Nothing;
    }
    if !facts.is_tls {
        let is_bare = facts.fetch_site == FetchSite::Absent
            && facts.origin == Page::Absent
            && facts.referer == Page::Absent;
        return match (is_bare && !facts.is_browser, facts.has_tls) {
            (true, _) => MayAct::Act,
            (false, true) => MayAct::Redirect,
            (false, false) => MayAct::Tell,
        };
    }
    let is_wanted = match facts.fetch_site {
        FetchSite::None => true,
        // An old browser says nothing, and a page elsewhere can keep it from saying more.
        FetchSite::Absent => !facts.is_browser,
        FetchSite::SameOrigin | FetchSite::SameSite | FetchSite::CrossSite => false,
    };
    if is_wanted && facts.origin == Page::Absent && facts.referer != Page::Foreign {
        MayAct::Act
    } else {
        MayAct::Confirm
    }
}

impl Facts {
    pub(super) fn of(visit: &Visit, method: &Method, headers: &HeaderMap) -> Self {
        const AHEAD: [&str; 4] = ["sec-purpose", "purpose", "x-purpose", "x-moz"];
        let settings = visit.settings();
        let ports = [settings.http_port, settings.https_port];
        let page = |name: &HeaderName| match only(headers, name) {
            None => Page::Absent,
            Some(Some(value)) if is_ours(value, visit.host(), host(headers), ports) => Page::Own,
            Some(_) => Page::Foreign,
        };
        Self {
            is_tls: visit.is_tls(),
            has_tls: settings.https_port.is_some(),
            is_head: *method == Method::HEAD,
            is_prefetch: AHEAD.iter().any(|name| headers.contains_key(*name)),
            is_browser: is_browser(headers) && !is_powershell(headers),
            fetch_site: match only(headers, &HeaderName::from_static("sec-fetch-site")) {
                None => FetchSite::Absent,
                Some(Some("none")) => FetchSite::None,
                Some(Some("same-origin")) => FetchSite::SameOrigin,
                Some(Some("same-site")) => FetchSite::SameSite,
                Some(_) => FetchSite::CrossSite,
            },
            origin: page(&ORIGIN),
            referer: page(&REFERER),
        }
    }
}

/// The value of a field that may be there once: `Some(None)` where it cannot be read, or is there more than once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    Some(first.to_str().ok().filter(|_| values.next().is_none()))
}

fn host(headers: &HeaderMap) -> &str {
    headers.get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Whether an address is one of our pages, by the name that the browser knows us by.
fn is_ours(address: &str, name: &str, host: &str, ports: [Option<u16>; 2]) -> bool {
    let Ok(uri) = address.parse::<Uri>() else { return false };
    let default = match uri.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return false,
    };
    let Some(authority) = uri.authority().filter(|authority| !authority.as_str().contains('@')) else {
        return false;
    };
    let port = authority.port_u16().unwrap_or(default);
    !name.is_empty()
        && (authority.as_str().eq_ignore_ascii_case(host)
            || authority.host().eq_ignore_ascii_case(name) && ports.contains(&Some(port)))
}

/// `Invoke-WebRequest` calls itself `Mozilla/5.0 (...) WindowsPowerShell/5.1...`, or `... PowerShell/7...`. No page elsewhere can
/// give a browser that name.
fn is_powershell(headers: &HeaderMap) -> bool {
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
    agent.is_some_and(|agent| agent.contains("PowerShell/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SITES: [FetchSite; 5] = [
        FetchSite::Absent,
        FetchSite::None,
        FetchSite::SameOrigin,
        FetchSite::SameSite,
        FetchSite::CrossSite,
    ];
    const PAGES: [Page; 3] = [Page::Absent, Page::Own, Page::Foreign];

    fn all() -> Vec<Facts> {
        let mut all = Vec::new();
        for bits in 0..32_u8 {
            let is = |bit: u8| bits & 1 << bit != 0;
            for fetch_site in SITES {
                for (origin, referer) in PAGES.iter().flat_map(|page| PAGES.map(|other| (*page, other))) {
                    all.push(Facts {
                        is_tls: is(0),
                        has_tls: is(1) || is(0),
                        is_head: is(2),
                        is_prefetch: is(3),
                        is_browser: is(4),
                        fetch_site,
                        origin,
                        referer,
                    });
                }
            }
        }
        all
    }

    /// The rule as the documents have it, every combination of it: who acts is listed, and what becomes of the others follows.
    #[test]
    fn who_may_act_by_a_get() {
        // TLS, browser, Sec-Fetch-Site, Referer. None of them has an Origin.
        let acts = [
            (false, false, FetchSite::Absent, Page::Absent),
            (true, false, FetchSite::Absent, Page::Absent),
            (true, false, FetchSite::Absent, Page::Own),
            (true, false, FetchSite::None, Page::Absent),
            (true, false, FetchSite::None, Page::Own),
            (true, true, FetchSite::None, Page::Absent),
            (true, true, FetchSite::None, Page::Own),
        ];
        for facts in all() {
            let Facts { is_tls, is_browser, fetch_site, referer, .. } = facts;
            let is_ready = !facts.is_head && !facts.is_prefetch;
            let is_listed =
                facts.origin == Page::Absent && acts.contains(&(is_tls, is_browser, fetch_site, referer));
            let expected = match (is_ready, is_listed, is_tls, facts.has_tls) {
                (false, ..) => MayAct::Nothing,
                (true, true, ..) => MayAct::Act,
                (true, false, true, _) => MayAct::Confirm,
                (true, false, false, true) => MayAct::Redirect,
                (true, false, false, false) => MayAct::Tell,
            };
            assert_eq!(may_act(&facts), expected, "{facts:?}");
        }
    }

    /// Whatever another site can do: it never acts.
    #[test]
    fn nothing_that_a_page_elsewhere_can_send_acts() {
        for facts in all() {
            let is_a_browsers_from_elsewhere = facts.is_browser
                && matches!(facts.fetch_site, FetchSite::SameSite | FetchSite::CrossSite | FetchSite::Absent);
            if is_a_browsers_from_elsewhere || facts.origin == Page::Foreign || facts.referer == Page::Foreign
            {
                assert_ne!(may_act(&facts), MayAct::Act, "{facts:?}");
            }
        }
    }

    #[test]
    fn our_pages_are_known_by_name_and_port() {
        let ours = |address: &str| {
            is_ours(address, "gw.test", "gw.test:4081", [Some(4080), Some(4081)])
                || is_ours(address, "[::1]", "[::1]:4081", [None, Some(4081)])
        };
        for own in [
            "https://gw.test:4081/login",
            "http://GW.test:4080/",
            "https://gw.test:4081",
            "https://[::1]:4081/",
        ] {
            assert!(ours(own), "{own}");
        }
        for foreign in [
            "null",
            "",
            "https://gw.test/",
            "http://gw.test:3128/",
            "https://gw.test.evil.test:4081/",
            "https://evil.test/?https://gw.test:4081/",
            "https://gw.test:4081@evil.test/",
            "https://evil.test@gw.test:4081/",
            "ftp://gw.test:4081/",
            "/logout",
            "https://[::1]:4080/",
        ] {
            assert!(!ours(foreign), "{foreign}");
        }
        assert!(!is_ours("http:///", "", "", [Some(80), None]), "no name is nobody's");
        assert!(is_ours("https://gw.test/", "gw.test", "gw.test", [None, Some(4081)]), "behind a proxy");
    }

    #[test]
    fn what_is_said_twice_or_is_no_text_is_foreign() {
        let mut headers = HeaderMap::new();
        assert_eq!(only(&headers, &ORIGIN), None);
        headers.insert(ORIGIN, "a".parse().unwrap());
        assert_eq!(only(&headers, &ORIGIN), Some(Some("a")));
        headers.append(ORIGIN, "a".parse().unwrap());
        assert_eq!(only(&headers, &ORIGIN), Some(None));
        headers.insert(ORIGIN, http::HeaderValue::from_bytes(b"\xff").unwrap());
        assert_eq!(only(&headers, &ORIGIN), Some(None));
    }

    #[test]
    fn powershell_is_a_script_whatever_it_calls_itself() {
        let looks = |agent: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(USER_AGENT, agent.parse().unwrap());
            is_browser(&headers) && !is_powershell(&headers)
        };
        assert!(looks("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36"));
        for script in [
            "Mozilla/5.0 (Windows NT; Windows NT 10.0; en-US) WindowsPowerShell/5.1.19041.1682",
            "Mozilla/5.0 (Windows NT 10.0; Microsoft Windows 10.0.19045; en-US) PowerShell/7.4.0",
            "Wget/1.21.3",
            "curl/8.4.0",
        ] {
            assert!(!looks(script), "{script}");
        }
    }
}
