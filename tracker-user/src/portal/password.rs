//! A person's own password: changed by whoever knows the one before. Of the gateway's own users alone; those of a realm change
//! theirs in their domain.

mod words;

use std::borrow::Cow;

use askama::Template;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::get;
use http::StatusCode;
use http::header::{HeaderValue, RETRY_AFTER};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::login::{Refused, Typed, Wanted, back_to, begin, pages, secure, verify};
use super::page::{Page, answer};
use super::posted::Posted;
use super::site::Site;
use super::visit::Visit;
use crate::audit::Actor;
use crate::auth::Password;
use crate::auth::password::LocalUsers;
use crate::ops::{OpsError, Presence};
use crate::types::{Identity, LOCAL_DOMAIN, UserMessage};

/// See `password.html`.
#[derive(Template)]
#[template(path = "password.html")]
struct Form {
    page: Page,
    /// What went wrong, translated.
    problem: Option<(String, String)>,
    /// The login was right, and the password has to be changed first.
    must_change: bool,
    name: String,
    to: String,
    then: Then,
}

/// See `password_said.html`.
#[derive(Template)]
#[template(path = "password_said.html")]
struct Said {
    page: Page,
    heading: &'static str,
    /// Translated.
    message: String,
}

/// Where somebody goes who has changed their password.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Then {
    /// In, unless somebody else is.
    #[default]
    Page,
    /// In: they have come from logging in.
    Login,
    /// To the login of administrators.
    Admin,
}

impl Then {
    const fn word(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Login => "login",
            Self::Admin => "admin",
        }
    }
}

/// What the address says.
#[derive(Default, Deserialize)]
struct Asked {
    #[serde(default)]
    then: Then,
}

/// What the form says.
#[derive(Deserialize)]
struct Filled {
    #[serde(default)]
    name: String,
    #[serde(default)]
    current: Typed,
    #[serde(default)]
    new: Typed,
    #[serde(default)]
    repeat: Typed,
    #[serde(default)]
    to: String,
    #[serde(default)]
    then: Then,
}

pub(super) fn routes() -> Router<Site> {
    Router::new().route("/password", get(show).post(change))
}

/// `GET /password`
async fn show(visit: Visit, asked: Result<Query<Asked>, QueryRejection>) -> Response {
    if !visit.is_tls() {
        return secure(&visit, "/password");
    }
    let Query(Asked { then }) = asked.unwrap_or_default();
    let name = match visit.web().map(|web| &web.identity) {
        Some(who) if !who.is_local() => return elsewhere(&visit),
        Some(who) => who.user().to_owned(),
        None => String::new(),
    };
    Form { then, ..Form::empty(&visit, name) }.answer(&visit, StatusCode::OK)
}

/// The form for somebody whose password is right, and has to be changed before it is good for anything; `to`: where they wanted
/// to go.
pub(super) fn must_change(visit: &Visit, name: &str, to: &str) -> Response {
    let form = Form::empty(visit, name.to_owned());
    Form { must_change: true, to: to.to_owned(), then: Then::Login, ..form }.answer(visit, StatusCode::OK)
}

