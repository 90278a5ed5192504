//! Who is here: hosts, users, sessions; live.

use axum::Router;

use super::site::Site;

pub(super) fn routes() -> Router<Site> {
    Router::new()
}
