//! The files by which browsers find the proxy.

use axum::Router;

use super::site::Site;

pub(super) fn routes() -> Router<Site> {
    Router::new()
}
