//! 101: the origin agreed to change the protocol; from here on the connection is a tunnel.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{Response, StatusCode};

use super::access::{Body, Entry};
use super::connect::{carry, into_origin};
use super::connection::{Client, Reply};
use super::headers;
use super::pages::Page;

/// Passes the origin's 101 on, if the client asked for one: `client_side` is there if it did.
pub(super) fn switch(
    client: &Arc<Client>,
    client_side: Option<OnUpgrade>,
    mut response: Response<Incoming>,
    entry: &mut Option<Box<Entry>>,
) -> Reply {
    let origin_side = hyper::upgrade::on(&mut response);
    let (mut parts, _) = response.into_parts();
    let protocol = headers::strip_response(&mut parts.headers);
    let (Some(client_side), Some(protocol)) = (client_side, protocol) else {
        let text = "The origin changed the protocol without being asked.";
        return Reply::page(Page::new(StatusCode::BAD_GATEWAY, text).closing(), None);
    };
    parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(UPGRADE, protocol);
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = parts.headers;
    if let Some(entry) = entry.take() {
        let origin = async { origin_side.await.ok().and_then(into_origin) };
        carry(client, client_side, origin, entry, StatusCode::SWITCHING_PROTOCOLS);
    }
    answer.into()
}
