//! Logging in without a form: by Kerberos (RFC 4559), on the pages where people log in, by the conditions of the configuration.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, COOKIE, USER_AGENT};
use http::{HeaderMap, Method, StatusCode, Uri};

use super::begin::{LoggedIn, begin};
use super::verify::{Refused, tell};
use crate::auth::kerberos::conditions::RequestFacts;
use crate::auth::{Cause, Context, Credentials, Failure, Malformed, Outcome, Rejection, Scheme, Schemes};
use crate::clock::{boot_now, wall_now};
use crate::ops::{DecisionRecord, DecisionResult};
use crate::outside;
use crate::portal::site::Site;
use crate::portal::visit::{Visit, cookie};
use crate::types::{self, UserMessage};

/// The cookie of a browser that was asked for a ticket a moment ago: asked again, it would ask its user for a password in a box
/// that cannot help, after each Cancel.
pub(super) const ASKED_COOKIE: &str = "__Host-tracker-asked";
/// So long, in seconds.
pub(super) const ASKED_FOR: u32 = 300;

/// What a page answers to a browser that is not logged in.
#[derive(Debug)]
pub(in crate::portal) enum Silent {
    /// What it would answer without Kerberos. True: the browser could be asked, and is not because it was.
    Page { may_ask: bool },
    /// It asks for a ticket (401), with the form as the page.
    Ask,
    /// A ticket came, and its user is logged in.
    LoggedIn(LoggedIn),
    /// A ticket came, and nobody is logged in.
    Refused(Shown),
}

/// What a person is told above the form.
#[derive(Debug)]
pub(in crate::portal) struct Shown {
    pub(super) status: StatusCode,
    pub(super) heading: UserMessage,
    pub(super) message: UserMessage,
    pub(super) retry: bool,
}

impl From<Refused> for Shown {
    fn from(refused: Refused) -> Self {
        let Refused { status, heading, message, retry, must_change: _ } = refused;
        Self { status, heading, message, retry }
    }
}

/// A request as the browser sent it.
pub(in crate::portal) struct Sent<'a> {
    pub(in crate::portal) method: &'a Method,
    pub(in crate::portal) uri: &'a Uri,
    pub(in crate::portal) headers: &'a HeaderMap,
    /// Its user asks to be asked again.
    pub(in crate::portal) again: bool,
}

/// Looks whether a request brings a ticket, or is to be asked for one.
pub(in crate::portal) async fn silent(site: &Site, visit: &Visit, sent: &Sent<'_>) -> Silent {
    const NOT: Silent = Silent::Page { may_ask: false };
    let Sent { method, uri, headers, again } = *sent;
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let field = match (fields.next(), fields.next()) {
        (_, Some(_)) => return NOT,
        (field, None) => field,
    };
    if !visit.is_tls() || method != Method::GET || !is_opened(headers) {
        return NOT;
    }
    let credentials = field.map(|field| Credentials::parse(field.as_bytes()));
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let facts = RequestFacts {
        client: Some(visit.client().ip()),
        cookie: text(COOKIE),
        server_name: Some(visit.host()),
        path_and_query: uri.path_and_query().map(http::uri::PathAndQuery::as_str),
        user_agent: text(USER_AGENT),
    };
    let conditions = &visit.settings().conditions;
    let mut findings = Vec::new();
    let offered = conditions.evaluate(&facts, |finding| findings.push(finding));
    let looks_at_urls = conditions.look_at_urls();
    let record = |result| {
        let path = if looks_at_urls { facts.path_and_query } else { Some(uri.path()) };
        let url = format!("https://{}{}", visit.host(), path.unwrap_or_default());
        let record = DecisionRecord {
            at: wall_now(),
            method: Cow::Borrowed("GET"),
            url: outside::shown(&url, outside::NAME).into_owned(),
            user_agent: facts.user_agent.map(|agent| outside::shown(agent, outside::NAME).into_owned()),
            findings: findings.clone(),
            result,
        };
        site.parts().ops.note_decision(visit.client(), record);
    };
    if let Err(denied) = offered {
        // By a form they may: nobody is refused.
        record(DecisionResult::NotOffered(denied));
        return NOT;
    }
    if site.parts().holds.until(visit.client(), boot_now()).is_some() {
        return NOT;
    }
    match credentials {
        Some(credentials) if is_kerberos(&credentials) => {
            let (silent, result) = accept(site, visit, credentials).await;
            record(result);
            silent
        }
        // What nobody asked for is as if it were not there.
        _ if !again && cookie(headers, ASKED_COOKIE).is_some() => Silent::Page { may_ask: true },
        _ => {
            record(DecisionResult::Challenged(Schemes::NEGOTIATE));
            Silent::Ask
        }
    }
}

