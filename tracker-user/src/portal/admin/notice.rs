//! What became of an operation, on a page of its own: refused, in the operations' own words, which are for operators.

use askama::Template;
use axum::response::Response;
use http::StatusCode;

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

#[derive(Template)]
#[template(path = "admin/warned.html")]
struct Warned {
    page: Page,
    warning: String,
    back: &'static str,
}

/// The page of an operation that was carried out, and of which an operator should know something.
pub(in crate::portal) fn warned(visit: &Visit, warning: &str, back: &'static str) -> Response {
    let page = Warned { page: visit.page(), warning: warning.to_owned(), back };
    answer(visit, StatusCode::OK, &page)
}
