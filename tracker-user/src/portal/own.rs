//! The first page: the visitor's own session.

use axum::Router;

use super::site::Site;

pub(super) fn routes() -> Router<Site> {
    Router::new()
}
