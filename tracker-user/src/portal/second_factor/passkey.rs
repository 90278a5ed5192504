//! Passkeys on the pages: making one, giving it after a password or in place of one, looking after those that there are.
//!
//! A script asks for what the device is to sign ([`ask`]), and puts the answer into a form, which comes here as any other does: so
//! what follows is a page.

mod add;
mod ask;
mod give;
mod login;
mod manage;
mod offer;
mod place;

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

pub(super) use self::give::check;
pub(in crate::portal) use self::offer::Offer;
pub(super) use self::place::Place;
pub(in crate::portal) use self::place::Signed;
use crate::portal::site::Site;

/// The page on which one is made.
const ADD: &str = "/second-factor/passkey/add";

const SCRIPT: &str = include_str!("passkey/passkey.js");

pub(super) fn routes() -> Router<Site> {
    Router::new()
        .route("/second-factor/passkey.js", get(script))
        .route("/second-factor/passkey/ask", post(ask::ask))
        .route("/second-factor/passkey/give", post(give::give))
        .route("/second-factor/passkey/login", post(login::log_in))
        .route(ADD, get(add::show).post(add::add))
        .route("/second-factor/passkey/rename", post(manage::rename))
        .route("/second-factor/passkey/remove", post(manage::remove))
}

async fn script() -> Response {
    let fields = [(CONTENT_TYPE, "text/javascript; charset=utf-8"), (CACHE_CONTROL, "max-age=300")];
    (fields, SCRIPT).into_response()
}
