//! Logging in: by a form, or by Kerberos where the conditions offer it.
//!
//! Under TLS alone. Who logs in here begins a session of the proxy, as by any other way, and is led back to where they wanted: to
//! what the proxy has kept for them ([`wanted`]), never to what an address says.

mod begin;
mod opt_out;
pub(super) mod pages;
mod pending;
mod silent;
mod typed;
mod verify;
mod wanted;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use http::{HeaderMap, Method, StatusCode, Uri};
use serde::Deserialize;

use self::pages::{Form, asking, form, welcome};
use self::wanted::query;
use super::password;
use super::posted::Posted;
use super::site::Site;
use super::visit::Visit;
use crate::types::UserMessage;

pub(super) use self::begin::{NotAdmitted, begin};
pub(super) use self::pending::Pending;
pub(super) use self::silent::{Sent, Silent, silent};
pub(super) use self::typed::Typed;
pub(super) use self::verify::{Refused, verify};
pub(super) use self::wanted::Wanted;

pub(super) fn routes() -> Router<Site> {
    Router::new().route("/login", get(show).post(log_in)).route("/login/automatic", post(opt_out::set))
}

/// What the address of the form says.
#[derive(Default, Deserialize)]
struct Asked {
    /// The name of what its user wanted.
    #[serde(default)]
    to: String,
    /// Whether its user asks to be logged in by Kerberos once more.
    #[serde(default)]
    again: String,
}

/// What the form says.
#[derive(Deserialize)]
struct Filled {
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: Typed,
    #[serde(default)]
    to: String,
}

/// `GET /login`
async fn show(
    visit: Visit,
    State(site): State<Site>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let Query(asked) = asked.unwrap_or_default();
    if !visit.is_tls() {
        return secure(&visit, &format!("/login{}", query(&asked.to)));
    }
    let wanted = Wanted::find(&site, &visit, &asked.to);
    let sent = Sent { method: &method, uri: &uri, headers: &headers, again: asked.again == "1" };
    match silent(&site, &visit, &sent).await {
        Silent::LoggedIn(done) => welcome(&site, &visit, done, wanted),
        Silent::Ask => asking(&site, &visit, &headers, Form { wanted, ..Form::default() }).await,
        Silent::Page { may_ask } => {
            form(&site, &visit, &headers, Form { wanted, may_ask, ..Form::default() }).await
        }
        Silent::Refused(shown) => form(&site, &visit, &headers, Form { wanted, ..Form::of(shown) }).await,
    }
}

/// `POST /login`
async fn log_in(
    visit: Visit,
    State(site): State<Site>,
    headers: HeaderMap,
    Posted(filled): Posted<Filled>,
) -> Response {
    let Filled { name, password: Typed(password), to } = filled;
    let wanted = Wanted::find(&site, &visit, &to);
    let shown = match verify(&site, &visit, &name, password).await {
        Ok(proved) => match begin(&site, &visit, proved).await {
            Ok(done) => return welcome(&site, &visit, done, wanted),
            Err(not) => not.into(),
        },
        Err(refused) if refused.must_change => return password::must_change(&visit, &name, &to),
        Err(refused) => refused.into(),
    };
    form(&site, &visit, &headers, Form { name, wanted, ..Form::of(shown) }).await
}

/// To the same page under TLS: nothing secret is asked for without.
pub(super) fn secure(visit: &Visit, path: &str) -> Response {
    match visit.settings().secure_origin() {
        Some(origin) => {
            let to = format!("{origin}{path}");
            (StatusCode::FOUND, [(http::header::LOCATION, to)]).into_response()
        }
        None => {
            let message = UserMessage::new(
                "This page is shown under TLS (https) alone, and this gateway has no pages under TLS. Its operator can \
                 switch them on.",
            );
            visit.problem(StatusCode::NOT_FOUND, "You cannot log in on this page", &message)
        }
    }
}

/// Back to a page of ours after a form.
pub(super) fn back_to(path: &'static str) -> Response {
    Redirect::to(path).into_response()
}
