//! The second factor: giving it after a password or a ticket, setting it up, looking after it.
//!
//! Between the first factor and the second a browser has a login that is pending ([`pending`]): a cookie that is good for nothing
//! but the second factor, or its set-up where one is demanded and there is none. Users and operators go the same way.
//!
//! Whoever is logged in looks after what they have set up ([`manage`]). What changes any of it takes its form by [`FreshFactor`]: it
//! asks for a factor first, unless one was proved a short while ago.

mod address;
mod code;
mod complete;
mod device;
mod enrolments;
mod fresh;
mod give;
mod manage;
mod notices;
mod passkey;
mod pending;
mod person;
mod qr;
mod recover;
mod recovery_codes;
mod remove;
mod set_up;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};

pub(super) use self::complete::complete;
pub(super) use self::device::{DEVICE_COOKIE, known_device};
pub(super) use self::enrolments::Enrolments;
pub(super) use self::fresh::{FreshFactor, ask_first, prove_by_passkey, prove_factor};
pub(super) use self::passkey::{Offer, Signed};
pub(super) use self::pending::{PENDING_COOKIE, PendingLogin, PendingLogins};
pub(super) use self::person::Person;
use super::login::secure;
use super::site::Site;
use super::visit::Visit;

/// Where all of it begins.
const HOME: &str = "/second-factor";
const SET_UP: &str = "/second-factor/set-up";

pub(super) fn routes() -> Router<Site> {
    Router::new()
        .route(HOME, get(show))
        .route("/second-factor/code", post(code::give))
        .route("/second-factor/cancel", post(code::cancel))
        .route("/second-factor/recovery-code", get(recovery_codes::form).post(recovery_codes::give))
        .route(recover::PATH, get(recover::show).post(recover::ask))
        .route("/second-factor/recover/code", post(recover::give))
        .route("/second-factor/recover/stop", get(recover::stop::show).post(recover::stop::stop))
        .route("/second-factor/recovery-codes", post(recovery_codes::make))
        .route(SET_UP, get(set_up::show).post(set_up::begin))
        .route("/second-factor/activate", post(set_up::activate))
        .route("/second-factor/set-up/cancel", post(set_up::cancel))
        .route("/second-factor/remove", get(remove::form).post(remove::remove))
        .route("/second-factor/recovery-address", post(address::change))
        .route("/second-factor/devices/forget", post(manage::forget))
        .route("/second-factor/confirm", get(fresh::show).post(fresh::confirmed))
        .merge(passkey::routes())
}

/// `GET /second-factor`: the code where a login is pending, or its set-up; else what whoever is logged in has set up.
async fn show(
    visit: Visit,
    State(site): State<Site>,
    asked: Result<Query<manage::Before>, QueryRejection>,
) -> Response {
    if !visit.is_tls() {
        return secure(&visit, HOME);
    }
    if let Some(login) = site.pending_login(&visit) {
        return code::show(&site, &visit, &login);
    }
    match Person::of(&visit) {
        Some(person) => manage::show(&site, &visit, &person, &manage::before(asked)),
        None => Redirect::to("/login").into_response(),
    }
}
