//! Logging in: by a form, or by Kerberos where the conditions offer it.

mod verify;

use axum::Router;

pub(super) use self::verify::verify;
use super::site::Site;

pub(super) fn routes() -> Router<Site> {
    Router::new()
}
