//! Administration: what an operator can look at and do, by pages. Viewers see all of it, and change nothing; whoever changes
//! something has typed a password a short while ago ([`fresh`]).

pub(super) mod access;
mod account;
mod answer;
mod app_passwords;
mod bans;
mod certificates;
mod events;
pub(super) mod fresh;
mod history;
mod local_users;
pub(super) mod login;
mod notice;
mod second_factor;
mod settings;
mod show;

use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;

pub(super) use self::access::Viewing;
pub(super) use self::notice::refused;
use super::page::{Link, redirect};
use super::site::Site;

const CONFIRM: &str = "/admin/confirm";
const LOGOUT: &str = "/admin/logout";

/// The pages of those who may look.
pub(super) const LINKS: &[Link] = &[
    Link { href: "/status", text: "Overview" },
    Link { href: "/status/sessions", text: "Sessions" },
    Link { href: "/status/hosts", text: "Hosts" },
    Link { href: "/status/users", text: "Users" },
    Link { href: "/admin/local-users", text: "Local users" },
    Link { href: "/admin/second-factor", text: "Second factor" },
    Link { href: "/admin/app-passwords", text: "Application passwords" },
    Link { href: "/admin/settings", text: "Settings" },
    Link { href: "/admin/bans", text: "Bans" },
    Link { href: "/admin/events", text: "Events" },
    Link { href: "/admin/history", text: "History" },
    Link { href: "/admin/certificates", text: "Certificates" },
    Link { href: "/admin/account", text: "Account" },
];

pub(super) fn routes() -> Router<Site> {
    Router::new()
        .route("/admin", get(home))
        .route("/admin/login", get(login::show).post(login::log_in))
        .route("/admin/logout", get(login::ask_to_leave).post(login::log_out))
        .route("/admin/confirm", post(fresh::confirmed))
        .route("/admin/local-users", get(local_users::list))
        .route("/admin/local-users/add", get(local_users::add_form).post(local_users::add))
        .route("/admin/local-users/edit", get(local_users::show))
        .route("/admin/local-users/password", get(local_users::password_form).post(local_users::password))
        .route("/admin/local-users/role", post(local_users::role))
        .route("/admin/local-users/disable", post(local_users::disable))
        .route("/admin/local-users/enable", post(local_users::enable))
        .route("/admin/local-users/remove", get(local_users::remove_form).post(local_users::remove))
        .route("/admin/second-factor", get(second_factor::list))
        .route("/admin/second-factor/reset", post(second_factor::reset))
        .route("/admin/second-factor/errors", get(events::second_factor))
        .route("/admin/second-factor/errors.csv", get(events::second_factor_file))
        .route("/admin/app-passwords", get(app_passwords::list).post(app_passwords::revoke))
        .route("/admin/settings", get(settings::list))
        .route("/admin/settings/edit", get(settings::show))
        .route("/admin/settings/set", post(settings::set))
        .route("/admin/settings/unset", post(settings::unset))
        .route("/admin/bans", get(bans::list).post(bans::lift))
        .route("/admin/events", get(events::list))
        .route("/admin/events.csv", get(events::file))
        .route("/admin/history", get(history::list))
        .route("/admin/history.csv", get(history::file))
        .route("/admin/certificates", get(certificates::list))
        .route("/admin/account", get(account::show))
        .route("/admin/account/end-others", post(account::end_others))
}

async fn home(Viewing(visit): Viewing) -> Response {
    redirect(&visit, StatusCode::FOUND, "/status")
}
