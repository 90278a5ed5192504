//! Logging in: by a form, or by Kerberos where the conditions offer it.

use axum::Router;

use super::site::Site;

pub(super) fn routes() -> Router<Site> {
    Router::new()
}
