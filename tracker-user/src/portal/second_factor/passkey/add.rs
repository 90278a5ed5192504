//! Making a passkey: by whoever is logged in, or by somebody of whom a factor is demanded and who has none.

use std::sync::Arc;

use axum::extract::{FromRequest as _, FromRequestParts as _, Request, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use http::header::SET_COOKIE;
use serde::Deserialize;

use super::super::fresh::{FreshFactor, ask_first};
use super::super::give::{onward, sent};
use super::super::recovery_codes::{self, Drawn, Told, unable};
use super::super::set_up::{Who, prove_here};
use super::super::{HOME, address, complete};
use super::{ADD, Offer, Place, Signed};
use crate::audit::{Actor, FactorChange};
use crate::auth::factors::{Checked, LONGEST_NAME, MOST_PASSKEYS, NewPasskey};
use crate::portal::login::{NotAdmitted, secure};
use crate::portal::page::{Page, answer, redirect};
use crate::portal::posted::Posted;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::types::{Factor, UserMessage};

/// See `second_factor/passkey_add.html`.
#[derive(askama::Template)]
#[template(path = "second_factor/passkey_add.html")]
struct Form {
    page: Page,
    who: String,
    offer: Offer,
    name: String,
    longest: usize,
    /// Whether it is the first factor: the ways to recover are set up with it then.
    is_first: bool,
    /// The recovery address, as it was typed,
    address: String,
    /// and whether there must be one.
    needs_address: bool,
    /// Whether a login waits for it.
    is_demanded: bool,
    /// They have as many as they may have.
    is_full: bool,
    most: usize,
    problem: Option<String>,
}

/// What the form says.
#[derive(Default, Deserialize)]
struct Filled {
    #[serde(default)]
    name: String,
    #[serde(default)]
    address: String,
    #[serde(flatten)]
    signed: Signed,
}

/// `GET /second-factor/passkey/add`
pub(super) async fn show(visit: Visit, State(site): State<Site>) -> Response {
    if !visit.is_tls() {
        return secure(&visit, HOME);
    }
    let Some(who) = Who::of(&site, &visit) else { return Redirect::to(HOME).into_response() };
    let first = match &who {
        Who::Person(person) => ask_first(&site, &visit, person, ADD),
        Who::Pending(_) => None,
    };
    first.unwrap_or_else(|| form(&site, &visit, &who, Filled::default(), None))
}

fn form(site: &Site, visit: &Visit, who: &Who, filled: Filled, problem: Option<&UserMessage>) -> Response {
    let Some(offer) = Offer::to_make(site, visit) else {
        return redirect(visit, StatusCode::SEE_OTHER, HOME);
    };
    let (factors, identity) = (&site.parts().factors, who.identity());
    let has = factors.account(identity).map_or(0, |account| account.passkeys.len());
    let Filled { name, address, .. } = filled;
    let form = Form {
        page: visit.page(),
        who: identity.to_string(),
        offer,
        name,
        longest: LONGEST_NAME,
        is_first: factors.enrolled(identity).is_empty(),
        address,
        needs_address: factors.settings().mails,
        is_demanded: matches!(who, Who::Pending(_)),
        is_full: has >= MOST_PASSKEYS,
        most: MOST_PASSKEYS,
        problem: problem.map(|problem| visit.language().say(problem)),
    };
    let status = if problem.is_some() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    answer(visit, status, &form)
}

/// `POST /second-factor/passkey/add`
pub(super) async fn add(State(site): State<Site>, request: Request) -> Response {
    let (mut head, body) = request.into_parts();
    let visit = match Visit::from_request_parts(&mut head, &site).await {
        Ok(visit) => visit,
        Err(status) => return status.into_response(),
    };
    let request = Request::from_parts(head, body);
    match Who::of(&site, &visit) {
        None => redirect(&visit, StatusCode::SEE_OTHER, HOME),
        Some(who @ Who::Pending(_)) => match Posted::<Filled>::from_request(request, &site).await {
            Ok(Posted(filled)) => made(&site, &visit, who, filled).await,
            Err(refused) => refused,
        },
        Some(Who::Person(_)) => match FreshFactor::<Filled>::from_request(request, &site).await {
            Ok(FreshFactor { visit, person, form, .. }) => {
                made(&site, &visit, Who::Person(person), form).await
            }
            Err(first) => first,
        },
    }
}

/// The device has made one.
async fn made(site: &Site, visit: &Visit, who: Who, filled: Filled) -> Response {
    let (factors, identity) = (&site.parts().factors, Arc::clone(who.identity()));
    let is_first = factors.enrolled(&identity).is_empty();
    let address = match is_first.then(|| address::check(site, visit, &identity, &filled.address)).transpose()
    {
        Ok(address) => address.flatten(),
        Err(problem) => return form(site, visit, &who, filled, Some(&problem)),
    };
    let drawn = if is_first { recovery_codes::draw() } else { None };
    if is_first && drawn.is_none() {
        return unable(visit);
    }
    let (drawn, kept) = drawn.map(|Drawn { shown, kept }| (shown, kept)).unzip();
    let place = Place::of(visit);
    // Of two that are made at once one is the first: its codes are the ones that are shown.
    let mut shown = None;
    let added = filled.signed.answer().and_then(|answer| {
        let (asking, Signed { number, .. }) = (place.asking(), &filled.signed);
        let new = NewPasskey { number, answer, name: &filled.name };
        site.passkeys().add(&identity, &asking, new, sent(visit), |account| {
            account.recovery_address = address;
            account.recovery_codes = kept.unwrap_or_default();
            shown = drawn;
        })
    });
    let row = match added {
        Ok(row) => row,
        Err(refused) => return form(site, visit, &who, filled, Some(&refused.user_message())),
    };
    let checked = Checked { factor: Factor::Passkey, drift: 0, entries: vec![row] };
    let done = added_now(site, visit, &who, checked).await;
    let actor = Some(Actor::on_portal(&identity, visit.client()));
    let name = Some(filled.name.trim());
    factors.tell(&identity, Some(visit.client()), FactorChange::PasskeyAdded, name, actor);
    site.parts().tracker.enrolled(Arc::clone(&identity), factors.enrolled(&identity)).await;
    let (onward, cookies, problem) = match done {
        Ok((onward, cookies)) => (onward, cookies, None),
        Err(not) => (HOME.to_owned(), Vec::new(), Some(visit.language().say(&not.message))),
    };
    let mut response = match (shown, &problem) {
        (Some(codes), _) => {
            recovery_codes::show(visit, codes, Told { is_set_up: true, drift: 0, problem, onward })
        }
        (None, None) => redirect(visit, StatusCode::SEE_OTHER, "/second-factor?done=passkey-added"),
        (None, Some(_)) => unable(visit),
    };
    for cookie in cookies {
        response.headers_mut().append(SET_COOKIE, cookie);
    }
    response
}

/// It is added: a login that has waited for it becomes one by it; of whoever is logged in their session here has proved it. On disk when
/// this returns. Where it goes on, and the cookies of the answer.
async fn added_now(
    site: &Site,
    visit: &Visit,
    who: &Who,
    checked: Checked,
) -> Result<(String, Vec<http::HeaderValue>), NotAdmitted> {
    match who {
        Who::Pending(login) => {
            let to = onward(site, visit, login);
            let cookies = complete(site, visit, login, checked).await?;
            Ok((to.url, cookies))
        }
        Who::Person(person) => {
            prove_here(site, visit, person.identity(), checked).await?;
            site.note_factor(visit, person.purpose);
            Ok((HOME.to_owned(), Vec::new()))
        }
    }
}
