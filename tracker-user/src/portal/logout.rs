//! Logging out: by the URL that scripts open, or by a page.

use axum::Router;

use super::site::Site;

pub(super) fn routes() -> Router<Site> {
    Router::new()
}
