//! Recovery by mail, for somebody whose password was right and who has lost their second factor: a code is mailed to their recovery
//! address, and resets the factor, at once or after a while in which that can be stopped ([`stop`]).
//!
//! Whether there is an address, or a code was mailed at all, the pages do not tell: whoever guesses passwords learns nothing.

pub(super) mod stop;

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use http::header::{HeaderMap, SET_COOKIE};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::give::{end_waiting, failed, keep, sent};
use super::pending::PendingLogin;
use crate::audit::{Actor, FactorChange};
use crate::auth::factors::{Recovered, Wrong};
use crate::mail::Notice;
use crate::portal::login::{Typed, secure};
use crate::portal::own::words::moment;
use crate::portal::page::{Page, answer};
use crate::portal::posted::Posted;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::portal::web_sessions::Purpose;
use crate::types::UserMessage;

/// Where it begins.
pub(super) const PATH: &str = "/second-factor/recover";

const WRONG: UserMessage = UserMessage::new(
    "This code is not right, or not good any more. Each is good for ten minutes and three tries, and the newest one alone.",
);

/// See `second_factor/recover.html`.
#[derive(askama::Template)]
#[template(path = "second_factor/recover.html")]
struct Recover {
    page: Page,
    /// Whose login is pending.
    who: String,
    problem: Option<String>,
    /// Whether any mail is sent from here.
    is_on: bool,
    /// Whether they have asked for a code.
    asked: bool,
}

/// See `second_factor/recover_said.html`.
#[derive(askama::Template)]
#[template(path = "second_factor/recover_said.html")]
struct Said {
    page: Page,
    /// When the reset takes effect.
    at: String,
    /// Where the first factor is given.
    login: &'static str,
}

/// `GET /second-factor/recover`
pub(super) async fn show(visit: Visit, State(site): State<Site>) -> Response {
    if !visit.is_tls() {
        return secure(&visit, PATH);
    }
    match site.pending_login(&visit) {
        Some(login) => page(&site, &visit, &login, false, None),
        None => Redirect::to(super::HOME).into_response(),
    }
}

fn page(
    site: &Site,
    visit: &Visit,
    login: &PendingLogin,
    asked: bool,
    problem: Option<UserMessage>,
) -> Response {
    let status = if problem.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK };
    let page = Recover {
        page: visit.page(),
        who: login.identity.to_string(),
        problem: problem.map(|problem| visit.language().say(&problem)),
        is_on: site.parts().notices.is_on(),
        asked,
    };
    answer(visit, status, &page)
}

#[derive(Deserialize)]
pub(super) struct Asked {}

/// `POST /second-factor/recover`: mails a code.
pub(super) async fn ask(visit: Visit, State(site): State<Site>, Posted(Asked {}): Posted<Asked>) -> Response {
    let Some(login) = site.pending_login(&visit) else { return Redirect::to(super::HOME).into_response() };
    let (factors, notices, who) = (&site.parts().factors, &site.parts().notices, &login.identity);
    if !notices.is_on() {
        return page(&site, &visit, &login, false, None);
    }
    match factors.mail_code(who, visit.time()) {
        Ok(mailed) => {
            notices.mail_code(who, mailed, visit.client(), visit.language());
            let actor = Some(Actor::on_portal(who, visit.client()));
            factors.tell(who, Some(visit.client()), FactorChange::RecoveryMailed, None, actor);
        }
        Err(not) => {
            tracing::info!(request = visit.number(), user = %who, %not, "no recovery code is mailed");
        }
    }
    // The same in every case, and as soon.
    page(&site, &visit, &login, true, None)
}

/// What the form says.
#[derive(Deserialize)]
pub(super) struct Filled {
    #[serde(default)]
    code: Typed,
}

/// `POST /second-factor/recover/code`
pub(super) async fn give(
    visit: Visit,
    State(site): State<Site>,
    headers: HeaderMap,
    Posted(Filled { code: Typed(code) }): Posted<Filled>,
) -> Response {
    let Some(login) = site.pending_login(&visit) else { return Redirect::to(super::HOME).into_response() };
    let (parts, who) = (site.parts(), Arc::clone(&login.identity));
    // Before the reset, which forgets where.
    let addresses = parts.notices.addresses(&who);
    let recovered = parts.factors.recover(&who, code.reveal(), visit.language().tag(), sent(&visit));
    let (said, notice, told, entries) = match recovered {
        Ok(Recovered::Now(entries)) => (None, Told::Recovered, FactorChange::Recovered, entries),
        Ok(Recovered::Later { at, stop, entries }) => {
            let path = Zeroizing::new(format!("{}?id={}", stop::PATH, *stop));
            (Some(at), Told::Waits(path), FactorChange::RecoveryWaits, entries)
        }
        Err(wrong) => {
            // Whether there is anything to reset is not told.
            let wrong = if wrong == Wrong::NotEnrolled { Wrong::Code } else { wrong };
            return match failed(&site, &visit, &headers, &login, wrong).await {
                Ok(message) => {
                    let message = if wrong == Wrong::Code { WRONG } else { message };
                    page(&site, &visit, &login, true, Some(message))
                }
                Err(over) => over,
            };
        }
    };
    if let Err(not) = keep(&site, entries).await {
        return super::give::not_admitted(&visit, &not);
    }
    let actor = Some(Actor::on_portal(&who, visit.client()));
    parts.factors.tell(&who, Some(visit.client()), told, None, actor);
    let notice = match (&notice, said) {
        (Told::Waits(path), Some(at)) => Notice::RecoveryWaits(at, path),
        _ => Notice::Recovered,
    };
    parts.notices.tell(&who, addresses, notice, Some(visit.client()), visit.language(), Vec::new());
    if login.purpose == Purpose::User {
        end_waiting(&site, &visit, &login).await;
    }
    parts.tracker.enrolled(Arc::clone(&who), parts.factors.enrolled(&who)).await;
    let mut response = match said {
        // To the first factor again, after which the second is set up anew.
        None => Redirect::to(first(&login)).into_response(),
        Some(at) => {
            let said = Said { page: visit.page(), at: moment(at), login: first(&login) };
            answer(&visit, StatusCode::OK, &said)
        }
    };
    response.headers_mut().extend(site.end_pending(&visit).map(|cookie| (SET_COOKIE, cookie)));
    response
}

/// What a user is told.
enum Told {
    Recovered,
    /// By which path it is stopped.
    Waits(Zeroizing<String>),
}

const fn first(login: &PendingLogin) -> &'static str {
    match login.purpose {
        Purpose::User => "/login",
        Purpose::Admin => "/admin/login",
    }
}
