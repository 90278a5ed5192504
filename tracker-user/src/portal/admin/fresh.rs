//! Changes: who may make them, and that it is still the same person who sits there.
//!
//! Whoever typed their password a while ago is asked for it once more before something is changed: by a page in between that
//! carries the change along. Whoever has a second factor gives that as well. What is secret in a form is not carried; such a form is filled in anew.

use std::sync::Arc;

use askama::Template;
use axum::extract::{FromRequest, Request};
use axum::response::Response;
use http::{StatusCode, Uri};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::access::{admit, next};
use super::answer::{misread, see_other, url};
use crate::audit::Actor;
use crate::auth::Password;
use crate::clock::boot_now;
use crate::portal::field::{Field, Fields, read};
use crate::portal::login::verify;
use crate::portal::page::{Page, answer};
use crate::portal::posted::Posted;
use crate::portal::second_factor::{Offer, Signed, prove_by_passkey, prove_factor};
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::portal::web_sessions::{Purpose, WebSession};
use crate::types::{Factor, Factors, Identity, LOCAL_DOMAIN, Method, Role, UserMessage};

/// The fields that the page in between adds.
const NAME: &str = "confirm-name";
const TYPED: &str = "confirm-password";
const CODE: &str = "confirm-code";
/// The field that says that the form is the visitor's own: each page has one anew.
const TOKEN: &str = "token";
/// Fields whose names begin with this are secret.
const SECRET: &str = "password";

/// A change that an administrator orders by a form, who has proved themselves a short while ago. Every page that changes something
/// takes its form by this.
///
/// `T` is made of the form's fields, each of them text: `String`, a type that is read from text, or [`Typed`](crate::portal::login::Typed); with
/// `#[serde(default)]` where a field may be missing. Fields whose names begin with `password` are secret. A form that has any is
/// at the path that it is sent to, so that it can be filled in anew there.
pub(in crate::portal) struct Change<T> {
    /// The visit: answer by this one, as its cookie may have turned.
    pub(in crate::portal) visit: Visit,
    /// Whose order it is.
    pub(in crate::portal) actor: Actor,
    /// Who that is.
    pub(in crate::portal) who: Arc<Identity>,
    /// What the form says.
    pub(in crate::portal) form: T,
}

impl<T: DeserializeOwned> FromRequest<Site> for Change<T> {
    type Rejection = Response;

    async fn from_request(request: Request, site: &Site) -> Result<Self, Response> {
        let Some(visit) = request.extensions().get::<Visit>().cloned() else {
            return Err(Response::default());
        };
        if let Some(instead) = admit(&visit, request.method(), request.uri(), Role::may_change) {
            return Err(instead);
        }
        let path = request.uri().path().to_owned();
        let Posted(fields) = Posted::<Fields>::from_request(request, site).await?;
        let (visit, fields) = prove(site, visit, &path, fields).await?;
        let (Some(actor), Some(present)) = (visit.actor(), visit.admin()) else {
            return Err(Response::default());
        };
        let who = Arc::clone(&present.identity);
        match read(fields) {
            Some(form) => Ok(Self { visit, actor, who, form }),
            None => Err(misread(&visit)),
        }
    }
}

/// Asks for the password, before a page is shown with a form that could not be carried along.
pub(in crate::portal) fn ask_first(site: &Site, visit: &Visit, uri: &Uri) -> Option<Response> {
    if visit.is_fresh() {
        return None;
    }
    let wanted = uri.path_and_query().map_or("", |wanted| wanted.as_str());
    Some(ask(site, visit, super::CONFIRM, vec![("next".into(), wanted.into())], None))
}

/// Whether the operator has to give a further factor with the password.
fn needs_factor(site: &Site, present: &WebSession) -> bool {
    let factors = &site.parts().factors;
    !present.has_fresh_factor(boot_now())
        && factors.missing(&present.identity, Method::Password, Factors::NONE).is_some()
}

/// The visit and the change of somebody who typed their password a short while ago, or with this very form.
async fn prove(
    site: &Site,
    visit: Visit,
    path: &str,
    mut fields: Fields,
) -> Result<(Visit, Fields), Response> {
    fields.remove(TOKEN);
    let (name, typed) = (fields.remove(NAME).unwrap_or_default(), fields.remove(TYPED));
    let (code, signed) = (fields.remove(CODE).unwrap_or_default(), Signed::take(&mut fields));
    if visit.is_fresh() {
        return Ok((visit, fields));
    }
    let refused = |problem| {
        let (action, carried) = carried(path, &fields);
        ask(site, &visit, &action, carried, problem)
    };
    let (Some(Field(typed)), Some(present)) = (typed, visit.admin()) else { return Err(refused(None)) };
    match verify(site, &visit, &name.0, Password::new(typed)).await {
        Ok(proved) if proved.identity == *present.identity => {}
        Ok(_) => return Err(refused(Some(UserMessage::new("This name and password were not accepted")))),
        Err(failure) => return Err(refused(Some(failure.message))),
    }
    let needs_factor = needs_factor(site, present);
    if needs_factor {
        let who = &present.identity;
        let proved = match &signed {
            Some(signed) => prove_by_passkey(site, &visit, who, signed).await,
            None => prove_factor(site, &visit, who, &code.0).await,
        };
        proved.map_err(|problem| refused(Some(problem)))?;
    }
    match site.step_up(&visit) {
        Ok(visit) => {
            if needs_factor {
                site.note_factor(&visit, Purpose::Admin);
            }
            Ok((visit, fields))
        }
        Err(_) => Err(misread(&visit)),
    }
}

