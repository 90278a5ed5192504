//! Where somebody is led who has to log in: people who open a page are sent to the portal, and back to it afterwards;
//! everything else is told where people log in. Where something is offered it has to be asked for first: a browser that has no answer,
//! or whose user has none, shows the challenge's page, and that leads on. What was answered and refused says why, and has a link.

use std::sync::Arc;

use crate::auth::{Offer, Schemes};
use crate::clock::boot_now;
use crate::proxy::exchange::{Peer, Reply};
use crate::proxy::message::{Method, RequestHead};
use crate::proxy::options::ProxyOptions;
use crate::types::Factor;

/// See the module.
#[derive(Clone, Debug)]
pub(super) enum Lead {
    /// Nowhere: there is no page to log in on, or not for this client.
    Nowhere,
    /// To the portal at this address, from something that is no page in a browser's window.
    Portal(Arc<str>),
    /// There, and back to this page.
    AndBack(Arc<str>, String),
}

impl Lead {
    /// For a request.
    pub(super) fn of(peer: &Peer, head: &RequestHead, options: &ProxyOptions) -> Self {
        let pages = options.own_pages.as_ref();
        let Some(origin) = pages.and_then(|pages| pages.login_for(peer.address())) else {
            return Self::Nowhere;
        };
        let wanted = if is_navigation(head) { address(head) } else { None };
        match wanted {
            Some(wanted) => Self::AndBack(Arc::clone(origin), wanted),
            None => Self::Portal(Arc::clone(origin)),
        }
    }

    /// The address of the page where its reader can log in. It is kept for a while where they wanted to go.
    fn login(&self, peer: &Peer) -> Option<String> {
        match self {
            Self::Nowhere => None,
            Self::Portal(origin) => Some(format!("{origin}/login")),
            Self::AndBack(origin, wanted) => {
                let kept = peer.worker().shared.targets.keep(peer.address(), wanted, boot_now());
                Some(match kept {
                    Some(id) => format!("{origin}/login?to={id}"),
                    None => format!("{origin}/login"),
                })
            }
        }
    }

    /// The answer to a request that has to prove itself and is offered this.
    pub(super) fn reply(&self, peer: &Peer, offer: &Offer) -> Reply {
        let leads = match (self, offer) {
            (Self::AndBack(..), Offer::Nothing(_)) => true,
            (Self::AndBack(_, wanted), Offer::Schemes(_)) => was_no_use(peer, wanted),
            _ => false,
        };
        match (self.login(peer), offer) {
            (Some(login), _) if leads => {
                peer.worker().shared.stats.led_to_login.inc();
                Reply::led(login)
            }
            (login, Offer::Schemes(_)) if self.leads_on() => Reply::offer(offer, login).leading_on(),
            (login, offer) => Reply::offer(offer, login),
        }
    }

    /// The same where credentials have been refused, and others may still help.
    pub(super) fn rejected(
        &self,
        peer: &Peer,
        cause: crate::auth::Cause,
        schemes: Schemes,
        message: Option<&[u8]>,
    ) -> Reply {
        Reply::rejected(cause, schemes, message, self.login(peer))
    }

    /// The answer where the user is known, and has to prove this further factor on the portal: whoever opens a page is sent there,
    /// everything else is told.
    pub(super) fn step_up(&self, peer: &Peer, factor: Factor) -> Reply {
        match self.login(peer) {
            Some(login) if self.leads_on() => {
                peer.worker().shared.stats.led_to_login.inc();
                Reply::led(login)
            }
            login => Reply::step_up(factor, login),
        }
    }

    /// The answer to what is right, but not enough: whoever opens a page is sent to where more can be proved, a program is told what
    /// it needs.
    pub(super) fn insufficient(&self, peer: &Peer, cause: crate::auth::Cause, schemes: Schemes) -> Reply {
        match self.login(peer) {
            Some(login) if self.leads_on() => {
                peer.worker().shared.stats.led_to_login.inc();
                Reply::led(login)
            }
            login => Reply::rejected(cause, schemes, None, login),
        }
    }

