//! An authenticator is taken away by its user, where nothing demands one.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use serde::Deserialize;

use super::HOME;
use super::fresh::{FreshFactor, ask_first};
use super::give::keep;
use super::person::Person;
use super::recovery_codes::unable;
use crate::audit::FactorChange;
use crate::portal::login::secure;
use crate::portal::page::{Page, answer, redirect};
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::session::Demand;
use crate::types::{Factor, Identity};

/// See `second_factor/remove.html`.
#[derive(askama::Template)]
#[template(path = "second_factor/remove.html")]
struct Form {
    page: Page,
    who: String,
    /// Whether passkeys stay.
    has_passkey: bool,
}

/// Whether this user may do without their authenticator: where none is demanded, or a passkey is left.
pub(super) fn may_remove(site: &Site, who: &Identity) -> bool {
    let factors = &site.parts().factors;
    let enrolled = factors.enrolled(who);
    let demand = factors.settings().policy.demand(who);
    let is_demanded = demand != Some(Demand::IfEnrolled);
    enrolled.has(Factor::Totp) && demand.is_some() && (!is_demanded || enrolled.has(Factor::Passkey))
}

/// `GET /second-factor/remove`
pub(super) async fn form(visit: Visit, State(site): State<Site>) -> Response {
    if !visit.is_tls() {
        return secure(&visit, HOME);
    }
    let Some(person) = Person::of(&visit) else { return Redirect::to(HOME).into_response() };
    if !may_remove(&site, person.identity()) {
        return redirect(&visit, StatusCode::FOUND, HOME);
    }
    if let Some(first) = ask_first(&site, &visit, &person, "/second-factor/remove") {
        return first;
    }
    let form = Form {
        page: visit.page(),
        who: person.identity().to_string(),
        has_passkey: site.parts().factors.enrolled(person.identity()).has(Factor::Passkey),
    };
    answer(&visit, StatusCode::OK, &form)
}

#[derive(Deserialize)]
pub(super) struct Remove {}

/// `POST /second-factor/remove`
pub(super) async fn remove(
    State(site): State<Site>,
    FreshFactor { visit, person, actor, form: Remove {} }: FreshFactor<Remove>,
) -> Response {
    let (factors, who) = (&site.parts().factors, Arc::clone(person.identity()));
    if !may_remove(&site, &who) {
        return redirect(&visit, StatusCode::SEE_OTHER, HOME);
    }
    let Ok(row) = factors.unenrol(&who) else { return unable(&visit) };
    let (_, forgotten) = factors.devices().forget(&who, None);
    let kept = keep(&site, forgotten.into_iter().chain([row]).collect()).await;
    // It is gone from now on, also where the disk has not taken it.
    site.parts().tracker.enrolled(Arc::clone(&who), factors.enrolled(&who)).await;
    factors.tell(&who, Some(visit.client()), FactorChange::Removed, None, Some(actor));
    if let Err(not) = kept {
        tracing::warn!(
            request = visit.number(),
            problem = not.why,
            "the end of a second factor is not on disk"
        );
        return unable(&visit);
    }
    redirect(&visit, StatusCode::SEE_OTHER, "/second-factor?done=removed")
}
