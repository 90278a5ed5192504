//! What every request goes through before a route is looked for: from whom it comes, under which name, and what its answer
//! carries.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::HOST;
use ring::hmac;
use ring::rand::SystemRandom;

use crate::clock::wall_now;
use crate::portal::page::complete;
use crate::portal::site::Site;
use crate::portal::visit::{Arrived, Coming, Visit};
use crate::types::UserMessage;

/// What is needed to receive a request. Cheap to clone.
#[derive(Clone)]
pub(super) struct Door(Arc<Inner>);

struct Inner {
    site: Site,
    key: hmac::Key,
    count: AtomicU64,
    run: u16,
}

impl Door {
    pub(super) fn new(site: Site) -> io::Result<Self> {
        let random = SystemRandom::new();
        let none = |_| io::Error::other("the system has no randomness");
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random).map_err(none)?;
        let run: [u8; 2] = ring::rand::generate(&random).map_err(none)?.expose();
        Ok(Self(Arc::new(Inner { site, key, count: AtomicU64::new(1), run: u16::from_be_bytes(run) })))
    }

    fn number(&self) -> String {
        format!("{:04x}-{}", self.0.run, self.0.count.fetch_add(1, Ordering::Relaxed))
    }
}

pub(super) async fn arrive(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let Some(arrived) = request.extensions().get::<Arrived>().cloned() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let is_tls = arrived.is_tls;
    let host = request.headers().get(HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(name, _)| name).to_ascii_lowercase();
    let coming = Coming {
        number: door.number(),
        time: wall_now(),
        client: arrived.peer,
        arrived,
        host,
        path: request.uri().path(),
        headers: request.headers(),
        key: door.0.key.clone(),
    };
    let visit = Visit::new(&door.0.site, coming).await;
    request.extensions_mut().insert(visit);
    let mut response = next.run(request).await;
    complete(response.headers_mut(), is_tls);
    response
}

pub(super) async fn no_such_page(visit: Visit) -> Response {
    let message = UserMessage::new("Look at the address again, or begin at the first page.");
    visit.problem(StatusCode::NOT_FOUND, "There is no such page", &message)
}

pub(super) async fn no_such_method(visit: Visit) -> Response {
    let message = UserMessage::new("The page is there, but not for this kind of request.");
    visit.problem(StatusCode::METHOD_NOT_ALLOWED, "This cannot be asked of the page", &message)
}
