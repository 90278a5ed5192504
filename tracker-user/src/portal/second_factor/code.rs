//! The page that asks for a code.

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use http::header::{HeaderMap, SET_COOKIE};
use serde::Deserialize;

use super::device;
use super::give::{end_waiting, failed, finish, sent};
use super::passkey::Offer;
use super::pending::PendingLogin;
use super::set_up;
use crate::portal::login::Typed;
use crate::portal::page::{Page, answer};
use crate::portal::posted::Posted;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::portal::web_sessions::Purpose;
use crate::types::{Factor, Factors, UserMessage};

/// See `second_factor/code.html`.
#[derive(askama::Template)]
#[template(path = "second_factor/code.html")]
struct Code {
    page: Page,
    /// Whose login is pending.
    who: String,
    problem: Option<String>,
    /// Whether they have an authenticator,
    has_code: bool,
    /// and passkeys.
    passkey: Option<Offer>,
    /// The sentence by which the browser is remembered; `None`: it cannot be.
    remember: Option<String>,
}

/// What the form says.
#[derive(Deserialize)]
pub(super) struct Filled {
    #[serde(default)]
    code: Typed,
    /// `yes`: this browser is to be remembered.
    #[serde(default)]
    remember: String,
}

/// The page for a login that is pending: the code, or the set-up where there is nothing to ask for.
pub(super) fn show(site: &Site, visit: &Visit, login: &PendingLogin) -> Response {
    let factors = &site.parts().factors;
    if factors.missing(&login.identity, login.method, Factors::NONE).is_none() {
        // Nothing is asked for any more: the password is enough.
        site.end_pending(visit);
        return Redirect::to(first(login)).into_response();
    }
    if factors.enrolled(&login.identity).is_empty() {
        return set_up::demanded(site, visit, login);
    }
    ask(site, visit, login, None)
}

/// Where the first factor is given.
const fn first(login: &PendingLogin) -> &'static str {
    match login.purpose {
        Purpose::User => "/login",
        Purpose::Admin => "/admin/login",
    }
}

/// The page that asks for one, and what was wrong before.
pub(super) fn ask(
    site: &Site,
    visit: &Visit,
    login: &PendingLogin,
    problem: Option<UserMessage>,
) -> Response {
    let factors = &site.parts().factors;
    let enrolled = factors.enrolled(&login.identity);
    let status = if problem.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    let page = Code {
        page: visit.page(),
        who: login.identity.to_string(),
        problem: problem.map(|problem| visit.language().say(&problem)),
        has_code: enrolled.has(Factor::Totp),
        passkey: Offer::to_give(site, visit, &login.identity),
        remember: device::offer(site, visit, login),
    };
    answer(visit, status, &page)
}

/// `POST /second-factor/code`
pub(super) async fn give(
    visit: Visit,
    State(site): State<Site>,
    headers: HeaderMap,
    Posted(Filled { code: Typed(code), remember }): Posted<Filled>,
) -> Response {
    let Some(login) = site.pending_login(&visit) else { return Redirect::to(super::HOME).into_response() };
    match site.parts().factors.check_code(&login.identity, code.reveal(), sent(&visit)) {
        Ok(checked) => finish(&site, &visit, &login, checked, remember == "yes").await,
        Err(wrong) => match failed(&site, &visit, &headers, &login, wrong).await {
            Ok(problem) => ask(&site, &visit, &login, Some(problem)),
            Err(over) => over,
        },
    }
}

#[derive(Deserialize)]
pub(super) struct Cancelled {}

/// `POST /second-factor/cancel`: back to the first factor.
pub(super) async fn cancel(
    visit: Visit,
    State(site): State<Site>,
    Posted(Cancelled {}): Posted<Cancelled>,
) -> Response {
    let Some(login) = site.pending_login(&visit) else { return Redirect::to("/").into_response() };
    if login.purpose == Purpose::User {
        end_waiting(&site, &visit, &login).await;
    }
    let mut response = Redirect::to(first(&login)).into_response();
    response.headers_mut().extend(site.end_pending(&visit).map(|cookie| (SET_COOKIE, cookie)));
    response
}
