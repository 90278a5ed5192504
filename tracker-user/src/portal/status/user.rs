//! One user: everywhere they are logged in. All of that can be ended here.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;

use super::failed;
use super::query::encoded;
use super::session::{Ended, Nothing};
use super::table::{Head, Rows};
use super::words::{Clock, filled, number};
use crate::links::shown;
use crate::ops::{Column, Row, Snapshot, Table, UserRow};
use crate::portal::admin::Viewing;
use crate::portal::admin::fresh::Change;
use crate::portal::page::{Page, answer};
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::tracker::Whose;
use crate::types::{Identity, UserMessage};

/// So many sessions are shown.
const SHOWN: usize = 200;
/// What is told of each: what the table of all says but for the user.
fn columns() -> Vec<Column> {
    Table::Sessions.columns().iter().copied().filter(|column| *column != Column::User).collect()
}

#[derive(Template)]
#[template(path = "status_user.html")]
struct Shown {
    page: Page,
    user: String,
    realm: String,
    licences: String,
    link: String,
    caption: String,
    heads: Vec<Head>,
    rows: Rows,
    may_end: bool,
    /// So many are not shown.
    more: usize,
}

/// The page of a user, by the key of their identity.
pub(super) fn link(who: &Identity) -> String {
    format!("/status/user/{}", encoded(who.key()))
}

/// Somebody may write the address by hand, so that capitals are no matter.
fn found<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a UserRow> {
    let key = name.to_lowercase();
    let place = snapshot.users.binary_search_by(|row| row.identity.key().cmp(&key)).ok()?;
    snapshot.users.get(place)
}

/// The page that says that there is no such user, or none any more.
fn nobody(visit: &Visit) -> Response {
    let message = UserMessage::new("They may have logged out meanwhile. Look for them among the users.");
    visit.problem(StatusCode::NOT_FOUND, "This user is not logged in", &message)
}

pub(super) async fn show(
    Viewing(visit): Viewing,
    State(site): State<Site>,
    Path(name): Path<String>,
) -> Response {
    let snapshot = match site.parts().ops.snapshot().await {
        Ok(snapshot) => snapshot,
        Err(error) => return failed(&visit, &error),
    };
    let Some(user) = found(&snapshot, &name) else { return nobody(&visit) };
    let (language, clock) = (visit.language(), Clock::here());
    let own = || snapshot.sessions.iter().filter(|row| row.identity == user.identity);
    let rows = own().take(SHOWN).map(Row::Session);
    let columns = columns();
    let sums = (&user.usage, u64::from(user.licences));
    let shown = Shown {
        page: visit.page(),
        user: user.identity.to_string(),
        realm: user.identity.hidden_realm().unwrap_or_default().to_owned(),
        licences: number(user.licences.into()),
        link: link(&user.identity),
        caption: filled(language.t("Times are in {zone}"), &[("zone", &clock.zone(snapshot.taken))]),
        heads: columns.iter().copied().map(Head::plain).collect(),
        rows: Rows::of(language, &clock, &snapshot, &columns, rows, sums),
        may_end: visit.role().may_change(),
        more: own().count().saturating_sub(SHOWN),
    };
    answer(&visit, StatusCode::OK, &shown)
}

/// Ends every session of a user.
pub(super) async fn end(
    State(site): State<Site>,
    Path(name): Path<String>,
    Change { visit, actor, form: Nothing {}, .. }: Change<Nothing>,
) -> Response {
    let ops = &site.parts().ops;
    let who = match ops.snapshot().await {
        Ok(snapshot) => found(&snapshot, &name).map(|user| Arc::clone(&user.identity)),
        Err(error) => return failed(&visit, &error),
    };
    let Some(who) = who else { return nobody(&visit) };
    let of = who.to_string();
    match ops.logout(Whose::Identity(who), actor).await {
        Ok(ended) => {
            let at = ended.ended.iter().map(|session| shown(session.client).to_string());
            answer(&visit, StatusCode::OK, &Ended::new(&visit, of, at.collect(), ended.warning))
        }
        Err(error) => failed(&visit, &error),
    }
}
