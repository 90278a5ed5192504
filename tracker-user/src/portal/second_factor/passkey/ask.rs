//! What a script asks for before it asks the device.

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::{Deserialize, Serialize};

use super::super::fresh::is_fresh;
use super::super::person::Person;
use super::super::set_up::Who;
use super::{ADD, Place};
use crate::auth::factors::{Asked, PasskeyRefused};
use crate::portal::posted::Posted;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::types::UserMessage;

/// What it is for.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum For {
    /// A login that is pending.
    Give,
    /// A change that somebody makes of what they have set up.
    Confirm,
    /// A new passkey.
    Add,
    /// A login with a passkey alone.
    Login,
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    r#for: For,
}

/// What the script gets.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    /// This is what the device is asked.
    Asked(Asked),
    /// This is said to the person.
    Problem(String),
    /// This page is to be shown first.
    Go(String),
}

/// `POST /second-factor/passkey/ask`
pub(super) async fn ask(
    visit: Visit,
    State(site): State<Site>,
    Posted(Wanted { r#for: what }): Posted<Wanted>,
) -> Response {
    let (passkeys, place) = (site.passkeys(), Place::of(&visit));
    let asking = place.asking();
    let asked = match what {
        For::Login => passkeys.ask_for_any(&asking),
        For::Give => match site.pending_login(&visit) {
            Some(login) => passkeys.ask_for_own(&login.identity, &asking),
            None => return over(&visit),
        },
        For::Confirm => match Person::of(&visit) {
            Some(person) => passkeys.ask_for_own(person.identity(), &asking),
            None => return over(&visit),
        },
        For::Add => match Who::of(&site, &visit) {
            Some(Who::Person(person)) if !is_fresh(&site, &visit, &person) => {
                let first = Answer::Go(format!("/second-factor/confirm?next={ADD}"));
                return json(StatusCode::OK, &first);
            }
            Some(who) => passkeys.ask_for_new(who.identity(), &asking),
            None => return over(&visit),
        },
    };
    match asked {
        Ok(asked) => json(StatusCode::OK, &Answer::Asked(asked)),
        Err(refused) => problem(&visit, &refused),
    }
}

fn problem(visit: &Visit, refused: &PasskeyRefused) -> Response {
    said(visit, &refused.user_message())
}

/// Whoever it was is logged in no more, or not any longer at the place where they were.
fn over(visit: &Visit) -> Response {
    said(visit, &UserMessage::new("This page is not good any more. Open it again."))
}

fn said(visit: &Visit, message: &UserMessage) -> Response {
    json(StatusCode::FORBIDDEN, &Answer::Problem(visit.language().say(message)))
}

fn json(status: StatusCode, answer: &Answer) -> Response {
    match serde_json::to_string(answer) {
        Ok(text) => (status, [(CONTENT_TYPE, "application/json")], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
