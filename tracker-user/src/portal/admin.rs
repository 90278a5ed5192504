//! Administration: what an operator can look at and do, by pages. Viewers see all of it, and change nothing; whoever changes
//! something has typed a password a short while ago ([`fresh`]).

mod access;
mod answer;
pub(super) mod fresh;

use axum::Router;
use axum::routing::post;

pub(super) use self::access::Viewing;
pub(super) use self::answer::{Asked, see_other, status_of, url};
use super::page::Link;
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
    Link { href: "/admin/settings", text: "Settings" },
    Link { href: "/admin/bans", text: "Bans" },
    Link { href: "/admin/events", text: "Events" },
    Link { href: "/admin/history", text: "History" },
    Link { href: "/admin/certificates", text: "Certificates" },
    Link { href: "/admin/account", text: "Account" },
];

pub(super) fn routes() -> Router<Site> {
    Router::new().route(CONFIRM, post(fresh::confirmed))
}
