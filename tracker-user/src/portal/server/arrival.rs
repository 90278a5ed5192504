//! What every request goes through before a route is looked for: from whom it comes, under which name, what comes with it, and
//! what its answer carries.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{ALLOW, CONNECTION, HeaderValue};
use http::request::Parts as Head;
use http::{Method, StatusCode};
use ring::hmac;
use ring::rand::SystemRandom;

use super::form::{self, NotTaken};
use super::forwarded;
use super::host::{Named, OwnAddresses, named};
use super::line::{Content, Line, Pace};
use super::places::Doing;
use super::seat::Seat;
use crate::clock::{boot_now, wall_now};
use crate::portal::pac;
use crate::portal::page::{Endless, complete, misdirected, plain};
use crate::portal::settings::Settings;
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
    own: OwnAddresses,
    pace: Pace,
}

/// Why a request is refused before anybody looks at what it wants.
enum Refused {
    /// It says not, or twice, under which name it comes.
    Unnamed,
    /// By a name that is not ours.
    Foreign(Named),
    /// What a proxy in front says of its client is nobody's address.
    Forwarded,
}

impl Door {
    pub(super) fn new(site: Site) -> io::Result<Self> {
        let random = SystemRandom::new();
        let none = |_| io::Error::other("the system has no randomness");
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random).map_err(none)?;
        let run: [u8; 2] = ring::rand::generate(&random).map_err(none)?.expose();
        let run = u16::from_be_bytes(run);
        let (own, pace) = (OwnAddresses::default(), Pace::default());
        Ok(Self(Arc::new(Inner { site, key, count: AtomicU64::new(1), run, own, pace })))
    }

    fn number(&self) -> String {
        format!("{:04x}-{}", self.0.run, self.0.count.fetch_add(1, Ordering::Relaxed))
    }

    /// By which name a request comes, and from whom.
    fn judge(
        &self,
        head: &Head,
        arrived: &Arrived,
        settings: &Settings,
    ) -> Result<(Named, crate::types::ClientAddr), Refused> {
        let named = named(head, arrived.is_tls).map_err(|_| Refused::Unnamed)?;
        let is_ours = self.0.own.is_ours(&named, &settings.names, arrived.peer);
        if !is_ours && !pac::is_for_whoever_looks_by(&named.host, head.uri.path()) {
            return Err(Refused::Foreign(named));
        }
        let client = forwarded::client(&head.headers, arrived.peer, &settings.trusted_proxies);
        Ok((named, client.map_err(|_| Refused::Forwarded)?))
    }

    fn count(&self, cause: &'static str) {
        self.0.site.parts().stats.refused(cause).inc();
    }

    /// The answer to a request that goes no further.
    fn refuse(&self, visit: &Visit, refused: &Refused) -> Response {
        match refused {
            Refused::Unnamed => {
                self.count("host");
                plain(
                    visit,
                    StatusCode::BAD_REQUEST,
                    "This request does not say in one field Host for whom it is.",
                )
            }
            Refused::Foreign(_) => {
                self.count("host");
                misdirected(visit)
            }
            Refused::Forwarded => {
                self.count("forwarded");
                const MESSAGE: &str = "It is not clear where this request comes from. Whoever looks after the network finds the \
                                       reason in the settings of the proxy in front of these pages.";
                let heading = "This request cannot be answered";
                visit.problem(StatusCode::BAD_REQUEST, heading, &UserMessage::new(MESSAGE))
            }
        }
    }

    /// What the routes, or whoever is before them, answer.
    async fn answer(&self, visit: &Visit, head: Head, body: Body, seat: &Seat, next: Next) -> Response {
        if !matches!(head.method, Method::GET | Method::HEAD | Method::POST) {
            self.count("method");
            let mut response = no_such_method(visit.clone()).await;
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST"));
            return closing(response);
        }
        let body = if head.method == Method::POST {
            match form::read(&head.headers, body).await {
                Ok(form) => Body::from(form),
                Err(why) => {
                    self.count(why.cause());
                    return closing(not_taken(visit, why));
                }
            }
        } else {
            Body::empty()
        };
        seat.note(Doing::Answers);
        let mut request = Request::from_parts(head, body);
        request.extensions_mut().insert(visit.clone());
        next.run(request).await
    }
}

/// See the module.
pub(super) async fn arrive(State(door): State<Door>, request: Request, next: Next) -> Response {
    let begun = boot_now();
    let (head, body) = request.into_parts();
    let (arrived, seat) = (head.extensions.get::<Arrived>().cloned(), head.extensions.get::<Seat>().cloned());
    let (Some(arrived), Some(seat)) = (arrived, seat) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    // The head is whole.
    seat.note(Doing::Waits);
    let settings = door.0.site.settings();
    let judged = door.judge(&head, &arrived, &settings);
    let (name, client) = match &judged {
        Ok((named, client)) => (Some(named), *client),
        Err(Refused::Foreign(named)) => (Some(named), arrived.peer),
        Err(_) => (None, arrived.peer),
    };
    let coming = Coming {
        number: door.number(),
        time: wall_now(),
        client,
        host: name.map(|named| named.host.clone()).unwrap_or_default(),
        authority: name.map(|named| named.authority.clone()).unwrap_or_default(),
        is_judged: judged.is_ok(),
        path: head.uri.path(),
        headers: &head.headers,
        key: door.0.key.clone(),
        settings,
        arrived,
    };
    let (visit, method) = (Visit::new(&door.0.site, coming).await, head.method.clone());
    let mut response = match judged {
        Ok(_) => door.answer(&visit, head, body, &seat, next).await,
        Err(refused) => closing(door.refuse(&visit, &refused)),
    };
    complete(response.headers_mut(), visit.is_tls() && visit.settings().http_port.is_none());
    door.0.site.parts().stats.answered(response.status());
    if response.extensions().get::<Endless>().is_some() {
        seat.note(Doing::Streams);
    }
    let line = Line { visit, method, status: response.status(), begun, pace: door.0.pace.clone() };
    response.map(|body| Body::new(Content::new(body, line, seat)))
}

/// The same, after which nothing more is taken on the connection.
fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

fn not_taken(visit: &Visit, why: NotTaken) -> Response {
    let (status, heading, message) = match why {
        NotTaken::Large => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "This form is too large",
            "No form of these pages is so large. Open the page again, and fill it in once more.",
        ),
        NotTaken::Late => (
            StatusCode::REQUEST_TIMEOUT,
            "This form took too long",
            "It did not come within ten seconds. Open the page again, and fill it in once more.",
        ),
        NotTaken::Broken => (
            StatusCode::BAD_REQUEST,
            "This form cannot be read",
            "It did not come whole. Open the page again, and fill it in once more.",
        ),
    };
    visit.problem(status, heading, &UserMessage::new(message))
}

pub(super) async fn no_such_page(visit: Visit) -> Response {
    let message = UserMessage::new("Look at the address again, or begin at the first page.");
    visit.problem(StatusCode::NOT_FOUND, "There is no such page", &message)
}

pub(super) async fn no_such_method(visit: Visit) -> Response {
    let message = UserMessage::new("The page is there, but not for this kind of request.");
    visit.problem(StatusCode::METHOD_NOT_ALLOWED, "This cannot be asked of the page", &message)
}
