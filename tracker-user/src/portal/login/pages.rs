//! The form, and the page in between after it.

use std::sync::Arc;

use askama::Template;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use http::header::{HeaderMap, HeaderValue, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE};

use super::begin::{LoggedIn, NotAdmitted, Step};
use super::silent::{ASKED_COOKIE, ASKED_FOR, Shown};
use super::wanted::Wanted;
use crate::auth::Scheme;
use crate::clock::boot_now;
use crate::portal::own::words::moment;
use crate::portal::page::{Page, answer, set_cookie};
use crate::portal::second_factor::{Offer, PendingLogin};
use crate::portal::site::Site;
use crate::portal::visit::{Visit, cookie};
use crate::portal::web_sessions::Purpose;
use crate::types::{Identity, Method, UserMessage};

/// After how many seconds what was put off may be tried again.
const AGAIN: HeaderValue = HeaderValue::from_static("5");

/// See `login.html`.
#[derive(Template)]
#[template(path = "login.html")]
struct Login {
    page: Page,
    /// What went wrong, translated.
    problem: Option<(String, String)>,
    /// As it was typed.
    name: String,
    to: Option<String>,
    /// Somebody is logged in from the address.
    is_taken: bool,
    /// Until when nobody is logged in silently.
    held_until: Option<String>,
    /// Asks the browser for a ticket once more.
    may_ask: bool,
    /// Whether the browser has opted out; `None`: there is no such cookie.
    opted_out: Option<bool>,
    /// `None`: nobody logs in with a passkey alone.
    passkey: Option<Offer>,
    purpose: &'static str,
}

/// See `go_on.html`.
#[derive(Template)]
#[template(path = "go_on.html")]
struct GoOn {
    page: Page,
    url: String,
}

/// See `shared_host.html`.
#[derive(Template)]
#[template(path = "shared_host.html")]
struct SharedHost {
    page: Page,
}

/// What the form is shown with.
#[derive(Default)]
pub(in crate::portal) struct Form {
    pub(super) name: String,
    pub(super) wanted: Option<Wanted>,
    pub(super) shown: Option<Shown>,
    pub(super) may_ask: bool,
}

impl Form {
    /// Above it stands what went wrong.
    pub(in crate::portal) fn of(shown: Shown) -> Self {
        Self { shown: Some(shown), ..Self::default() }
    }
}

/// The page with the form; the page that says why there is none, on an address that many share.
pub(in crate::portal) async fn form(site: &Site, visit: &Visit, headers: &HeaderMap, form: Form) -> Response {
    let presence = match site.parts().ops.presence(visit.client()).await {
        Ok(presence) => presence,
        Err(error) => return cannot_tell(visit, &error),
    };
    let Form { name, wanted, shown, may_ask } = form;
    if presence.is_shared && shown.is_none() {
        return shared_host(visit);
    }
    let language = visit.language();
    let say = |message: &UserMessage| language.t(message.as_str()).to_owned();
    let status = shown.as_ref().map_or(StatusCode::OK, |shown| shown.status);
    let retry = shown.as_ref().is_some_and(|shown| shown.retry);
    let opt_out = visit.settings().opt_out_cookie.as_deref().filter(|name| !name.is_empty());
    let held = site.parts().holds.until(visit.client(), boot_now());
    let login = Login {
        page: visit.page(),
        problem: shown.map(|shown| (say(&shown.heading), say(&shown.message))),
        name,
        to: wanted.map(|wanted| wanted.id),
        is_taken: presence.is_somebody(),
        held_until: held.map(|until| moment(crate::clock::Anchor::now().wall(until))),
        may_ask,
        opted_out: opt_out.map(|name| cookie(headers, name) == Some("1")),
        passkey: Offer::to_log_in(site, visit),
        purpose: "user",
    };
    let mut response = answer(visit, status, &login);
    if retry {
        response.headers_mut().insert(RETRY_AFTER, AGAIN);
    }
    response
}

