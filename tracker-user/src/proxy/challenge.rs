//! 407: asking the client to prove who its user is.

use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, PROXY_AUTHENTICATE};
use hyper::{Response, StatusCode};

use super::access::Body;
use super::pages::style;
use crate::auth::token;

/// How often credentials may be refused on one connection before it is closed.
pub(super) const MAX_REFUSALS: u32 = 5;

const PAGE: &str = concat!(
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>407 Proxy Authentication Required</title>",
    style!(),
    "</head>\n<body><h1>Proxy Authentication Required</h1>\n<p>This proxy asks who you are by Kerberos (Negotiate). Log in to \
     your domain, or run <code>kinit</code>, and use the proxy by its full name.</p>\n<small>407 from the proxy</small>\n\
     </body></html>\n"
);

/// The challenge; with a token where a handshake goes on or was refused with one.
pub(super) fn response(answer: Option<&[u8]>, close: bool) -> Response<Body> {
    let mut response = Response::new(Body::full(Bytes::from_static(PAGE.as_bytes())));
    *response.status_mut() = StatusCode::PROXY_AUTHENTICATION_REQUIRED;
    let headers = response.headers_mut();
    headers
        .insert(PROXY_AUTHENTICATE, answer.and_then(value).unwrap_or(HeaderValue::from_static("Negotiate")));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// A token as the value of `Proxy-Authenticate`; on a success it is the gateway's own proof (RFC 4559, section 5).
pub(super) fn value(answer: &[u8]) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(Bytes::from(format!("Negotiate {}", token::encode(answer)))).ok()
}
