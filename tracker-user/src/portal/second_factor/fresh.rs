//! Changes of what somebody has set up: who may make them, and that it is they who sit there.
//!
//! A login alone is no proof for that: who finds a browser that is logged in must not make the factor theirs. Whoever proved one a
//! while ago is asked for one once more, by a page in between that carries the change along. Whoever has set up nothing cannot
//! be asked for it; an operator then types their password once more.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, Query, Request, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::give::{keep, sent};
use super::passkey::{Offer, Signed, check};
use super::person::Person;
use super::{HOME, recovery_codes};
use crate::audit::Actor;
use crate::auth::factors::Wrong;
use crate::clock::boot_now;
use crate::portal::admin;
use crate::portal::field::{Fields, read};
use crate::portal::login::secure;
use crate::portal::page::{Page, answer, redirect};
use crate::portal::posted::Posted;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::portal::web_sessions::Purpose;
use crate::types::{Factor, Identity, UserMessage};

/// The page in between that leads on to another page.
const CONFIRM: &str = "/second-factor/confirm";
/// The field that the page in between adds,
const CODE: &str = "factor-code";
/// and the one that each page has anew.
const TOKEN: &str = "token";
/// A form of these is small.
const MOST_FIELDS: usize = 32;

/// A change that somebody who is logged in orders by a form, of what they have set up. They have proved a factor a short while
/// ago, or have none. Every page that changes something of it takes its form by this.
///
/// `T` is made of the form's fields, each of them text, as [`Change`](admin::fresh::Change) is. Nothing in them may be secret: the
/// page in between carries them.
pub(in crate::portal) struct FreshFactor<T> {
    /// The visit.
    pub(in crate::portal) visit: Visit,
    /// Who they are.
    pub(in crate::portal) person: Person,
    /// By whose order it is.
    pub(in crate::portal) actor: Actor,
    /// What the form says.
    pub(in crate::portal) form: T,
}

/// What has to be shown before something is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    Factor,
    Password,
}

fn needs(site: &Site, visit: &Visit, person: &Person) -> Needs {
    let is_enrolled = !site.parts().factors.enrolled(person.identity()).is_empty();
    match person.purpose {
        _ if is_enrolled && person.session.has_fresh_factor(boot_now()) => Needs::Nothing,
        _ if is_enrolled => Needs::Factor,
        Purpose::Admin if !visit.is_fresh() => Needs::Password,
        Purpose::Admin | Purpose::User => Needs::Nothing,
    }
}

/// Whether this person may change what they have set up, without being asked for anything: for what is no page. What is not
/// may be sent to the page in between, `/second-factor/confirm?next=PATH`.
pub(in crate::portal) fn is_fresh(site: &Site, visit: &Visit, person: &Person) -> bool {
    needs(site, visit, person) == Needs::Nothing
}

/// The page in between, before a page at `path` is shown whose form should not be asked about afterwards; `None`: show it.
pub(in crate::portal) fn ask_first(
    site: &Site,
    visit: &Visit,
    person: &Person,
    path: &str,
) -> Option<Response> {
    match needs(site, visit, person) {
        Needs::Nothing => None,
        Needs::Factor => {
            let onward = vec![("next".to_owned(), path.to_owned())];
            Some(ask(site, visit, person, CONFIRM, onward, None))
        }
        Needs::Password => Some(password(site, visit, path)),
    }
}

/// The page that asks an operator for their password once more.
fn password(site: &Site, visit: &Visit, path: &str) -> Response {
    let uri = path.parse().unwrap_or_default();
    admin::fresh::ask_first(site, visit, &uri).unwrap_or_else(|| redirect(visit, StatusCode::SEE_OTHER, path))
}

impl<T: DeserializeOwned> FromRequest<Site> for FreshFactor<T> {
    type Rejection = Response;

    async fn from_request(request: Request, site: &Site) -> Result<Self, Response> {
        let Some(visit) = request.extensions().get::<Visit>().cloned() else {
            return Err(StatusCode::INTERNAL_SERVER_ERROR.into_response());
        };
        let path = request.uri().path().to_owned();
        if !visit.is_tls() {
            return Err(secure(&visit, HOME));
        }
        let Some(person) = Person::of(&visit) else { return Err(Redirect::to("/login").into_response()) };
        let Posted(mut fields) = Posted::<Fields>::from_request(request, site).await?;
        fields.remove(TOKEN);
        let (typed, signed) = (fields.remove(CODE), Signed::take(&mut fields));
        if fields.len() > MOST_FIELDS {
            return Err(misread(&visit));
        }
        match (needs(site, &visit, &person), typed, signed) {
            (Needs::Nothing, ..) => {}
            (Needs::Password, ..) => return Err(password(site, &visit, HOME)),
            (Needs::Factor, _, Some(signed)) => {
                if let Err(problem) = prove_by_passkey(site, &visit, person.identity(), &signed).await {
                    return Err(ask(site, &visit, &person, &path, carried(&fields), Some(problem)));
                }
                site.note_factor(&visit, person.purpose);
            }
            (Needs::Factor, Some(code), None) => {
                if let Err(problem) = prove_factor(site, &visit, person.identity(), &code.0).await {
                    return Err(ask(site, &visit, &person, &path, carried(&fields), Some(problem)));
                }
                site.note_factor(&visit, person.purpose);
            }
            (Needs::Factor, None, None) => {
                return Err(ask(site, &visit, &person, &path, carried(&fields), None));
            }
        }
        let actor = person.actor(&visit);
        match read(fields) {
            Some(form) => Ok(Self { visit, person, actor, form }),
            None => Err(misread(&visit)),
        }
    }
}

