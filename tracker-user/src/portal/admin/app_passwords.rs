//! Application passwords: who has which, and taking them away. Nobody can see a secret.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;

use super::access::Viewing;
use super::answer::{Asked, see_other, url};
use super::fresh::Change;
use super::notice::{refused, warned};
use super::show::{NONE, moment};
use crate::auth::application_passwords::View;
use crate::links::shown;
use crate::ops::OpsError;
use crate::portal::page::{Page, answer};
use crate::portal::site::Site;
use crate::types::{Identity, show_network};

const PATH: &str = "/admin/app-passwords";
/// So many are shown; of more, one looks for a user.
const SHOWN: usize = 500;

#[derive(Template)]
#[template(path = "admin/app_passwords.html")]
struct List {
    page: Page,
    may_change: bool,
    /// Whose are shown; empty: everybody's.
    user: String,
    rows: Vec<Row>,
    /// How many there are beside these.
    more: usize,
    revoked: bool,
}

struct Row {
    id: String,
    /// As people see them,
    user: String,
    /// and by which they are known.
    key: String,
    name: String,
    created: String,
    expires: Option<String>,
    networks: String,
    used: String,
    used_from: String,
}

impl Row {
    fn new(of: &View) -> Self {
        let View { id, owner, name, created, expires, networks, used } = of;
        Self {
            id: id.clone(),
            user: owner.to_string(),
            key: owner.key().to_owned(),
            name: name.clone(),
            created: moment(*created),
            expires: expires.map(moment),
            networks: networks.iter().map(show_network).collect::<Vec<_>>().join(" "),
            used: used.map_or_else(|| NONE.to_owned(), |(at, _)| moment(at)),
            used_from: used.map_or_else(|| NONE.to_owned(), |(_, from)| shown(from).to_string()),
        }
    }
}

/// Whose, and what has just been done.
#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    user: String,
    #[serde(default)]
    done: String,
}

pub(super) async fn list(
    State(site): State<Site>,
    Viewing(visit): Viewing,
    Asked(Wanted { user, done }): Asked<Wanted>,
) -> Response {
    let user = user.trim().to_owned();
    let ops = &site.parts().ops;
    let (views, all) = match user.as_str() {
        "" => ops.all_application_passwords(SHOWN),
        typed => match ops.application_passwords(typed.into()).await {
            Ok(mut views) => {
                let all = views.len();
                views.truncate(SHOWN);
                (views, all)
            }
            Err(error) => return refused(&visit, &error, PATH),
        },
    };
    let page = List {
        page: visit.page(),
        may_change: visit.role().may_change(),
        user,
        more: all.saturating_sub(views.len()),
        rows: views.iter().map(Row::new).collect(),
        revoked: done == "revoked",
    };
    answer(&visit, StatusCode::OK, &page)
}

/// Whose, and which.
#[derive(Deserialize)]
pub(super) struct Which {
    /// [`Identity::key`]
    of: String,
    id: String,
}

pub(super) async fn revoke(State(site): State<Site>, change: Change<Which>) -> Response {
    let Change { visit, actor, form: Which { of, id }, .. } = change;
    // Compared by its key alone.
    let who = Arc::new(Identity::restore("", "", &of));
    match site.parts().ops.delete_application_password(who, Some(id), None, actor).await {
        Ok(gone) => match gone.warning {
            None => see_other(&visit, &url(PATH, &[("done", "revoked")])),
            Some(warning) => warned(&visit, &warning, PATH),
        },
        // Somebody else has revoked it meanwhile.
        Err(OpsError::NotFound(_)) => see_other(&visit, PATH),
        Err(error) => refused(&visit, &error, PATH),
    }
}
