//! What somebody has set up: the page that shows it, and leads to what changes it.

use axum::extract::Query;
use axum::extract::State;
use axum::extract::rejection::QueryRejection;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use serde::Deserialize;

use super::give::keep;
use super::passkey::Offer;
use super::person::Person;
use super::recovery_codes::unable;
use super::{HOME, address, device, remove};
use crate::audit::FactorChange;
use crate::auth::factors::Account;
use crate::portal::own::words::moment;
use crate::portal::page::{Page, answer, redirect};
use crate::portal::posted::Posted;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::session::Demand;
use crate::types::{Identity, UserMessage};

/// See `second_factor/manage.html`.
#[derive(askama::Template)]
#[template(path = "second_factor/manage.html")]
struct Manage {
    page: Page,
    who: String,
    /// What has just been done, in English.
    done: Option<&'static str>,
    /// Whether a factor is asked for in their domain,
    is_on: bool,
    /// and whether they must have one.
    is_demanded: bool,
    /// Whether anything is set up.
    is_enrolled: bool,
    /// It is there, and cannot be read.
    is_unreadable: bool,
    authenticator: Option<Shown>,
    may_remove: bool,
    passkeys: Vec<Passkey>,
    /// `None`: none are added here,
    passkey: Option<Offer>,
    /// and what was wrong with a change of one, translated.
    passkey_problem: Option<String>,
    /// The recovery address, hinted at,
    address: Option<String>,
    /// as it was typed,
    typed: String,
    /// what is wrong with that, translated,
    problem: Option<String>,
    /// and whether there must be one.
    needs_address: bool,
    /// How many recovery codes are left.
    codes: usize,
    /// Whether browsers can be remembered.
    may_remember: bool,
    devices: Vec<Browser>,
    /// Whether the page is an operator's.
    is_operator: bool,
    /// What they should think about with this recovery address.
    advice: Option<String>,
    /// When a reset by mail takes effect that waits.
    recovery_due: Option<String>,
}

/// An authenticator, as it is shown.
struct Shown {
    since: String,
    used: String,
    /// By how many steps its clock was ahead.
    drift: i64,
}

/// A passkey, as it is shown.
struct Passkey {
    /// By which it is known to its user: the credential's id, in base64url.
    id: String,
    name: String,
    since: String,
    used: Option<String>,
    /// It is a second factor, although passkeys are enough alone: its device does not find it by itself.
    needs_password: bool,
}

/// A browser that is remembered, as it is shown.
struct Browser {
    name: String,
    agent: String,
    address: String,
    since: String,
    used: String,
}

/// What has just been done, as the page before tells.
#[derive(Default, Deserialize)]
pub(super) struct Before {
    #[serde(default)]
    done: String,
}

/// The words of `done`, and what they mean.
const DONE: &[(&str, &str)] = &[
    ("removed", "Your authenticator app was removed. Your password is enough from now on."),
    ("address", "The recovery address was changed."),
    ("forgotten", "It is forgotten. In that browser a code is asked for again."),
    ("passkey-added", "The passkey was added."),
    ("passkey-renamed", "The passkey has another name."),
    ("passkey-removed", "The passkey was removed."),
];

/// The page of somebody who is logged in.
pub(super) fn show(site: &Site, visit: &Visit, person: &Person, asked: &Before) -> Response {
    let done = DONE.iter().find(|(word, _)| *word == asked.done).map(|(_, text)| *text);
    let page = Manage { done, ..manage(site, visit, person) };
    answer(visit, StatusCode::OK, &page)
}

/// The same, and what is wrong with the recovery address that was typed.
pub(super) fn with_problem(
    site: &Site,
    visit: &Visit,
    person: &Person,
    typed: &str,
    problem: &UserMessage,
) -> Response {
    let problem = Some(visit.language().say(problem));
    let page = Manage { typed: typed.to_owned(), problem, ..manage(site, visit, person) };
    answer(visit, StatusCode::UNPROCESSABLE_ENTITY, &page)
}

/// The same, and why a passkey is not changed.
pub(super) fn with_passkey_problem(
    site: &Site,
    visit: &Visit,
    person: &Person,
    problem: &UserMessage,
) -> Response {
    let passkey_problem = Some(visit.language().say(problem));
    let page = Manage { passkey_problem, ..manage(site, visit, person) };
    answer(visit, StatusCode::UNPROCESSABLE_ENTITY, &page)
}

