//! Names of passkeys, and their end.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;

use super::super::fresh::FreshFactor;
use super::super::give::keep;
use super::super::manage::with_passkey_problem;
use super::super::recovery_codes::unable;
use super::super::{HOME, person::Person};
use crate::audit::FactorChange;
use crate::auth::factors::PasskeyRefused;
use crate::portal::page::redirect;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::store::Entry;

#[derive(Deserialize)]
pub(super) struct Rename {
    id: String,
    #[serde(default)]
    name: String,
}

/// `POST /second-factor/passkey/rename`
pub(super) async fn rename(
    State(site): State<Site>,
    FreshFactor { visit, person, form: Rename { id, name }, .. }: FreshFactor<Rename>,
) -> Response {
    match site.passkeys().rename(person.identity(), &id, &name) {
        Ok(row) => kept(&site, &visit, vec![row], "/second-factor?done=passkey-renamed").await,
        Err(refused) => not_done(&site, &visit, &person, &refused),
    }
}

#[derive(Deserialize)]
pub(super) struct Remove {
    id: String,
}

/// `POST /second-factor/passkey/remove`
pub(super) async fn remove(
    State(site): State<Site>,
    FreshFactor { visit, person, actor, form: Remove { id } }: FreshFactor<Remove>,
) -> Response {
    let (factors, who) = (&site.parts().factors, Arc::clone(person.identity()));
    let (name, row) = match site.passkeys().remove(&who, &id) {
        Ok(removed) => removed,
        Err(refused) => return not_done(&site, &visit, &person, &refused),
    };
    let enrolled = factors.enrolled(&who);
    // With the last factor browsers are forgotten: they were remembered for it.
    let forgotten = if enrolled.is_empty() { factors.devices().forget(&who, None).1 } else { Vec::new() };
    let rows = forgotten.into_iter().chain([row]).collect();
    let response = kept(&site, &visit, rows, "/second-factor?done=passkey-removed").await;
    site.parts().tracker.enrolled(Arc::clone(&who), enrolled).await;
    factors.tell(&who, Some(visit.client()), FactorChange::PasskeyRemoved, Some(&name), Some(actor));
    response
}

fn not_done(site: &Site, visit: &Visit, person: &Person, refused: &PasskeyRefused) -> Response {
    match refused {
        PasskeyRefused::Gone => redirect(visit, StatusCode::SEE_OTHER, HOME),
        refused => with_passkey_problem(site, visit, person, &refused.user_message()),
    }
}

/// On to this page once it is on disk.
async fn kept(site: &Site, visit: &Visit, rows: Vec<Entry>, to: &'static str) -> Response {
    match keep(site, rows).await {
        Ok(()) => redirect(visit, StatusCode::SEE_OTHER, to),
        Err(not) => {
            tracing::warn!(
                request = visit.number(),
                problem = not.why,
                "a change of a passkey is not on disk"
            );
            unable(visit)
        }
    }
}
