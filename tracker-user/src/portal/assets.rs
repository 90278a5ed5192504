//! What pages are made of besides HTML.

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};

use super::site::Site;
use super::visit::Visit;
use crate::pages::{STYLE, accent};

/// The colour of the sign where none is configured.
const SIGN: &str = "#1a5fb4";

/// A picture of an operator's may be looked at by itself: whatever stands in it, it runs no script and loads nothing.
const PICTURE: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

pub(super) fn routes() -> Router<Site> {
    Router::new()
        .route("/assets/style.css", get(style))
        .route("/assets/icon.svg", get(icon))
        .route("/assets/logo", get(logo))
}

async fn style(visit: Visit) -> Response {
    let own = visit.settings().brand.colour.as_deref().map(accent).unwrap_or_default();
    content("text/css; charset=utf-8", format!("{STYLE}{own}"))
}

async fn icon(visit: Visit) -> Response {
    let colour = visit.settings().brand.colour.as_deref().unwrap_or(SIGN);
    let icon = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 16 16\"><circle cx=\"8\" cy=\"8\" r=\"6\" fill=\"none\" \
         stroke=\"{colour}\" stroke-width=\"3\"/></svg>"
    );
    content("image/svg+xml", icon)
}

async fn logo(visit: Visit) -> Response {
    match &visit.settings().brand.logo {
        Some(logo) => {
            let mut response = content(logo.media_type, logo.content.clone());
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(PICTURE));
            response
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn content(media_type: &'static str, content: impl Into<axum::body::Body>) -> Response {
    let fields = [(CONTENT_TYPE, media_type), (CACHE_CONTROL, "max-age=300")];
    (fields, content.into()).into_response()
}