fn misread(visit: &Visit) -> Response {
    let message = UserMessage::new("Go back, and begin again from the page before.");
    visit.problem(StatusCode::BAD_REQUEST, "This request makes no sense", &message)
}

/// Whether what was typed by somebody who is logged in is a code of theirs, or a recovery code; it is spent then, and that is on disk.
///
/// # Errors
/// What they are told.
pub(in crate::portal) async fn prove_factor(
    site: &Site,
    visit: &Visit,
    who: &Arc<Identity>,
    typed: &str,
) -> Result<(), UserMessage> {
    let checked = match recovery_codes::looks_like(typed) {
        true => recovery_codes::check(site, visit, who, typed),
        false => site.parts().factors.check_code(who, typed, sent(visit)),
    };
    let checked = checked.map_err(Wrong::user_message)?;
    keep(site, checked.entries).await.map_err(crate::portal::login::NotAdmitted::message)?;
    if checked.factor == Factor::RecoveryCode {
        recovery_codes::used(site, visit, who);
    }
    Ok(())
}

/// Whether what the device of somebody has signed who is logged in is good, and one of their passkeys; that it was used is on disk
/// then.
///
/// # Errors
/// What they are told.
pub(in crate::portal) async fn prove_by_passkey(
    site: &Site,
    visit: &Visit,
    who: &Arc<Identity>,
    signed: &Signed,
) -> Result<(), UserMessage> {
    let checked = check(site, visit, who, signed).map_err(|refused| refused.user_message())?;
    keep(site, checked.entries).await.map_err(crate::portal::login::NotAdmitted::message)
}

fn carried(fields: &Fields) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| (name.clone(), value.0.as_str().to_owned())).collect()
}

/// The page in between.
#[derive(askama::Template)]
#[template(path = "second_factor/confirm.html")]
struct Confirm {
    page: Page,
    who: String,
    action: String,
    carried: Vec<(String, String)>,
    problem: Option<String>,
    /// Whether they have an authenticator,
    has_code: bool,
    /// and passkeys.
    passkey: Option<Offer>,
}

fn ask(
    site: &Site,
    visit: &Visit,
    person: &Person,
    action: &str,
    carried: Vec<(String, String)>,
    problem: Option<UserMessage>,
) -> Response {
    let status = if problem.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    let enrolled = site.parts().factors.enrolled(person.identity());
    let page = Confirm {
        page: visit.page(),
        who: person.identity().to_string(),
        action: action.to_owned(),
        carried,
        problem: problem.map(|problem| visit.language().say(&problem)),
        has_code: enrolled.has(Factor::Totp),
        passkey: Offer::to_give(site, visit, person.identity()),
    };
    answer(visit, status, &page)
}

/// Where the page in between leads on to.
#[derive(Default, Deserialize)]
pub(super) struct Onward {
    #[serde(default)]
    next: String,
}

/// A page of ours that somebody may be led on to; anything else is the first of these.
fn next(wanted: &str) -> &str {
    let ours = [HOME, "/app-passwords"]
        .iter()
        .any(|page| wanted.strip_prefix(page).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    let is_plain = wanted.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '-'));
    if ours && is_plain && !wanted.contains("//") && wanted != CONFIRM { wanted } else { HOME }
}

/// `GET /second-factor/confirm`
pub(super) async fn show(
    visit: Visit,
    State(site): State<Site>,
    asked: Result<Query<Onward>, QueryRejection>,
) -> Response {
    let Query(Onward { next: wanted }) = asked.unwrap_or_default();
    if !visit.is_tls() {
        return secure(&visit, HOME);
    }
    let Some(person) = Person::of(&visit) else { return Redirect::to("/login").into_response() };
    let wanted = next(&wanted);
    ask_first(&site, &visit, &person, wanted).unwrap_or_else(|| redirect(&visit, StatusCode::FOUND, wanted))
}

/// `POST /second-factor/confirm`
pub(super) async fn confirmed(
    FreshFactor { visit, form: Onward { next: wanted }, .. }: FreshFactor<Onward>,
) -> Response {
    redirect(&visit, StatusCode::SEE_OTHER, next(&wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_between_leads_to_these_pages_alone() {
        for wanted in ["/second-factor", "/second-factor/set-up", "/app-passwords", "/app-passwords/new"] {
            assert_eq!(next(wanted), wanted);
        }
        for wanted in [
            "",
            "/",
            "//evil.test",
            "https://evil.test/second-factor",
            "/second-factorevil",
            "/second-factor//evil.test",
            "/second-factor/confirm",
            "/second-factor/../admin",
            "/second-factor?x",
            "/status",
        ] {
            assert_eq!(next(wanted), HOME, "{wanted:?}");
        }
    }
}
