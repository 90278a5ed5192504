//! Forms that this browser was given here, filled in, and sent back.

use axum::extract::{Form, FromRequest, Request};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::site::Site;
use super::visit::Visit;
use crate::types::UserMessage;

/// What a form says. Whoever takes this gets nothing that another site has sent: the extractor has looked at `Sec-Fetch-Site`, at
/// `Origin` and at the form's token.
pub(super) struct Posted<T>(pub(super) T);

/// The field that is in every form.
#[derive(Deserialize)]
struct Tokened<T> {
    token: String,
    #[serde(flatten)]
    rest: T,
}

impl<T: DeserializeOwned> FromRequest<Site> for Posted<T> {
    type Rejection = Response;

    async fn from_request(request: Request, site: &Site) -> Result<Self, Response> {
        let Some(visit) = request.extensions().get::<Visit>().cloned() else {
            return Err(Response::default());
        };
        let refused = |message| {
            let message = UserMessage::new(message);
            visit.problem(StatusCode::FORBIDDEN, "This form is not valid any more", &message)
        };
        const AGAIN: &str = "Open the page again, and fill it in once more.";
        let site_of = request.headers().get("sec-fetch-site").map(|value| value.as_bytes().to_owned());
        if site_of.is_some_and(|value| value != b"same-origin") {
            return Err(refused(AGAIN));
        }
        let form = Form::<Tokened<T>>::from_request(request, site).await;
        match form {
            Ok(Form(Tokened { token, rest })) if visit.is_own_form(&token) => Ok(Self(rest)),
            Ok(_) | Err(_) => Err(refused(AGAIN)),
        }
    }
}
