//! The gateway's own users: who they are, and adding, changing and removing them. Nobody does to themselves what only another
//! administrator could take back.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use http::{StatusCode, Uri};
use serde::Deserialize;

use super::access::{Administering, Viewing};
use super::answer::{Asked, see_other, status_of, url};
use super::fresh::{Change, ask_first};
use super::notice::{refused, warned};
use super::show::{NONE, moment};
use crate::auth::password::local::LocalName;
use crate::ops::{LocalUser, OpsError, UserChanged};
use crate::portal::login::Typed;
use crate::portal::page::{Page, answer};
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::types::{Identity, Role, UserMessage};

const PATH: &str = "/admin/local-users";
const EDIT: &str = "/admin/local-users/edit";

struct Row {
    name: String,
    href: String,
    password_href: String,
    remove_href: String,
    role: Role,
    disabled: bool,
    must_change: bool,
    created: String,
    changed: String,
    last_login: String,
    is_self: bool,
    /// Whether they have set up a second factor.
    is_enrolled: bool,
    typed: String,
}

impl Row {
    fn new(site: &Site, visit: &Visit, user: &LocalUser) -> Self {
        let who = Identity::local(&user.name);
        let at = |path| url(path, &[("name", &user.name)]);
        Self {
            href: at(EDIT),
            password_href: at("/admin/local-users/password"),
            remove_href: at("/admin/local-users/remove"),
            role: user.role,
            disabled: user.disabled,
            must_change: user.must_change,
            created: moment(user.created),
            changed: moment(user.changed),
            last_login: user.last_login.map_or_else(|| NONE.to_owned(), moment),
            is_self: is_self(visit, &user.name),
            is_enrolled: !site.parts().factors.enrolled(&who).is_empty(),
            typed: who.typed(),
            name: user.name.clone(),
        }
    }

    const fn state(&self) -> &'static str {
        match (self.disabled, self.must_change) {
            (true, _) => "disabled",
            (false, true) => "has to change the password",
            (false, false) => "may log in",
        }
    }
}

/// Whether this local user is the one whose visit it is.
fn is_self(visit: &Visit, name: &str) -> bool {
    visit.admin().is_some_and(|present| means(name, &present.identity))
}

/// Whether a name means this user: as an order understands it, however its letters are composed.
fn means(name: &str, who: &Identity) -> bool {
    LocalName::parse(name).is_ok_and(|name| *who == Identity::local(name.as_str()))
}

#[derive(Template)]
#[template(path = "admin/local_users.html")]
struct List {
    page: Page,
    may_change: bool,
    users: Vec<Row>,
    removed: bool,
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
    let users = match site.parts().ops.local_users().await {
        Ok(users) => users.iter().map(|user| Row::new(&site, &visit, user)).collect(),
        Err(error) => return refused(&visit, &error, "/status"),
    };
    let may_change = visit.role().may_change();
    let page = List { page: visit.page(), may_change, users, removed: done == "removed" };
    answer(&visit, StatusCode::OK, &page)
}

/// Which user, and what has just been done to them.
#[derive(Deserialize)]
pub(super) struct Which {
    name: String,
    #[serde(default)]
    done: String,
}

#[derive(Template)]
#[template(path = "admin/local_user.html")]
struct One {
    page: Page,
    may_change: bool,
    user: Row,
    roles: [Role; 3],
    done: Option<&'static str>,
}

pub(super) async fn show(
    State(site): State<Site>,
    Viewing(visit): Viewing,
    Asked(Which { name, done }): Asked<Which>,
) -> Response {
    let user = match find(&site, &visit, &name).await {
        Ok(user) => user,
        Err(response) => return response,
    };
    let done = match done.as_str() {
        "added" => Some("The user was added."),
        "password" => Some("The user has another password, and was logged out everywhere."),
        "role" => Some("The user has another role."),
        "disabled" => Some("The user is disabled, and was logged out everywhere."),
        "enabled" => Some("The user may log in again."),
        _ => None,
    };
    let may_change = visit.role().may_change();
    let page = One { page: visit.page(), may_change, user, roles: Role::ALL, done };
    answer(&visit, StatusCode::OK, &page)
}

