//! Answers that are no pages of their own: the way to another one, and operations that were refused.

use std::fmt::Write as _;

use axum::extract::{FromRequestParts, Query};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::request::Parts as Head;
use serde::de::DeserializeOwned;

use crate::ops::{ErrorKind, OpsError};
use crate::portal::page::redirect;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::types::UserMessage;

/// The page to look at after a change: loading it again changes nothing once more.
pub(super) fn see_other(visit: &Visit, to: &str) -> Response {
    redirect(visit, StatusCode::SEE_OTHER, to)
}

/// A page with these words in its query.
pub(super) fn url(path: &str, query: &[(&str, &str)]) -> String {
    let mut url = path.to_owned();
    for (number, (name, value)) in query.iter().enumerate() {
        url.push(if number == 0 { '?' } else { '&' });
        encode(name, &mut url);
        url.push('=');
        encode(value, &mut url);
    }
    url
}

/// As `application/x-www-form-urlencoded` has it.
fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'/') {
            into.push(char::from(byte));
        } else {
            // Writing to memory does not fail.
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

/// What a page's query says. One that says nothing of the kind is answered with a page that tells so.
pub(super) struct Asked<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<Site> for Asked<T> {
    type Rejection = Response;

    async fn from_request_parts(head: &mut Head, site: &Site) -> Result<Self, Response> {
        let visit = Visit::from_request_parts(head, site).await.map_err(StatusCode::into_response)?;
        match Query::<T>::try_from_uri(&head.uri) {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(_) => Err(misread(&visit)),
        }
    }
}

/// The page of a request that makes no sense.
pub(super) fn misread(visit: &Visit) -> Response {
    let message = UserMessage::new("Go back, and begin again from the page before.");
    visit.problem(StatusCode::BAD_REQUEST, "This request makes no sense", &message)
}

/// The status that goes with a refused operation.
pub(super) const fn status_of(error: &OpsError) -> StatusCode {
    match error.kind() {
        ErrorKind::Wrong => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::NoRoom => StatusCode::INSUFFICIENT_STORAGE,
        ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_a_query_stay_words() {
        assert_eq!(url("/admin/x", &[]), "/admin/x");
        assert_eq!(
            url("/admin/x", &[("name", "a&b=c ü\r\n"), ("q", "")]),
            "/admin/x?name=a%26b%3Dc%20%C3%BC%0D%0A&q="
        );
    }
}
