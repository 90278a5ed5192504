//! What pages are made of besides HTML.

use axum::Router;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use super::site::Site;
use super::visit::Visit;
use crate::pages::STYLE;

const ICON: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 16 16\"><circle cx=\"8\" cy=\"8\" r=\"6\" \
                    fill=\"none\" stroke=\"#1a5fb4\" stroke-width=\"3\"/></svg>";

pub(super) fn routes() -> Router<Site> {
    Router::new()
        .route("/assets/style.css", get(style))
        .route("/assets/icon.svg", get(|| async { content("image/svg+xml", ICON.to_owned()) }))
        .route("/assets/logo", get(logo))
}

async fn style(visit: Visit) -> Response {
    let colour = visit.settings().brand.colour.as_deref().unwrap_or_default();
    let own = if colour.is_empty() { String::new() } else { format!(":root{{--accent:{colour}}}\n") };
    content("text/css; charset=utf-8", format!("{STYLE}{own}"))
}

async fn logo(visit: Visit) -> Response {
    match &visit.settings().brand.logo {
        Some(logo) => content(logo.media_type, logo.content.clone()),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn content(media_type: &'static str, content: impl Into<axum::body::Body>) -> Response {
    let fields = [(CONTENT_TYPE, media_type), (CACHE_CONTROL, "max-age=300")];
    (fields, content.into()).into_response()
}