async fn find(site: &Site, visit: &Visit, name: &str) -> Result<Row, Response> {
    let users = site.parts().ops.local_users().await.map_err(|error| refused(visit, &error, PATH))?;
    let key = name.to_lowercase();
    let user = users.iter().find(|user| user.name.to_lowercase() == key);
    let missing = || {
        let shown = crate::outside::shown(name, crate::outside::NAME);
        refused(visit, &OpsError::NotFound(format!("there is no local user {shown}")), PATH)
    };
    user.map(|user| Row::new(site, visit, user)).ok_or_else(missing)
}

/// A form with a password, typed twice.
#[derive(Template)]
#[template(path = "admin/local_user_password.html")]
struct Form {
    page: Page,
    is_new: bool,
    name: String,
    role: Role,
    roles: [Role; 3],
    problem: Option<Wrong>,
}

/// What is wrong with which field.
struct Wrong {
    field: &'static str,
    text: String,
    /// The words are the operations' own, in English.
    is_english: bool,
}

impl Wrong {
    fn is_at(&self, field: &str) -> bool {
        self.field == field
    }
}

/// What is filled in before anything is typed.
#[derive(Deserialize)]
pub(super) struct Prefilled {
    #[serde(default)]
    name: String,
    #[serde(default)]
    role: Role,
}

pub(super) async fn add_form(
    Administering(visit): Administering,
    State(site): State<Site>,
    uri: Uri,
    Asked(Prefilled { name, role }): Asked<Prefilled>,
) -> Response {
    if let Some(response) = ask_first(&site, &visit, &uri) {
        return response;
    }
    form(&visit, StatusCode::OK, true, name, role, None)
}

pub(super) async fn password_form(
    Administering(visit): Administering,
    State(site): State<Site>,
    uri: Uri,
    Asked(Which { name, .. }): Asked<Which>,
) -> Response {
    if let Some(response) = ask_first(&site, &visit, &uri) {
        return response;
    }
    match find(&site, &visit, &name).await {
        Ok(user) => form(&visit, StatusCode::OK, false, user.name, user.role, None),
        Err(response) => response,
    }
}

fn form(
    visit: &Visit,
    status: StatusCode,
    is_new: bool,
    name: String,
    role: Role,
    problem: Option<Wrong>,
) -> Response {
    answer(visit, status, &Form { page: visit.page(), is_new, name, role, roles: Role::ALL, problem })
}

#[derive(Deserialize)]
pub(super) struct Filled {
    name: String,
    #[serde(default)]
    role: Role,
    #[serde(default)]
    password: Typed,
    #[serde(default, rename = "password-again")]
    again: Typed,
}

pub(super) async fn add(State(site): State<Site>, change: Change<Filled>) -> Response {
    let Change {
        visit,
        actor,
        form: Filled { name, role, password: Typed(password), again: Typed(again) },
        ..
    } = change;
    if password != again {
        return form(&visit, StatusCode::UNPROCESSABLE_ENTITY, true, name, role, Some(differ(&visit)));
    }
    match site.parts().ops.add_user(&name, password, role, actor).await {
        Ok(changed) => done(&visit, changed, "added"),
        Err(error) => form(&visit, status_of(&error), true, name, role, Some(wrong(&error))),
    }
}

pub(super) async fn password(State(site): State<Site>, change: Change<Filled>) -> Response {
    let Change {
        visit,
        actor,
        form: Filled { name, role, password: Typed(password), again: Typed(again) },
        ..
    } = change;
    if password != again {
        return form(&visit, StatusCode::UNPROCESSABLE_ENTITY, false, name, role, Some(differ(&visit)));
    }
    match site.parts().ops.set_user_password(&name, password, actor).await {
        Ok(changed) => done(&visit, changed, "password"),
        Err(error) => form(&visit, status_of(&error), false, name, role, Some(wrong(&error))),
    }
}

