//! The operator's side of the second factor: who has what, resets, another key, errors, and that no secret stands in the clear.

mod errors;
mod keys;
mod resets;
mod secrets;

use anyhow::{Result, ensure};
use lab::Lab;
use lab::answers::list;
use lab::oath::Authenticator;
use lab::web::Web;
use serde_json::Value;

use crate::factor_codes::{OPTIONAL, give, is_in, leads_to, password};
use crate::portal_login::log_in;

/// Some administrate, and the realm's users may set up a second factor.
fn settings() -> String {
    format!(
        "[portal]\nadministrators = [\"carol@EXAMPLE.TEST\"]\nviewers = [\"bob@EXAMPLE.TEST\"]\n{OPTIONAL}"
    )
}

/// Whether a second factor is asked for behind this password.
fn is_asked(lab: &Lab, client: usize, user: &str) -> Result<bool> {
    let web = Web::new(lab, client);
    web.is_nobody()?;
    let done = log_in(&web, user, &format!("{user}-pw"))?;
    ensure!(done.code == 303, "{done:?}\n{}", done.text());
    Ok(leads_to(&done, crate::factor_codes::HOME))
}

/// Whether somebody can log in with both factors.
fn gets_in(lab: &Lab, client: usize, user: &str, own: &Authenticator) -> Result<bool> {
    let web = Web::new(lab, client);
    let page = password(&web, user)?;
    Ok(is_in(&give(&web, &page, &own.code()?)?, "/"))
}

/// The second-factor events of the trail: user, reason, and whose order it was.
fn told(lab: &Lab, reason: &str) -> Result<Vec<Value>> {
    let events = lab.gateway.ask(&["events", "--since", "1d", "--event", "second-factor"])?;
    let of = list(&events, "events").into_iter();
    Ok(of.filter(|event| event["reason"] == reason).cloned().collect())
}
