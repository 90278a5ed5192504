//! Who is here: hosts, users, sessions, live; and above them what there was over the last hour, day and week.
//!
//! For those who may look. Every look goes by one snapshot that all viewers share (`ops/snapshot`); what is computed over many rows
//! is computed there, on threads that may take their time, and a page gets a hundred rows.

mod chart;
mod csv;
mod live;
mod overview;
mod query;
mod session;
mod table;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, LOCATION};
use http::request::Parts as Head;
use http::{Method, StatusCode};

use self::live::Seats;
use self::query::encoded;
use super::site::Site;
use super::visit::Visit;
use crate::ops::{ErrorKind, OpsError, Table};
use crate::types::UserMessage;

/// What makes the tables live.
const SCRIPT: &str = include_str!("status/live.js");

pub(super) fn routes() -> Router<Site> {
    let seats = Arc::new(Seats::default());
    let tables = Table::ALL.into_iter().fold(Router::new(), |router, table| {
        let (word, seats) = (table.as_str(), Arc::clone(&seats));
        router
            .route(
                &format!("/status/{word}"),
                get(move |looker, site, asked| table::show(looker, site, asked, table)),
            )
            .route(
                &format!("/status/{word}.csv"),
                get(move |looker, site, asked| csv::send(looker, site, asked, table)),
            )
            .route(
                &format!("/status/live/{word}"),
                get(move |visit, site, asked| live::follow(visit, site, asked, table, Arc::clone(&seats))),
            )
    });
    tables
        .route("/status", get(overview::show))
        .route("/status/live.js", get(script))
        .route("/status/session/{address}", get(session::show))
        .route("/status/session/{address}/end", post(session::end))
}

async fn script() -> Response {
    let fields = [(CONTENT_TYPE, "text/javascript; charset=utf-8"), (CACHE_CONTROL, "max-age=300")];
    (fields, SCRIPT).into_response()
}

/// A visit of somebody who may look at what concerns others. Everybody else is led to where they may log in.
struct Looker(Visit);

impl FromRequestParts<Site> for Looker {
    type Rejection = Response;

    async fn from_request_parts(head: &mut Head, site: &Site) -> Result<Self, Response> {
        let visit = Visit::from_request_parts(head, site)
            .await
            .map_err(axum::response::IntoResponse::into_response)?;
        if visit.role().may_look() {
            return Ok(Self(visit));
        }
        // Back to a page, not to what a form was sent to.
        let next = match head.uri.path_and_query() {
            Some(wanted) if head.method == Method::GET => wanted.as_str(),
            _ => "/status",
        };
        let to = format!("/admin/login?next={}", encoded(next));
        Err((StatusCode::FOUND, [(LOCATION, to)]).into_response())
    }
}

/// Why something cannot be shown or done, as a page.
fn failed(visit: &Visit, error: &OpsError) -> Response {
    let (status, heading, message) = match error.kind() {
        ErrorKind::NotFound => {
            (StatusCode::NOT_FOUND, "Nobody is logged in there", "It may have ended in the meantime.")
        }
        ErrorKind::NoRoom => (
            StatusCode::INSUFFICIENT_STORAGE,
            "This has not been kept",
            "The gateway's disk takes nothing: a restart may bring back what has ended. Its log says more.",
        ),
        ErrorKind::Wrong | ErrorKind::Conflict | ErrorKind::Unavailable
            if matches!(error, OpsError::TooLarge { .. }) =>
        {
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "There are too many to show",
                "Look for one client by its address, or ask trackerctl on the gateway.",
            )
        }
        ErrorKind::Wrong | ErrorKind::Conflict | ErrorKind::Unavailable => (
            StatusCode::SERVICE_UNAVAILABLE,
            "This cannot be shown at present",
            "The gateway is busy or stopping. Try again in a moment.",
        ),
    };
    visit.problem(status, heading, &UserMessage::new(message))
}