fn differ(visit: &Visit) -> Wrong {
    let text = visit.language().t("The two passwords differ. Type the same one twice.").to_owned();
    Wrong { field: "password-again", text, is_english: false }
}

fn wrong(error: &OpsError) -> Wrong {
    let field = match error {
        OpsError::BadUserName(_) | OpsError::UserExists(_) | OpsError::NotFound(_) => "name",
        OpsError::WeakPassword(_) => "password",
        _ => "form",
    };
    Wrong { field, text: error.to_string(), is_english: true }
}

#[derive(Deserialize)]
pub(super) struct NewRole {
    name: String,
    role: Role,
}

pub(super) async fn role(State(site): State<Site>, change: Change<NewRole>) -> Response {
    let Change { visit, actor, form: NewRole { name, role }, .. } = change;
    if is_self(&visit, &name) {
        return not_oneself(&visit);
    }
    finish(&visit, site.parts().ops.set_user_role(&name, role, actor).await, "role")
}

#[derive(Deserialize)]
pub(super) struct Named {
    name: String,
}

pub(super) async fn disable(State(site): State<Site>, change: Change<Named>) -> Response {
    let Change { visit, actor, form: Named { name }, .. } = change;
    if is_self(&visit, &name) {
        return not_oneself(&visit);
    }
    finish(&visit, site.parts().ops.disable_user(&name, actor).await, "disabled")
}

pub(super) async fn enable(State(site): State<Site>, change: Change<Named>) -> Response {
    let Change { visit, actor, form: Named { name }, .. } = change;
    finish(&visit, site.parts().ops.enable_user(&name, actor).await, "enabled")
}

#[derive(Template)]
#[template(path = "admin/local_user_remove.html")]
struct Remove {
    page: Page,
    user: Row,
}

pub(super) async fn remove_form(
    Administering(visit): Administering,
    State(site): State<Site>,
    Asked(Which { name, .. }): Asked<Which>,
) -> Response {
    if is_self(&visit, &name) {
        return not_oneself(&visit);
    }
    match find(&site, &visit, &name).await {
        Ok(user) => answer(&visit, StatusCode::OK, &Remove { page: visit.page(), user }),
        Err(response) => response,
    }
}

pub(super) async fn remove(State(site): State<Site>, change: Change<Named>) -> Response {
    let Change { visit, actor, form: Named { name }, .. } = change;
    if is_self(&visit, &name) {
        return not_oneself(&visit);
    }
    finish(&visit, site.parts().ops.remove_user(&name, actor).await, "removed")
}

fn not_oneself(visit: &Visit) -> Response {
    let message = UserMessage::new(
        "You cannot do this to yourself: another administrator can, or trackerctl on the gateway.",
    );
    visit.problem(StatusCode::CONFLICT, "It was not done", &message)
}

fn finish(visit: &Visit, outcome: Result<UserChanged, OpsError>, what: &'static str) -> Response {
    match outcome {
        Ok(changed) => done(visit, changed, what),
        Err(error) => refused(visit, &error, PATH),
    }
}

/// Back to the user, or to all where there is no such user any more. A warning has a page of its own: it must be read.
fn done(visit: &Visit, changed: UserChanged, what: &'static str) -> Response {
    match changed {
        UserChanged { warning: Some(warning), .. } => warned(visit, &warning, PATH),
        UserChanged { user: Some(user), .. } => {
            see_other(visit, &url(EDIT, &[("name", &user.name), ("done", what)]))
        }
        UserChanged { user: None, .. } => see_other(visit, &url(PATH, &[("done", what)])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oneself_is_meant_however_the_name_is_written() {
        let who = Identity::local("Müller");
        for name in ["Müller", "mÜLLER", "Mu\u{308}ller"] {
            assert!(means(name, &who), "{name:?}");
        }
        assert!(!means("Muller", &who) && !means("Müller", &Identity::new("Müller", "EXAMPLE.TEST", "")));
    }
}
