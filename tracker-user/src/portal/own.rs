//! The first page: the visitor's own session.

pub(super) mod words;

use askama::Template;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::{HeaderMap, Method, StatusCode, Uri};

use self::words::{fill, moment, span};
use super::login::pages::{Form, asking, cannot_tell, form, shared_host};
use super::login::{Sent, Silent, pages, secure, silent};
use super::page::{Page, answer};
use super::site::Site;
use super::visit::Visit;
use crate::clock::{Anchor, boot_now};
use crate::ops::{Presence, SessionView, Standing};
use crate::session::{Mode, Timeouts};
use crate::types::Method as Proof;

/// See `own.html`.
#[derive(Template)]
#[template(path = "own.html")]
struct Own {
    page: Page,
    /// Who is logged in, or was; `None`: nobody.
    here: Option<Here>,
    /// Until when nobody is logged in silently.
    held_until: Option<String>,
    /// Whether forms can be sent: not without TLS.
    is_secure: bool,
    /// Whose browser it is, where they are a user of the gateway's own.
    may_change: bool,
    /// Whether they may set up a second factor.
    has_factors: bool,
}

impl Own {
    /// Whether somebody is logged in, and not only was.
    fn is_in(&self) -> bool {
        self.here.as_ref().is_some_and(|here| !here.is_stale)
    }
}

/// A session, as a visitor may see it.
struct Here {
    /// Told to nobody but themselves.
    name: Option<String>,
    is_stale: bool,
    is_waiting: bool,
    since: String,
    /// In English.
    method: &'static str,
    until: Option<String>,
    /// What ends it, in sentences.
    ends: Vec<String>,
}

pub(super) fn routes() -> Router<Site> {
    Router::new().route("/", get(show))
}

/// `GET /`
async fn show(
    visit: Visit,
    State(site): State<Site>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if !visit.is_tls() && visit.settings().https_port.is_some() {
        return secure(&visit, "/");
    }
    let presence = match site.parts().ops.presence(visit.client()).await {
        Ok(presence) => presence,
        Err(error) => return cannot_tell(&visit, &error),
    };
    if presence.is_shared {
        return shared_host(&visit);
    }
    let waits = presence.session.as_ref().is_some_and(|session| session.standing == Standing::Waiting);
    if !presence.is_somebody() && !waits {
        let sent = Sent { method: &method, uri: &uri, headers: &headers, again: false };
        match silent(&site, &visit, &sent).await {
            Silent::Page { .. } => {}
            Silent::Ask => return asking(&site, &visit, &headers, Form::default()).await,
            Silent::LoggedIn(done) => return pages::welcome(&site, &visit, done, None),
            Silent::Refused(shown) => return form(&site, &visit, &headers, Form::of(shown)).await,
        }
    }
    let held = site.parts().holds.until(visit.client(), boot_now());
    let web = visit.web();
    let own = Own {
        page: visit.page(),
        here: here(&visit, presence),
        held_until: held.map(|until| moment(Anchor::now().wall(until))),
        is_secure: visit.is_tls(),
        may_change: web.is_none_or(|web| web.identity.is_local()),
        has_factors: web
            .is_some_and(|web| site.parts().factors.settings().policy.demand(&web.identity).is_some()),
    };
    answer(&visit, StatusCode::OK, &own)
}

fn here(visit: &Visit, presence: Presence) -> Option<Here> {
    let Presence { session, timeouts, .. } = presence;
    let session = session?;
    let is_own = visit.web().is_some_and(|web| web.identity == session.identity);
    Some(Here {
        name: is_own.then(|| session.identity.to_string()),
        is_stale: session.standing == Standing::Stale,
        is_waiting: session.standing == Standing::Waiting,
        since: moment(session.created),
        method: match session.method {
            Proof::Kerberos => "Kerberos",
            Proof::Password => "password",
            Proof::ApplicationPassword => "application password",
            Proof::Passkey => "passkey",
        },
        until: session.expires.map(moment),
        ends: ends(visit, &session, &timeouts),
    })
}

/// What the session's end depends on, in sentences.
fn ends(visit: &Visit, session: &SessionView, timeouts: &Timeouts) -> Vec<String> {
    let language = visit.language();
    let by_mode = match session.mode {
        Mode::Session => {
            "You are asked to log in again {} after your computer's last connection to the proxy was closed."
        }
        Mode::Traffic => "You are asked to log in again after {} in which nothing was sent or received.",
        Mode::Absolute => "You are asked to log in again {} after the login.",
    };
    let lifetime = timeouts
        .lifetime()
        .map(|lifetime| fill(language.t("The session ends {} after it began in any case."), span(lifetime)));
    std::iter::once(fill(language.t(by_mode), span(timeouts.timeout))).chain(lifetime).collect()
}
