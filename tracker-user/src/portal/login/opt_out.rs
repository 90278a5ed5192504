//! The cookie by which a browser opts out of being logged in by itself.

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use serde::Deserialize;

use super::wanted::query;
use crate::portal::page::set_cookie;
use crate::portal::posted::Posted;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::types::UserMessage;

/// For so long, in seconds: a year.
const FOR: u32 = 365 * 24 * 3_600;

/// What the form says.
#[derive(Deserialize)]
pub(super) struct OptOut {
    /// `yes`: the browser opts out; else it takes that back.
    #[serde(default)]
    out: String,
    #[serde(default)]
    to: String,
}

/// `POST /login/automatic`
pub(super) async fn set(visit: Visit, State(_): State<Site>, Posted(form): Posted<OptOut>) -> Response {
    let Some(name) = visit.settings().opt_out_cookie.as_deref().filter(|name| !name.is_empty()) else {
        let message = UserMessage::new("Look at the address again, or begin at the first page.");
        return visit.problem(StatusCode::NOT_FOUND, "There is no such page", &message);
    };
    let mut response = Redirect::to(&format!("/login{}", query(&form.to))).into_response();
    let (value, seconds) = if form.out == "yes" { ("1", FOR) } else { ("", 0) };
    set_cookie(response.headers_mut(), name, value, &format!("; Max-Age={seconds}"));
    response
}
