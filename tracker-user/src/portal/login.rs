//! Logging in: by a form, or by Kerberos where the conditions offer it.

mod verify;

use axum::Router;

#[expect(unused_imports, reason = "administration logs in by it")]
pub(super) use self::verify::{Refused, verify};
use super::site::Site;

pub(super) fn routes() -> Router<Site> {
    Router::new()
}
