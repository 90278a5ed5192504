//! What became of an operation, on a page of its own: refused, in the operations' own words, which are for operators.

use askama::Template;
use axum::response::Response;

use super::answer::status_of;
use crate::ops::OpsError;
use crate::portal::page::{Page, answer};
use crate::portal::visit::Visit;

#[derive(Template)]
#[template(path = "admin/refused.html")]
struct Refused {
    page: Page,
    problem: String,
    back: &'static str,
}

/// The page of an operation that was refused; `back` is where its form was.
pub(in crate::portal) fn refused(visit: &Visit, error: &OpsError, back: &'static str) -> Response {
    let page = Refused { page: visit.page(), problem: error.to_string(), back };
    answer(visit, status_of(error), &page)
}
