//! One's own login to the administration.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;

use super::access::Viewing;
use super::answer::{Asked, see_other, url};
use super::show::moment;
use crate::audit::{Event, TrailEntry};
use crate::clock::Anchor;
use crate::portal::page::{Page, answer};
use crate::portal::posted::Posted;
use crate::portal::site::Site;
use crate::portal::web_sessions::{ABSOLUTE, FRESH_FOR, IDLE};
use crate::types::{Role, UserMessage};

const PATH: &str = "/admin/account";

#[derive(Template)]
#[template(path = "admin/account.html")]
struct Account {
    page: Page,
    name: String,
    role: Role,
    is_local: bool,
    client: String,
    since: String,
    /// When the password was typed last.
    typed: String,
    fresh_until: String,
    ends: String,
    idle_minutes: u64,
    others: usize,
    ended: Option<String>,
}

/// What has just been done, as the page before tells.
#[derive(Deserialize)]
pub(super) struct Before {
    #[serde(default)]
    ended: String,
}

pub(super) async fn show(
    State(site): State<Site>,
    Viewing(visit): Viewing,
    Asked(Before { ended }): Asked<Before>,
) -> Response {
    let Some(present) = visit.admin() else { return Response::default() };
    let anchor = Anchor::now();
    let wall = |at| moment(anchor.wall(at));
    let account = Account {
        page: visit.page(),
        name: present.identity.to_string(),
        role: present.role,
        is_local: present.identity.is_local(),
        client: crate::links::shown(present.client).to_string(),
        since: wall(present.began),
        typed: wall(present.authenticated),
        fresh_until: wall(present.authenticated.after(FRESH_FOR)),
        ends: wall(present.began.after(ABSOLUTE)),
        idle_minutes: IDLE.as_secs() / 60,
        others: site.count_web_sessions(&visit).saturating_sub(1),
        ended: ended.parse::<u32>().ok().map(|count| count.to_string()),
    };
    answer(&visit, StatusCode::OK, &account)
}

#[derive(Deserialize)]
pub(super) struct Others {}

/// Ends one's own logins in other browsers. Viewers may, too, and nobody is asked for a password first: it takes away, and gives
/// nothing.
pub(super) async fn end_others(
    State(site): State<Site>,
    Viewing(visit): Viewing,
    Posted(Others {}): Posted<Others>,
) -> Response {
    let Some(present) = visit.admin() else { return Response::default() };
    match site.end_other_web_sessions(&visit).await {
        Ok(ended) => {
            for client in &ended {
                let event =
                    Event::admin_logout(Arc::clone(&present.identity), *client, present.role, "account");
                site.parts().audit.record(TrailEntry::now(event));
            }
            see_other(&visit, &url(PATH, &[("ended", &ended.len().to_string())]))
        }
        Err(error) => {
            tracing::warn!(%error, request = visit.number(), "the ends of logins to the pages are not on disk");
            let message = UserMessage::new(
                "They are logged out, but the disk took no note of it: a restart of the gateway may bring the logins back.",
            );
            visit.problem(StatusCode::SERVICE_UNAVAILABLE, "The logout was not kept", &message)
        }
    }
}
