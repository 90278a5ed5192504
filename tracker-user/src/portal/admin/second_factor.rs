//! Who has set up which further factors, and taking them away.

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
use crate::ops::{OpsError, SecondFactor, SetUp};
use crate::portal::page::{Page, answer};
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::session::Demand;
use crate::types::{ADMINISTRATOR, Identity, UserMessage};

const PATH: &str = "/admin/second-factor";

#[derive(Template)]
#[template(path = "admin/second_factor.html")]
struct List {
    page: Page,
    may_change: bool,
    asks_anybody: bool,
    users: Vec<Row>,
    administrator: Option<Row>,
    was_reset: bool,
}

struct Row {
    user: String,
    /// As the form names the user.
    typed: String,
    demand: &'static str,
    state: &'static str,
    since: String,
    used: String,
    passkeys: String,
    recovery_address: String,
    recovery_codes: usize,
    is_anything: bool,
    is_self: bool,
}

impl Row {
    fn new(visit: &Visit, of: &SecondFactor) -> Self {
        let set_up = of.set_up.clone().unwrap_or_default();
        let SetUp { authenticator, passkeys, recovery_address, recovery_codes, is_locked, .. } = set_up;
        let names: Vec<&str> = passkeys.iter().map(|of| of.name.as_str()).collect();
        let is_anything = of.set_up.as_ref().is_none_or(|set_up| *set_up != SetUp::default());
        let is_enrolled = authenticator.is_some() || !passkeys.is_empty();
        let state = match (&of.set_up, is_locked, is_enrolled) {
            (None, _, _) => "cannot be read",
            (Some(_), true, _) => "locked after too many wrong codes",
            (Some(_), false, true) => "set up",
            (Some(_), false, false) => "not set up",
        };
        Self {
            user: of.identity.to_string(),
            typed: of.identity.typed(),
            demand: match of.demand {
                None => "off",
                Some(Demand::IfEnrolled) => "optional",
                Some(Demand::Always) => "required",
            },
            state,
            since: authenticator.map_or_else(|| NONE.to_owned(), |of| moment(of.since)),
            used: authenticator.map_or_else(|| NONE.to_owned(), |of| moment(of.used)),
            passkeys: if names.is_empty() { NONE.to_owned() } else { names.join(", ") },
            recovery_address: recovery_address.unwrap_or_else(|| NONE.to_owned()),
            recovery_codes,
            is_anything,
            is_self: is_self(visit, &of.identity),
        }
    }
}

fn is_self(visit: &Visit, who: &Identity) -> bool {
    visit.admin().is_some_and(|present| *present.identity == *who)
}

/// What has just been done, as the page before tells.
#[derive(Deserialize)]
pub(super) struct Before {
    #[serde(default)]
    done: String,
}

pub(super) async fn list(
    State(site): State<Site>,
    Viewing(visit): Viewing,
    Asked(Before { done }): Asked<Before>,
) -> Response {
    let ops = &site.parts().ops;
    let mut users = match ops.second_factors().await {
        Ok(users) => users,
        Err(error) => return refused(&visit, &error, "/status"),
    };
    users.retain(|of| !of.identity.is_built_in_administrator());
    // The gateway's own, who may have set up nothing.
    let administrator = match ops.second_factor(&Identity::local(ADMINISTRATOR).typed()).await {
        Ok(found) => found.first().map(|of| Row::new(&visit, of)),
        Err(OpsError::NotFound(_)) => None,
        Err(error) => return refused(&visit, &error, "/status"),
    };
    let page = List {
        page: visit.page(),
        may_change: visit.role().may_change(),
        asks_anybody: site.parts().factors.settings().policy.asks_anybody(),
        users: users.iter().map(|of| Row::new(&visit, of)).collect(),
        administrator,
        was_reset: done == "reset",
    };
    answer(&visit, StatusCode::OK, &page)
}

/// Whose is taken away.
#[derive(Deserialize)]
pub(super) struct Named {
    user: String,
}

pub(super) async fn reset(State(site): State<Site>, change: Change<Named>) -> Response {
    let Change { visit, actor, who, form: Named { user } } = change;
    let user = user.trim();
    // Whoever has stolen an administrator's password has no second factor of theirs.
    if who.is_called(&user.into()) {
        let message = UserMessage::new(
            "You cannot do this to yourself: change your second factor on its own page, or ask another administrator.",
        );
        return visit.problem(StatusCode::CONFLICT, "It was not done", &message);
    }
    match site.parts().ops.reset_second_factor(user, actor).await {
        Ok(reset) => match reset.warning {
            Some(warning) => warned(&visit, &warning, PATH),
            None => see_other(&visit, &url(PATH, &[("done", "reset")])),
        },
        // Somebody else was faster.
        Err(OpsError::NotFound(_)) => see_other(&visit, PATH),
        Err(error) => refused(&visit, &error, PATH),
    }
}