    /// Whether a person is sent on who is offered nothing, instead of being refused.
    pub(super) const fn leads_on(&self) -> bool {
        matches!(self, Self::AndBack(..))
    }
}

/// Whether a challenge for this very page was no use: its user tries again, and the browser still has no answer. Firefox shows
/// nothing of the challenge's page where it has no ticket, but that the proxy refused it.
fn was_no_use(peer: &Peer, wanted: &str) -> bool {
    peer.worker().shared.targets.wanted(peer.address(), wanted, boot_now())
}

/// Whether a browser opens a page with it. By `Sec-Fetch-Mode` where there is one; Chromium sends it to trustworthy
/// origins alone, which those of plain HTTP are not: there, whoever asks for HTML first of all opens a page.
fn is_navigation(head: &RequestHead) -> bool {
    if !matches!(head.method(), Method::Get | Method::Head) {
        return false;
    }
    if let Some(mode) = head.field_named(b"sec-fetch-mode") {
        return mode.eq_ignore_ascii_case(b"navigate");
    }
    let is_fetch =
        |name: &[u8]| name.get(..10).is_some_and(|start| start.eq_ignore_ascii_case(b"sec-fetch-"));
    if head.fields().any(|line| is_fetch(line.name)) {
        return false;
    }
    let Some(accept) = head.field_named(b"accept") else { return false };
    accept.windows(9).any(|part| part.eq_ignore_ascii_case(b"text/html"))
}

/// The whole address of what was asked for, with its query.
fn address(head: &RequestHead) -> Option<String> {
    let path = head.path();
    let slash: &[u8] = if path.first() == Some(&b'/') { b"" } else { b"/" };
    String::from_utf8([b"http://", head.authority(), slash, path].concat()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::http1::Request;

    fn head(text: &str) -> RequestHead {
        Request::take(&mut format!("{text}\r\n\r\n").as_bytes().into()).unwrap().unwrap().head
    }

    #[test]
    fn what_opens_a_page() {
        for (request, fields, opens) in [
            ("GET", "Accept: text/html,application/xhtml+xml,*/*;q=0.8", true),
            ("HEAD", "accept: Text/HTML", true),
            ("POST", "Accept: text/html", false),
            ("PUT", "Sec-Fetch-Mode: navigate", false),
            ("GET", "Accept: */*", false),
            ("GET", "Accept: image/avif,image/webp", false),
            ("GET", "X: y", false),
            ("GET", "Sec-Fetch-Mode: navigate", true),
            ("GET", "Sec-Fetch-Mode: navigate\r\nAccept: */*", true),
            ("GET", "Sec-Fetch-Mode: cors\r\nAccept: text/html", false),
            ("GET", "Sec-Fetch-Mode: no-cors\r\nAccept: text/html", false),
            ("GET", "Sec-Fetch-Site: same-origin\r\nAccept: text/html", false),
            ("GET", "Sec-Fetch-Dest: image\r\nAccept: text/html", false),
        ] {
            let head = head(&format!("{request} http://a.test/ HTTP/1.1\r\nHost: a.test\r\n{fields}"));
            assert_eq!(is_navigation(&head), opens, "{request} {fields}");
        }
    }

    #[test]
    fn the_way_back_is_exactly_where_they_wanted_to_go() {
        for (target, back) in [
            ("http://a.test/x?y=z&a", "http://a.test/x?y=z&a"),
            ("http://a.test", "http://a.test/"),
            ("HTTP://A.test:8080?q", "http://A.test:8080/?q"),
        ] {
            let head = head(&format!("GET {target} HTTP/1.1\r\nHost: a.test"));
            assert_eq!(address(&head).as_deref(), Some(back));
        }
    }
}