/// Whether somebody opens the page, as far as the browser says: not as a picture in another site's page, nor ahead of time.
fn is_opened(headers: &HeaderMap) -> bool {
    let is_navigation = headers.get("sec-fetch-mode").is_none_or(|mode| mode == "navigate");
    is_navigation && !headers.contains_key("sec-purpose") && !headers.contains_key("purpose")
}

/// Whether it is an answer to being asked for a ticket, good or bad. Some browsers answer with NTLM.
fn is_kerberos(credentials: &Credentials) -> bool {
    match credentials {
        Credentials::Unknown(name) => name.eq_ignore_ascii_case("NTLM"),
        Credentials::Malformed(Malformed::Negotiate(_)) => true,
        other => other.scheme() == Some(Scheme::Negotiate),
    }
}

async fn accept(site: &Site, visit: &Visit, credentials: Credentials) -> (Silent, DecisionResult) {
    let context = Context {
        client: visit.client(),
        accepts: Schemes::NEGOTIATE,
        handshake: None,
        channel: visit.channel(),
        arrival: boot_now(),
    };
    let failure = match site.parts().verifier.verify(credentials, context).await {
        Outcome::Proved(proved) => return proved_by(site, visit, proved).await,
        // No browser's ticket needs a second message; whoever does logs in by the form.
        Outcome::Continue { .. } => {
            let cause = Cause::Kerberos(crate::auth::kerberos::Cause::Other);
            let why = "the pages take no handshake of several messages".to_owned();
            Failure::Rejected(Rejection { cause, why, answer: None })
        }
        Outcome::Failed(failure) => failure,
    };
    tell(site, visit, &failure, types::Method::Kerberos);
    let result = match &failure {
        Failure::Rejected(rejection) => {
            DecisionResult::Refused { cause: rejection.cause, why: rejection.why.clone() }
        }
        other => DecisionResult::Unavailable(other.to_string()),
    };
    (Silent::Refused(Refused::from(&failure).into()), result)
}

async fn proved_by(site: &Site, visit: &Visit, proved: crate::auth::Proved) -> (Silent, DecisionResult) {
    let (user, method, ticket) = (proved.identity.to_string(), proved.method, proved.ticket.clone());
    match begin(site, visit, proved).await {
        Ok(logged_in) => (Silent::LoggedIn(logged_in), DecisionResult::Accepted { user, method, ticket }),
        Err(not) => {
            let result = DecisionResult::NotAdmitted { user, why: not.why.clone() };
            (Silent::Refused(not.into()), result)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_page_that_somebody_opens_asks_for_a_ticket() {
        for (field, is_one) in [
            (None, true),
            (Some(("sec-fetch-mode", "navigate")), true),
            (Some(("sec-fetch-mode", "no-cors")), false),
            (Some(("sec-fetch-mode", "cors")), false),
            (Some(("sec-purpose", "prefetch")), false),
            (Some(("purpose", "prefetch")), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some((name, value)) = field {
                headers.insert(name, value.parse().unwrap());
            }
            assert_eq!(is_opened(&headers), is_one, "{field:?}");
        }
    }

    #[test]
    fn answers_to_negotiate_are_known_whatever_they_are() {
        for (field, is_one) in [
            ("Negotiate YWJj", true),
            ("negotiate %", true),
            ("NTLM TlRMTQ==", true),
            ("Basic YTpi", false),
            ("Basic %", false),
            ("Bearer x", false),
        ] {
            assert_eq!(is_kerberos(&Credentials::parse(field.as_bytes())), is_one, "{field}");
        }
    }
}
