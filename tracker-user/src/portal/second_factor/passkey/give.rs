//! A passkey in place of a code: for a login that is pending, or before what is set up is changed.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use http::header::HeaderMap;
use serde::Deserialize;

use super::super::give::{failed, finish, sent};
use super::super::{HOME, code};
use super::{Place, Signed};
use crate::auth::factors::{Checked, PasskeyRefused};
use crate::portal::posted::Posted;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::types::Identity;

/// What the form says.
#[derive(Deserialize)]
pub(super) struct Filled {
    #[serde(flatten)]
    signed: Signed,
    /// `yes`: this browser is to be remembered.
    #[serde(default)]
    remember: String,
}

/// Whether what a form says is one of this user's passkeys.
pub(in crate::portal::second_factor) fn check(
    site: &Site,
    visit: &Visit,
    who: &Arc<Identity>,
    signed: &Signed,
) -> Result<Checked, PasskeyRefused> {
    let (place, answer) = (Place::of(visit), signed.answer()?);
    site.passkeys().check_own(who, &place.asking(), &signed.number, &answer, sent(visit))
}

/// `POST /second-factor/passkey/give`
pub(super) async fn give(
    visit: Visit,
    State(site): State<Site>,
    headers: HeaderMap,
    Posted(Filled { signed, remember }): Posted<Filled>,
) -> Response {
    let Some(login) = site.pending_login(&visit) else { return Redirect::to(HOME).into_response() };
    let wrong = match check(&site, &visit, &login.identity, &signed) {
        Ok(checked) => return finish(&site, &visit, &login, checked, remember == "yes").await,
        Err(PasskeyRefused::Wrong(wrong)) => wrong,
        Err(refused) => return code::ask(&site, &visit, &login, Some(refused.user_message())),
    };
    match failed(&site, &visit, &headers, &login, wrong).await {
        Ok(problem) => code::ask(&site, &visit, &login, Some(problem)),
        Err(over) => over,
    }
}
