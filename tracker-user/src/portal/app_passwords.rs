//! Application passwords: what programs of somebody's who has a second factor use the proxy with. Each is shown once, on the page
//! after the form that makes it, and can be deleted at once. Whoever makes or deletes one has proved a factor a short while ago.

mod typed;

use askama::Template;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use http::StatusCode;
use serde::Deserialize;

use self::typed::Typed;
use super::login::secure;
use super::own::words::moment;
use super::page::{Page, answer, redirect};
use super::second_factor::{FreshFactor, Person, ask_first};
use super::site::Site;
use super::visit::Visit;
use crate::auth::application_passwords::View;
use crate::clock::wall_now;
use crate::links::shown;
use crate::ops::OpsError;
use crate::types::{UserMessage, show_network};

const PATH: &str = "/app-passwords";
const NEW: &str = "/app-passwords/new";

pub(super) fn routes() -> Router<Site> {
    Router::new()
        .route("/app-passwords", get(list))
        .route("/app-passwords/new", get(form).post(make))
        .route("/app-passwords/delete", post(delete))
}

/// An application password, as its owner sees it.
struct Row {
    id: String,
    name: String,
    created: String,
    /// When and from where it was last used.
    used: Option<(String, String)>,
    expires: Option<String>,
    is_expired: bool,
    networks: Vec<String>,
}

impl Row {
    fn new(of: View) -> Self {
        let View { id, name, created, expires, networks, used, .. } = of;
        Self {
            id,
            name,
            created: moment(created),
            used: used.map(|(at, from)| (moment(at), shown(from).to_string())),
            expires: expires.map(moment),
            is_expired: expires.is_some_and(|expires| expires <= wall_now()),
            networks: networks.iter().map(show_network).collect(),
        }
    }
}

/// See `app_passwords.html`.
#[derive(Template)]
#[template(path = "app_passwords.html")]
struct List {
    page: Page,
    who: String,
    /// Whether a second factor is set up: without one there are none.
    is_enrolled: bool,
    rows: Vec<Row>,
    was_deleted: bool,
    is_operator: bool,
}

/// See `app_password_new.html`.
#[derive(Template)]
#[template(path = "app_password_new.html")]
struct Form {
    page: Page,
    typed: Typed,
    /// What is wrong, translated.
    problem: Option<String>,
}

/// See `app_password_made.html`.
#[derive(Template)]
#[template(path = "app_password_made.html")]
struct Made {
    page: Page,
    /// With it a program logs in,
    user: String,
    /// and this: shown here, and never again.
    password: zeroize::Zeroizing<String>,
    row: Row,
}

/// What has just been done, as the page before tells.
#[derive(Default, Deserialize)]
struct Before {
    #[serde(default)]
    done: String,
}

/// Whether this person has a second factor set up.
fn is_enrolled(site: &Site, person: &Person) -> bool {
    !site.parts().factors.enrolled(person.identity()).is_empty()
}

/// `GET /app-passwords`
async fn list(
    visit: Visit,
    State(site): State<Site>,
    asked: Result<Query<Before>, QueryRejection>,
) -> Response {
    if !visit.is_tls() {
        return secure(&visit, PATH);
    }
    let Some(person) = Person::of(&visit) else { return Redirect::to("/login").into_response() };
    let Query(Before { done }) = asked.unwrap_or_default();
    let own = site.parts().ops.application_passwords_of(person.identity());
    let page = List {
        page: visit.page(),
        who: person.identity().to_string(),
        is_enrolled: is_enrolled(&site, &person),
        rows: own.into_iter().map(Row::new).collect(),
        was_deleted: done == "deleted",
        is_operator: person.is_operator(),
    };
    answer(&visit, StatusCode::OK, &page)
}

/// `GET /app-passwords/new`
async fn form(visit: Visit, State(site): State<Site>) -> Response {
    if !visit.is_tls() {
        return secure(&visit, NEW);
    }
    let Some(person) = Person::of(&visit) else { return Redirect::to("/login").into_response() };
    if !is_enrolled(&site, &person) {
        return redirect(&visit, StatusCode::FOUND, PATH);
    }
    if let Some(first) = ask_first(&site, &visit, &person, NEW) {
        return first;
    }
    let form = Form { page: visit.page(), typed: Typed::default(), problem: None };
    answer(&visit, StatusCode::OK, &form)
}

/// `POST /app-passwords/new`
async fn make(
    State(site): State<Site>,
    FreshFactor { visit, person, actor, form: typed }: FreshFactor<Typed>,
) -> Response {
    if !is_enrolled(&site, &person) {
        return redirect(&visit, StatusCode::SEE_OTHER, PATH);
    }
    let again = |typed: Typed, status, problem: &UserMessage| {
        let problem = Some(visit.language().say(problem));
        answer(&visit, status, &Form { page: visit.page(), typed, problem })
    };
    let new = match typed.read(wall_now()) {
        Ok(new) => new,
        Err(problem) => return again(typed, StatusCode::UNPROCESSABLE_ENTITY, &problem),
    };
    let who = std::sync::Arc::clone(person.identity());
    let user = typed::login_name(&who);
    match site.parts().ops.make_application_password(who, new, visit.client(), actor).await {
        Ok((password, view)) => {
            let page = Made {
                page: visit.page(),
                user,
                password: zeroize::Zeroizing::new(password.reveal().to_owned()),
                row: Row::new(view),
            };
            answer(&visit, StatusCode::OK, &page)
        }
        Err(OpsError::NotMade(not)) => again(typed, StatusCode::UNPROCESSABLE_ENTITY, &not.user_message()),
        Err(error) => {
            tracing::warn!(request = visit.number(), %error, "an application password could not be made");
            let message = UserMessage::new("It cannot be made at this moment. Try again later.");
            again(typed, StatusCode::SERVICE_UNAVAILABLE, &message)
        }
    }
}

/// Which one.
#[derive(Deserialize)]
struct Which {
    #[serde(default)]
    id: String,
}

/// `POST /app-passwords/delete`
async fn delete(
    State(site): State<Site>,
    FreshFactor { visit, person, actor, form: Which { id } }: FreshFactor<Which>,
) -> Response {
    let (who, client) = (std::sync::Arc::clone(person.identity()), Some(visit.client()));
    match site.parts().ops.delete_application_password(who, Some(id), client, actor).await {
        Ok(gone) if gone.warning.is_none() => {
            redirect(&visit, StatusCode::SEE_OTHER, "/app-passwords?done=deleted")
        }
        // It was deleted in another window.
        Err(OpsError::NotFound(_)) => redirect(&visit, StatusCode::SEE_OTHER, PATH),
        not => {
            let problem = match not {
                Ok(gone) => gone.warning.unwrap_or_default(),
                Err(error) => error.to_string(),
            };
            tracing::warn!(
                request = visit.number(),
                problem,
                "that an application password was deleted is not on disk"
            );
            let message = UserMessage::new(
                "It is accepted no more, but the disk took no note of it: a restart of the gateway may bring it back. Tell the \
                 help desk.",
            );
            visit.problem(StatusCode::SERVICE_UNAVAILABLE, "The deletion was not kept", &message)
        }
    }
}