/// Where a change goes on after the page in between, and what of it that carries: all of it where nothing is secret, else the way
/// to its form.
fn carried(path: &str, fields: &Fields) -> (String, Vec<(String, String)>) {
    let open: Vec<(&str, &str)> = fields
        .iter()
        .filter(|(name, _)| !name.starts_with(SECRET))
        .map(|(name, Field(value))| (name.as_str(), value.as_str()))
        .collect();
    if open.len() == fields.len() {
        let open = open.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        (path.to_owned(), open.collect())
    } else {
        (super::CONFIRM.to_owned(), vec![("next".to_owned(), url(path, &open))])
    }
}

/// The page in between.
#[derive(Template)]
#[template(path = "admin/confirm.html")]
struct Confirm {
    page: Page,
    name: String,
    action: String,
    carried: Vec<(String, String)>,
    problem: Option<String>,
    /// Whether a further factor is needed,
    needs_factor: bool,
    /// and whether they have an authenticator
    has_code: bool,
    /// and passkeys.
    passkey: Option<Offer>,
}

fn ask(
    site: &Site,
    visit: &Visit,
    action: &str,
    carried: Vec<(String, String)>,
    problem: Option<UserMessage>,
) -> Response {
    let name = visit.admin().map(|present| typed(&present.identity)).unwrap_or_default();
    let status = if problem.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    let problem = problem.map(|problem| visit.language().t(problem.as_str()).to_owned());
    let present = visit.admin();
    let enrolled = present.map_or(Factors::NONE, |present| site.parts().factors.enrolled(&present.identity));
    let page = Confirm {
        page: visit.page(),
        name,
        action: action.to_owned(),
        carried,
        problem,
        needs_factor: present.is_some_and(|present| needs_factor(site, present)),
        has_code: enrolled.has(Factor::Totp),
        passkey: present.and_then(|present| Offer::to_give(site, visit, &present.identity)),
    };
    answer(visit, status, &page)
}

/// How somebody most likely types their name, so that nobody else is meant by it. They may correct it.
fn typed(identity: &Identity) -> String {
    match (identity.is_local(), identity.domain()) {
        (false, "") => format!("{}@{}", identity.user(), identity.realm().to_uppercase()),
        (true, _) => format!("{}@{LOCAL_DOMAIN}", identity.user()),
        (false, _) => identity.to_string(),
    }
}

/// Where a page in between goes on that cannot carry the change itself.
#[derive(Deserialize)]
pub(super) struct Onward {
    next: String,
}

/// The password was typed once more.
pub(super) async fn confirmed(
    Change { visit, form: Onward { next: wanted }, .. }: Change<Onward>,
) -> Response {
    see_other(&visit, next(&wanted))
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::portal::login::Typed;

    fn fields(all: &[(&str, &str)]) -> Fields {
        let field = |text: &str| Field(Zeroizing::new(text.to_owned()));
        all.iter().map(|(name, value)| ((*name).to_owned(), field(value))).collect()
    }

    #[test]
    fn a_change_is_carried_along_and_a_secret_is_not() {
        let (action, carried_along) = carried("/admin/bans", &fields(&[("of", "192.0.2.1"), ("a", "b")]));
        assert_eq!(action, "/admin/bans");
        assert_eq!(carried_along, [("a".into(), "b".into()), ("of".into(), "192.0.2.1".to_owned())]);
        let secret = fields(&[("name", "b b"), ("password", "geheim"), ("password-again", "geheim")]);
        let (action, carried_along) = carried("/admin/local-users/password", &secret);
        assert_eq!(action, "/admin/confirm");
        let onward = "/admin/local-users/password?name=b%20b".to_owned();
        assert_eq!(carried_along, [("next".to_owned(), onward.clone())]);
        assert_eq!(next(&onward), onward, "it leads there");
    }

    #[test]
    fn a_name_is_typed_so_that_nobody_else_is_meant() {
        assert_eq!(typed(&Identity::local("Bob")), "Bob@local");
        assert_eq!(typed(&Identity::new("alice", "EXAMPLE.TEST", "")), "alice@EXAMPLE.TEST");
        assert_eq!(typed(&Identity::new("alice", "EXAMPLE.TEST", "EXAMPLE")), "EXAMPLE\\alice");
    }

    #[test]
    fn forms_are_read_into_their_types() {
        #[derive(Deserialize)]
        struct Form {
            name: String,
            role: Role,
            #[serde(default)]
            more: String,
            #[serde(default)]
            password: Typed,
        }
        let form: Form =
            read(fields(&[("name", "bob"), ("role", "viewer"), ("password", "x y"), ("other", "")])).unwrap();
        assert_eq!((form.name.as_str(), form.role, form.more.as_str()), ("bob", Role::Viewer, ""));
        assert_eq!(form.password.0.reveal(), "x y");
        assert!(read::<Form>(fields(&[("name", "bob"), ("role", "king")])).is_none());
        assert!(read::<Form>(fields(&[("role", "user")])).is_none());
    }
}