fn manage(site: &Site, visit: &Visit, person: &Person) -> Manage {
    let (factors, who) = (&site.parts().factors, person.identity());
    let (settings, account) = (factors.settings(), factors.account(who));
    let enrolled = factors.enrolled(who);
    let is_unreadable = account.is_none() && !enrolled.is_empty();
    let demand = settings.policy.demand(who);
    let account = account.unwrap_or_default();
    Manage {
        page: visit.page(),
        who: who.to_string(),
        done: None,
        is_on: demand.is_some(),
        is_demanded: demand == Some(Demand::Always),
        is_enrolled: !enrolled.is_empty(),
        is_unreadable,
        authenticator: account.authenticator.as_ref().map(|own| Shown {
            since: moment(own.since),
            used: moment(own.used),
            // Once behind, somebody has typed slowly: they are told when it is so again.
            drift: own.drift.max(0),
        }),
        may_remove: remove::may_remove(site, who),
        passkeys: passkeys(&account, settings.passkey_alone),
        passkey: Offer::to_make(site, visit),
        passkey_problem: None,
        address: account.recovery_address.as_ref().map(|own| address::hinted(own)),
        typed: String::new(),
        problem: None,
        needs_address: settings.mails,
        codes: account.recovery_codes.len(),
        may_remember: device::terms(site, visit, who).is_some(),
        devices: browsers(site, visit, who),
        is_operator: site.role_of(who).may_look(),
        advice: account
            .recovery_address
            .as_ref()
            .and_then(|own| address::advice(site, who, own))
            .map(|advice| visit.language().say(&advice)),
        recovery_due: factors.recovery_due(who).map(moment),
    }
}

fn passkeys(account: &Account, are_alone: bool) -> Vec<Passkey> {
    let shown = |own: &crate::auth::factors::Passkey| Passkey {
        id: data_encoding::BASE64URL_NOPAD.encode(own.credential.cred_id().as_ref()),
        name: own.name.clone(),
        since: moment(own.since),
        used: own.used.map(moment),
        needs_password: are_alone && own.discoverable == Some(false),
    };
    account.passkeys.iter().map(shown).collect()
}

fn browsers(site: &Site, visit: &Visit, who: &Identity) -> Vec<Browser> {
    let Some(terms) = device::terms(site, visit, who) else { return Vec::new() };
    let listed = site.parts().factors.devices().list(terms);
    let shown = |found: crate::auth::factors::Found| Browser {
        name: found.name,
        agent: found.device.agent,
        address: found.device.address,
        since: moment(found.device.since),
        used: moment(found.device.used),
    };
    listed.into_iter().map(shown).collect()
}

/// What the form says: the browser's name, or `all`.
#[derive(Deserialize)]
pub(super) struct Forget {
    of: String,
}

/// `POST /second-factor/devices/forget`. Nobody is asked for a factor first: it takes away, and gives nothing.
pub(super) async fn forget(
    visit: Visit,
    State(site): State<Site>,
    Posted(Forget { of }): Posted<Forget>,
) -> Response {
    let Some(person) = Person::of(&visit) else { return Redirect::to(HOME).into_response() };
    let (factors, who) = (&site.parts().factors, person.identity());
    let (forgotten, entries) = factors.devices().forget(who, (of != "all").then_some(of.as_str()));
    if let Err(not) = keep(&site, entries).await {
        tracing::warn!(
            request = visit.number(),
            problem = not.why,
            "that browsers are forgotten is not on disk"
        );
        return unable(&visit);
    }
    for device in forgotten {
        let what = FactorChange::DeviceForgotten;
        factors.tell(who, Some(visit.client()), what, Some(&device.agent), Some(person.actor(&visit)));
    }
    redirect(&visit, StatusCode::SEE_OTHER, "/second-factor?done=forgotten")
}

/// What the address says; nothing, where it cannot be read.
pub(super) fn before(asked: Result<Query<Before>, QueryRejection>) -> Before {
    asked.map(|Query(asked)| asked).unwrap_or_default()
}