/// `POST /password`
async fn change(visit: Visit, State(site): State<Site>, Posted(filled): Posted<Filled>) -> Response {
    let Filled { name, current: Typed(current), new: Typed(new), repeat: Typed(repeat), to, then } = filled;
    let account = local_name(&name);
    let again = |status, heading, message| {
        let form = Form { to: to.clone(), then, ..Form::empty(&visit, name.clone()) };
        form.with(&visit, &heading, &message).answer(&visit, status)
    };
    // Before anybody is asked: it says nothing about who there is.
    let problem = if new != repeat {
        Some(UserMessage::new("The two new passwords differ. Type the same one twice."))
    } else if new == current {
        Some(UserMessage::new("The new password is the one that you have. Take another one."))
    } else {
        LocalUsers::judge(&account, &new).err().map(words::of)
    };
    if let Some(problem) = problem {
        return again(StatusCode::UNPROCESSABLE_ENTITY, NOT_CHANGED, problem);
    }
    let who = match verify(&site, &visit, &name, current).await {
        Ok(proved) if proved.identity.is_local() => proved.identity,
        Ok(_) => return elsewhere(&visit),
        Err(refused) if refused.must_change => Identity::local(&account),
        Err(Refused { status, heading, message, retry, must_change: _ }) => {
            let mut response = again(status, heading, message);
            if retry {
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            return response;
        }
    };
    let before = site.parts().ops.presence(visit.client()).await;
    let copy = Password::new(Zeroizing::new(new.reveal().to_owned()));
    let actor = Actor::on_portal(&who, visit.client());
    if let Err(error) = site.parts().ops.set_user_password(who.user(), copy, actor).await {
        // What has been changed all the same can be logged in with.
        if !matches!(error, OpsError::NotKept { .. }) {
            tracing::warn!(client = %visit.client(), request = visit.number(), %error, "a user could not change their password");
            let message = UserMessage::new("It could not be changed at this moment. Try again later.");
            return again(StatusCode::SERVICE_UNAVAILABLE, NOT_CHANGED, message);
        }
    }
    match then {
        Then::Admin => back_to("/admin/login"),
        Then::Page if !before.is_ok_and(|before| may_enter(&before, &who)) => said(
            &visit,
            CHANGED,
            &UserMessage::new(
                "Use the new one from now on. Wherever you were logged in, you have been logged out.",
            ),
        ),
        Then::Page | Then::Login => enter(&site, &visit, &name, new, &to).await,
    }
}

const CHANGED: &str = "Your password was changed";
const NOT_CHANGED: UserMessage = UserMessage::new("Your password was not changed");

/// Whether somebody who has changed their password is logged in from there: not where many sit, and nobody loses their place by it.
fn may_enter(before: &Presence, who: &Identity) -> bool {
    let mut session = before.session.iter();
    let is_others = before.is_somebody() && session.any(|session| *session.identity != *who);
    !before.is_shared && !is_others
}

/// Logs in with the new password.
async fn enter(site: &Site, visit: &Visit, name: &str, new: Password, to: &str) -> Response {
    let wanted = Wanted::find(site, visit, to);
    let message = match verify(site, visit, name, new).await {
        Ok(proved) => match begin(site, visit, proved).await {
            Ok(done) => return pages::welcome(site, visit, done, wanted),
            Err(not) => not.message(),
        },
        Err(refused) => refused.message,
    };
    said(visit, CHANGED, &message)
}

/// The page of somebody whose password this gateway does not keep.
fn elsewhere(visit: &Visit) -> Response {
    let message = UserMessage::new(
        "Your password is that of your domain. Change it there: at your workstation, or where your organisation says.",
    );
    said(visit, "Your password is not kept here", &message)
}

fn said(visit: &Visit, heading: &'static str, message: &UserMessage) -> Response {
    let message = visit.language().t(message.as_str()).to_owned();
    answer(visit, StatusCode::OK, &Said { page: visit.page(), heading, message })
}

impl Form {
    fn empty(visit: &Visit, name: String) -> Self {
        let (to, then) = (String::new(), Then::default());
        Self { page: visit.page(), problem: None, must_change: false, name, to, then }
    }

    fn with(self, visit: &Visit, heading: &UserMessage, message: &UserMessage) -> Self {
        let say = |message: &UserMessage| visit.language().t(message.as_str()).to_owned();
        Self { problem: Some((say(heading), say(message))), ..self }
    }

    fn answer(&self, visit: &Visit, status: StatusCode) -> Response {
        answer(visit, status, self)
    }
}

/// The local user's part of a name as it was typed: `local\user`, `user@local`, `user`.
fn local_name(typed: &str) -> Cow<'_, str> {
    let parts = typed.split_once('\\').or_else(|| typed.split_once('@').map(|(user, domain)| (domain, user)));
    match parts {
        Some((domain, user)) if domain.eq_ignore_ascii_case(LOCAL_DOMAIN) => user.into(),
        _ => typed.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_name_is_found_however_it_was_typed() {
        for typed in ["admin", "local\\admin", "LOCAL\\admin", "admin@local", "admin@Local"] {
            assert_eq!(local_name(typed), "admin", "{typed}");
        }
        assert_eq!(local_name("alice@EXAMPLE.TEST"), "alice@EXAMPLE.TEST");
    }
}
