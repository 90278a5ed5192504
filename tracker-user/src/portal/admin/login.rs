//! Administrators and viewers log in to the pages, and out of them. Nobody's session of the proxy is touched by it: somebody who
//! administers the gateway at alice's computer does not throw her out.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::header::{HeaderValue, RETRY_AFTER, SET_COOKIE};
use http::{StatusCode, Uri};
use serde::Deserialize;

use super::access::{LOGIN, Viewing, next};
use super::answer::{Asked, see_other};
use crate::audit::{Event, Ground, Refusal, TrailEntry};
use crate::auth::Proved;
use crate::auth::password::Cause;
use crate::portal::login::{Refused, Typed, secure, verify};
use crate::portal::page::{Page, answer, redirect};
use crate::portal::posted::Posted;
use crate::portal::second_factor::{Offer, PendingLogin};
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::portal::web_sessions::{NotBegun, Purpose};
use crate::session;
use crate::types::{Method, UserMessage};

#[derive(Template)]
#[template(path = "admin/login.html")]
struct Login {
    page: Page,
    name: String,
    next: String,
    /// What went wrong, translated.
    problem: Option<(String, String)>,
    must_change: bool,
    /// `None`: nobody logs in with a passkey alone.
    passkey: Option<Offer>,
    purpose: &'static str,
    to: Option<String>,
}

/// Where somebody wants to go.
#[derive(Default, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
pub(super) struct Filled {
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: Typed,
    #[serde(default)]
    next: String,
}

pub(super) async fn show(
    State(site): State<Site>,
    visit: Visit,
    uri: Uri,
    Asked(wanted): Asked<Wanted>,
) -> Response {
    if !visit.is_tls() {
        return secure(&visit, uri.path_and_query().map_or(LOGIN, |wanted| wanted.as_str()));
    }
    let next = next(&wanted.next);
    if visit.role().may_look() {
        return redirect(&visit, StatusCode::FOUND, next);
    }
    form(&site, &visit, StatusCode::OK, String::new(), next, None, false)
}

pub(super) async fn log_in(
    State(site): State<Site>,
    visit: Visit,
    Posted(filled): Posted<Filled>,
) -> Response {
    let Filled { name, password: Typed(password), next: wanted } = filled;
    let wanted = next(&wanted);
    let refused = match verify(&site, &visit, &name, password).await {
        Ok(proved) => match begin(&site, &visit, proved, wanted).await {
            Ok((to, cookie)) => {
                let mut response = see_other(&visit, &to);
                response.headers_mut().append(SET_COOKIE, cookie);
                return response;
            }
            Err(refused) => refused,
        },
        Err(refused) => refused,
    };
    let Refused { status, heading, message, must_change, retry } = refused;
    let words = |message: &UserMessage| visit.language().t(message.as_str()).to_owned();
    let problem = (!must_change).then(|| (words(&heading), words(&message)));
    let mut response = form(&site, &visit, status, name, wanted, problem, must_change);
    if retry {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

/// Logs somebody in to the pages who has just typed their password; where a further factor is demanded, their login is pending until
/// it has come. Where they go next, and the cookie of the answer.
async fn begin(
    site: &Site,
    visit: &Visit,
    proved: Proved,
    wanted: &str,
) -> Result<(String, HeaderValue), Refused> {
    let Proved { identity, method, factors, .. } = proved;
    let identity = Arc::new(identity);
    let role = site.role_of(&identity);
    if role.may_look() && site.parts().factors.missing(&identity, method, factors).is_some() {
        let login = PendingLogin::new(visit, Purpose::Admin, identity, method, wanted.to_owned());
        let cookie = site.begin_pending(visit, login).ok_or_else(unable)?;
        return Ok(("/second-factor".to_owned(), cookie));
    }
    match site.begin_web_session(visit, &identity, Purpose::Admin, None).await {
        Ok(cookie) => {
            let proved = session::Proved { method, factors };
            let event = Event::admin_login(identity, visit.client(), role, proved);
            site.parts().audit.record(TrailEntry::now(event));
            Ok((wanted.to_owned(), cookie))
        }
        Err(NotBegun::Role) => {
            let why = "the password is right, and the user is neither an administrator nor a viewer";
            let refusal = Refusal {
                client: visit.client(),
                ground: Ground::Credentials("no-role"),
                why,
                method: Some(Method::Password),
                user: Some(&identity),
            };
            site.parts().audit.refused(&refusal);
            // Word by word what a wrong password is answered with: nobody learns by it who is what.
            Err(Refused {
                status: StatusCode::FORBIDDEN,
                heading: Cause::WrongPassword.heading(),
                message: Cause::WrongPassword.user_message(),
                must_change: false,
                retry: false,
            })
        }
        Err(NotBegun::NoSession | NotBegun::Unable) => Err(unable()),
    }
}

fn unable() -> Refused {
    Refused {
        status: StatusCode::SERVICE_UNAVAILABLE,
        heading: UserMessage::new("You cannot log in at this moment"),
        message: UserMessage::new("Try again in a moment."),
        must_change: false,
        retry: true,
    }
}

/// The form for somebody who has to begin again, and why.
pub(in crate::portal) fn again(
    site: &Site,
    visit: &Visit,
    status: StatusCode,
    to: &str,
    message: &UserMessage,
) -> Response {
    let heading = visit.language().t("You are not logged in").to_owned();
    let problem = Some((heading, visit.language().say(message)));
    form(site, visit, status, String::new(), next(to), problem, false)
}

fn form(
    site: &Site,
    visit: &Visit,
    status: StatusCode,
    name: String,
    next: &str,
    problem: Option<(String, String)>,
    must_change: bool,
) -> Response {
    let passkey = Offer::to_log_in(site, visit);
    let (page, next, to) = (visit.page(), next.to_owned(), Some(next.to_owned()));
    answer(visit, status, &Login { page, name, next, problem, must_change, passkey, purpose: "admin", to })
}

#[derive(Deserialize)]
pub(super) struct Out {}

/// The page that asks whether to log out.
#[derive(Template)]
#[template(path = "admin/logout.html")]
struct Logout {
    page: Page,
    name: String,
}

pub(super) async fn ask_to_leave(Viewing(visit): Viewing) -> Response {
    let name = visit.admin().map(|present| present.identity.to_string()).unwrap_or_default();
    answer(&visit, StatusCode::OK, &Logout { page: visit.page(), name })
}

pub(super) async fn log_out(State(site): State<Site>, visit: Visit, Posted(Out {}): Posted<Out>) -> Response {
    let mut response = see_other(&visit, LOGIN);
    let Some(present) = visit.admin() else { return response };
    let event = Event::admin_logout(Arc::clone(&present.identity), visit.client(), present.role, "logout");
    match site.end_web_session(&visit, Purpose::Admin).await {
        Ok(cookie) => {
            site.parts().audit.record(TrailEntry::now(event));
            response.headers_mut().extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
            response
        }
        Err(error) => {
            tracing::warn!(%error, request = visit.number(), "the end of a login to the pages is not on disk");
            let message = UserMessage::new(
                "You are logged out, but the disk took no note of it: a restart of the gateway may bring the login back.",
            );
            visit.problem(StatusCode::SERVICE_UNAVAILABLE, "The logout was not kept", &message)
        }
    }
}