/// The form, and the browser is asked for a ticket.
pub(in crate::portal) async fn asking(
    site: &Site,
    visit: &Visit,
    headers: &HeaderMap,
    shown: Form,
) -> Response {
    let mut response = form(site, visit, headers, shown).await;
    if response.status() == StatusCode::OK {
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        let fields = response.headers_mut();
        fields.insert(WWW_AUTHENTICATE, HeaderValue::from_static(Scheme::Negotiate.name()));
        set_cookie(fields, ASKED_COOKIE, "1", &format!("; Max-Age={ASKED_FOR}"));
    }
    response
}

/// Why nobody logs in on a page there.
pub(in crate::portal) fn shared_host(visit: &Visit) -> Response {
    answer(visit, StatusCode::OK, &SharedHost { page: visit.page() })
}

/// Who is logged in could not be found out.
pub(in crate::portal) fn cannot_tell(visit: &Visit, error: &crate::ops::OpsError) -> Response {
    tracing::warn!(client = %visit.client(), request = visit.number(), %error, "a page could not be made");
    let message = UserMessage::new("It is not known who is logged in from your address. Try again.");
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut response = visit.problem(status, "This does not work at the moment", &message);
    response.headers_mut().insert(RETRY_AFTER, AGAIN);
    response
}

/// Somebody is logged in: on to where they wanted, or to their own page.
pub(in crate::portal) fn welcome(
    site: &Site,
    visit: &Visit,
    done: LoggedIn,
    wanted: Option<Wanted>,
) -> Response {
    let LoggedIn { step, mutual } = done;
    let (cookie, wanted) = match step {
        Step::In(cookie) => (cookie, wanted),
        Step::Waits(identity, method) => return second_factor(site, visit, identity, method, wanted),
    };
    let mut response = go_on(site, visit, wanted);
    let fields = response.headers_mut();
    // What somebody has begun in this browser before is over.
    for cookie in cookie.into_iter().chain(site.end_pending(visit)) {
        fields.append(SET_COOKIE, cookie);
    }
    set_cookie(fields, ASKED_COOKIE, "", "; Max-Age=0");
    let mutual = mutual.and_then(|message| Scheme::Negotiate.message(&message).parse().ok());
    if let Some(mutual) = mutual {
        fields.insert(WWW_AUTHENTICATE, mutual);
    }
    response
}

/// On to where somebody wanted who is logged in, or to their own page.
pub(in crate::portal) fn go_on(site: &Site, visit: &Visit, wanted: Option<Wanted>) -> Response {
    match wanted {
        None => Redirect::to("/").into_response(),
        Some(wanted) => {
            site.pending().forget(visit.client(), &wanted.id);
            // A redirect to elsewhere after a form is refused by the browser (`form-action`).
            answer(visit, StatusCode::OK, &GoOn { page: visit.page(), url: wanted.url })
        }
    }
}

/// The form for somebody who has to begin again, and why.
pub(in crate::portal) async fn once_more(
    site: &Site,
    visit: &Visit,
    headers: &HeaderMap,
    wanted: Option<Wanted>,
    message: UserMessage,
) -> Response {
    let (status, heading) = (StatusCode::FORBIDDEN, UserMessage::new("You are not logged in"));
    let shown = Shown { status, heading, message, retry: false };
    form(site, visit, headers, Form { wanted, ..Form::of(shown) }).await
}

/// To the page of the second factor; where they wanted is kept until it has come.
fn second_factor(
    site: &Site,
    visit: &Visit,
    identity: Arc<Identity>,
    method: Method,
    wanted: Option<Wanted>,
) -> Response {
    let to = wanted.map(|wanted| wanted.id).unwrap_or_default();
    let login = PendingLogin::new(visit, Purpose::User, identity, method, to);
    let mut response = Redirect::to("/second-factor").into_response();
    if let Some(cookie) = site.begin_pending(visit, login) {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    set_cookie(response.headers_mut(), ASKED_COOKIE, "", "; Max-Age=0");
    response
}

impl From<NotAdmitted> for Shown {
    fn from(not: NotAdmitted) -> Self {
        let NotAdmitted { status, message, retry, why: _ } = not;
        Self { status, heading: UserMessage::new("You are not logged in"), message, retry }
    }
}
