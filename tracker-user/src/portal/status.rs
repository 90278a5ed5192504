//! Who is here: hosts, users, sessions, live; and above them what there was over the last hour, day and week.
//!
//! For those who may look. Every look goes by one snapshot that all viewers share (`ops/snapshot`); what is computed over many rows
//! is computed there, on threads that may take their time, and a page gets a hundred rows.

mod chart;
#[cfg(test)]
mod cost;
mod csv;
mod live;
mod overview;
mod query;
mod session;
mod table;
mod user;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use self::live::Seats;
use super::admin::refused;
use super::site::Site;
use super::visit::Visit;
use crate::ops::{OpsError, Table};

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
        .route("/status/user/{key}", get(user::show))
        .route("/status/user/{key}/end", post(user::end))
}

async fn script() -> Response {
    let fields = [(CONTENT_TYPE, "text/javascript; charset=utf-8"), (CACHE_CONTROL, "max-age=300")];
    (fields, SCRIPT).into_response()
}

/// Why something cannot be shown, as a page.
fn failed(visit: &Visit, error: &OpsError) -> Response {
    refused(visit, error, "/status")
}
