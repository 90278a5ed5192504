//! Administration.

use axum::Router;

use super::page::Link;
use super::site::Site;

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
    Router::new()
}
