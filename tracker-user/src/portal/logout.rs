//! Logging out: by the URL that scripts open, or by a page.
//!
//! Who logs out is whoever is at the address that the request comes from, never a parameter. The session has ended, for good,
//! before the first byte of the answer; and the answer is the same whether somebody was logged in or not.

mod may_act;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER, SET_COOKIE};
use http::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use tracing::warn;

use self::may_act::{Facts, MayAct, may_act};
use super::page::{Page, answer};
use super::posted::Posted;
use super::site::Site;
use super::visit::Visit;
use super::web_sessions::Purpose;
use crate::links::shown;
use crate::ops::OwnLogout;
use crate::types::UserMessage;

pub(super) fn routes() -> Router<Site> {
    Router::new()
        .route("/internal/logout", get(asked).post(confirmed))
        // The path of older versions.
        .route("/logout", get(asked).post(confirmed))
}

/// Asks whether the visitor wants that.
#[derive(Template)]
#[template(path = "logout.html")]
struct Confirm {
    page: Page,
}

/// It is done, or it cannot be done here.
#[derive(Template)]
#[template(path = "logged_out.html")]
struct LoggedOut {
    page: Page,
    is_shared: bool,
    /// Until when a password has to be typed.
    held_until: Option<String>,
}

/// The form has nothing but its token.
#[derive(Deserialize)]
struct Confirmed {}

/// Whom an answer is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Person,
    Script,
}

/// A GET, or a HEAD, which never acts.
async fn asked(visit: Visit, State(site): State<Site>, method: Method, headers: HeaderMap) -> Response {
    let facts = Facts::of(&visit, &method, &headers);
    let reader = if facts.is_browser { Reader::Person } else { Reader::Script };
    match may_act(&facts) {
        MayAct::Act => log_out(&visit, &site, reader).await,
        MayAct::Confirm => answer(&visit, StatusCode::OK, &Confirm { page: visit.page() }),
        MayAct::Redirect => redirect(&visit),
        MayAct::Tell => {
            let message = UserMessage::new(
                "The connection to this page is not encrypted, so it cannot be told whether you want to log out or another page \
                 has sent your browser here. Ask for help, or let the login end by itself.",
            );
            visit.problem(StatusCode::FORBIDDEN, "Your browser cannot log you out here", &message)
        }
        // Not what it will be like when somebody asks for it: a browser throws this away, and asks again.
        MayAct::Nothing if facts.is_prefetch => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        MayAct::Nothing => StatusCode::OK.into_response(),
    }
}

/// The form of the page that asks.
async fn confirmed(visit: Visit, State(site): State<Site>, _: Posted<Confirmed>) -> Response {
    log_out(&visit, &site, Reader::Person).await
}

fn redirect(visit: &Visit) -> Response {
    let there = visit.settings().secure_origin().map(|origin| format!("{origin}{}", visit.path()));
    match there.and_then(|there| HeaderValue::from_str(&there).ok()) {
        Some(there) => (StatusCode::FOUND, [(LOCATION, there)]).into_response(),
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn log_out(visit: &Visit, site: &Site, reader: Reader) -> Response {
    let done = site.parts().ops.log_out_at(visit.client()).await;
    // The visitor's login to the pages goes with it; others at the address find theirs over when they come.
    let taken = match site.end_web_session(visit, Purpose::User).await {
        Ok(taken) => taken,
        Err(unkept) => {
            warn!(request = visit.number(), %unkept, "the end of a login to the pages is not on disk");
            None
        }
    };
    // Nor does anybody log in by a password that was typed there before.
    if !matches!(done, Ok(OwnLogout::SharedHost)) {
        site.end_pending_at(visit.client());
    }
    let mut response = match done {
        Ok(done) => told(visit, done, reader),
        Err(error) => {
            warn!(client = %shown(visit.client()), request = visit.number(), %error, "a logout is not on disk");
            let mut response = failed(visit, reader);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
            response
        }
    };
    if let Some(cookie) = taken {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

fn told(visit: &Visit, done: OwnLogout, reader: Reader) -> Response {
    match (reader, done) {
        (Reader::Person, done) => {
            let held_until = match done {
                OwnLogout::Done { held_until } => held_until.map(time),
                OwnLogout::SharedHost => None,
            };
            let is_shared = done == OwnLogout::SharedHost;
            answer(visit, StatusCode::OK, &LoggedOut { page: visit.page(), is_shared, held_until })
        }
        (Reader::Script, OwnLogout::Done { .. }) => {
            plain(StatusCode::OK, "Nobody is logged in from this address any more.\n")
        }
        (Reader::Script, OwnLogout::SharedHost) => plain(
            StatusCode::OK,
            "Nothing was done: many users share this address, and all of them would be logged out. Each of them is logged out \
             when their connections are closed.\n",
        ),
    }
}

fn failed(visit: &Visit, reader: Reader) -> Response {
    const STATUS: StatusCode = StatusCode::SERVICE_UNAVAILABLE;
    match reader {
        Reader::Person => {
            let message = UserMessage::new(
                "Nobody is logged in at this moment, but the gateway could not take note of it, and may have forgotten it after \
                 a restart. Try again.",
            );
            visit.problem(STATUS, "The logout could not be kept", &message)
        }
        Reader::Script => plain(STATUS, "The logout could not be written to disk: try again.\n"),
    }
}

/// In a language that scripts are written for.
fn plain(status: StatusCode, text: &'static str) -> Response {
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

fn time(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%H:%M:%S %Z").to_string()
}
