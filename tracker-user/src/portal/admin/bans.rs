//! Who may send no password for a while, and lifting that.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;

use super::access::Viewing;
use super::answer::{Asked, see_other, status_of, url};
use super::fresh::Change;
use super::notice::refused;
use super::show::moment;
use crate::auth::regulation::Target;
use crate::links;
use crate::ops::BanView;
use crate::portal::page::{Page, answer};
use crate::portal::site::Site;
use crate::portal::visit::Visit;

const PATH: &str = "/admin/bans";

#[derive(Template)]
#[template(path = "admin/bans.html")]
struct Bans {
    page: Page,
    may_change: bool,
    bans: Vec<Row>,
    lifted: Option<String>,
    problem: Option<String>,
    of: String,
}

struct Row {
    scope: &'static str,
    client: Option<String>,
    user: Option<String>,
    is_unknown: bool,
    since: String,
    until: String,
    tries: u32,
    last_try: String,
    /// What lifts it, among others.
    of: Option<String>,
}

impl Row {
    fn new(ban: &BanView) -> Self {
        let client = ban.target.address().map(|client| match ban.target {
            // An IPv6 address stands for its network.
            Target::Address(_) if client.ip().is_ipv6() => format!("{}/64", links::shown(client)),
            _ => links::shown(client).to_string(),
        });
        let user = ban.identity.as_ref().map(ToString::to_string);
        let of = user.clone().or_else(|| client.clone());
        Self {
            scope: ban.target.scope(),
            is_unknown: user.is_none() && ban.target.name().is_some(),
            client,
            user,
            since: moment(ban.since),
            until: moment(ban.until),
            tries: ban.tries,
            last_try: moment(ban.last_try),
            of,
        }
    }
}

/// What has just been lifted, as the page before tells.
#[derive(Deserialize)]
pub(super) struct Before {
    #[serde(default)]
    lifted: String,
}

pub(super) async fn list(
    State(site): State<Site>,
    Viewing(visit): Viewing,
    Asked(Before { lifted }): Asked<Before>,
) -> Response {
    // A number, or it is none of ours.
    let lifted = lifted.parse::<u32>().ok().map(|count| count.to_string());
    page(&site, &visit, StatusCode::OK, lifted, None, String::new()).await
}

/// Which bans are meant: those of an address or of a user.
#[derive(Deserialize)]
pub(super) struct Lift {
    of: String,
}

pub(super) async fn lift(State(site): State<Site>, change: Change<Lift>) -> Response {
    let Change { visit, actor, form: Lift { of }, .. } = change;
    match site.parts().ops.lift_bans(of.trim().to_owned(), actor).await {
        Ok(lifted) => see_other(&visit, &url(PATH, &[("lifted", &lifted.bans.len().to_string())])),
        Err(error) => page(&site, &visit, status_of(&error), None, Some(error.to_string()), of).await,
    }
}

async fn page(
    site: &Site,
    visit: &Visit,
    status: StatusCode,
    lifted: Option<String>,
    problem: Option<String>,
    of: String,
) -> Response {
    let bans = match site.parts().ops.bans().await {
        Ok(bans) => bans.iter().map(Row::new).collect(),
        Err(error) => return refused(visit, &error, PATH),
    };
    let may_change = visit.role().may_change();
    answer(visit, status, &Bans { page: visit.page(), may_change, bans, lifted, problem, of })
}
