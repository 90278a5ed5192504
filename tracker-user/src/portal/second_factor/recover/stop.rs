//! Stopping a reset by mail before it takes effect: by whoever is logged in with their second factor, or has the mail that tells of it.
//!
//! Opening the page does nothing, as programs that look at mail open what is in it.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use serde::Deserialize;

use crate::audit::{Actor, FactorChange};
use crate::mail::Notice;
use crate::portal::login::secure;
use crate::portal::own::words::moment;
use crate::portal::page::{Page, answer};
use crate::portal::posted::Posted;
use crate::portal::second_factor::give::keep;
use crate::portal::second_factor::{HOME, Person};
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::types::Identity;

/// The page, to which the mail leads.
pub(super) const PATH: &str = "/second-factor/recover/stop";

/// See `second_factor/recover_stop.html`.
#[derive(askama::Template)]
#[template(path = "second_factor/recover_stop.html")]
struct Stop {
    page: Page,
    /// Whose reset waits, and when it takes effect; `None`: none waits.
    waits: Option<(String, String)>,
    /// From the mail; empty: whoever is logged in.
    id: String,
    /// It was stopped now.
    done: bool,
}

/// What the address or the form says.
#[derive(Default, Deserialize)]
pub(in crate::portal::second_factor) struct Wanted {
    #[serde(default)]
    id: String,
}

/// `GET /second-factor/recover/stop`
pub(in crate::portal::second_factor) async fn show(
    visit: Visit,
    State(site): State<Site>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let Query(Wanted { id }) = wanted.unwrap_or_default();
    if !visit.is_tls() {
        let is_id = id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let path = if is_id && !id.is_empty() { format!("{PATH}?id={id}") } else { PATH.to_owned() };
        return secure(&visit, &path);
    }
    if id.is_empty() && Person::of(&visit).is_none() {
        return Redirect::to(HOME).into_response();
    }
    page(&site, &visit, id, false)
}

fn page(site: &Site, visit: &Visit, id: String, done: bool) -> Response {
    let whose = whose(site, visit, &id);
    let waits = whose.and_then(|who| {
        let at = site.parts().factors.recovery_due(&who)?;
        Some((who.to_string(), moment(at)))
    });
    let status = if waits.is_none() && !done { StatusCode::NOT_FOUND } else { StatusCode::OK };
    answer(visit, status, &Stop { page: visit.page(), waits, id, done })
}

/// Whose reset it may stop: that of the mail's, or that of whoever is logged in by a second factor.
fn whose(site: &Site, visit: &Visit, id: &str) -> Option<Arc<Identity>> {
    if !id.is_empty() {
        return site.parts().factors.stop_by(id);
    }
    let session = visit.admin().or_else(|| visit.web())?;
    // Who has given the password alone may be the one who wants the reset.
    session.factor.is_some().then(|| Arc::clone(&session.identity))
}

/// `POST /second-factor/recover/stop`
pub(in crate::portal::second_factor) async fn stop(
    visit: Visit,
    State(site): State<Site>,
    Posted(Wanted { id }): Posted<Wanted>,
) -> Response {
    let (factors, notices) = (&site.parts().factors, &site.parts().notices);
    let Some(who) = whose(&site, &visit, &id) else { return page(&site, &visit, id, false) };
    let Some(row) = factors.stop_recovery(&who) else { return page(&site, &visit, id, false) };
    if let Err(not) = keep(&site, vec![row]).await {
        tracing::warn!(
            request = visit.number(),
            problem = not.why,
            "that a reset was stopped is not on disk"
        );
    }
    let actor = Some(Actor::on_portal(&who, visit.client()));
    factors.tell(&who, Some(visit.client()), FactorChange::RecoveryStopped, None, actor);
    let addresses = notices.addresses(&who);
    let client = Some(visit.client());
    notices.tell(&who, addresses, Notice::RecoveryStopped, client, visit.language(), Vec::new());
    page(&site, &visit, id, true)
}
