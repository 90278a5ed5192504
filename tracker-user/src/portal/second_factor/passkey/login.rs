//! Logging in with a passkey alone, as a user or to the administration: the device has made sure of its user.
//!
//! Who it is, the passkey says. What the gateway knows of them is asked first: a user of its own who is switched off, or whose password
//! has to be changed, is not let in. Of a realm's users nothing is asked of the directory.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use http::header::HeaderMap;
use serde::Deserialize;

use super::super::give::{finish, sent};
use super::super::pending::PendingLogin;
use super::{Place, Signed};
use crate::audit::{Ground, Refusal};
use crate::auth::factors::{Checked, PasskeyRefused};
use crate::portal::admin;
use crate::portal::login::{Wanted, pages};
use crate::portal::posted::Posted;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::portal::web_sessions::Purpose;
use crate::types::{Identity, Method, UserMessage};

/// What the form says.
#[derive(Deserialize)]
pub(super) struct Filled {
    #[serde(flatten)]
    signed: Signed,
    /// `admin`: to the administration.
    #[serde(default)]
    purpose: String,
    /// Where they want to go.
    #[serde(default)]
    to: String,
}

/// Why somebody is not let in whose passkey is good: a word, a sentence for the operator, and one for the person.
struct NotLetIn(&'static str, &'static str, UserMessage);

/// `POST /second-factor/passkey/login`
pub(super) async fn log_in(
    visit: Visit,
    State(site): State<Site>,
    headers: HeaderMap,
    Posted(Filled { signed, purpose, to }): Posted<Filled>,
) -> Response {
    let purpose = if purpose == "admin" { Purpose::Admin } else { Purpose::User };
    let message = match check(&site, &visit, &signed) {
        Ok((who, checked)) => match may_log_in(&site, &who, purpose) {
            Ok(()) => {
                // Nobody shows a passkey by accident, as a browser sends a ticket.
                site.parts().holds.release(visit.client());
                let login = PendingLogin::new(&visit, purpose, who, Method::Passkey, to);
                return finish(&site, &visit, &login, checked, false).await;
            }
            Err(NotLetIn(word, why, message)) => {
                site.parts().journal.submit(checked.entries, None);
                tell(&site, &visit, word, why, Some(&who));
                message
            }
        },
        Err(refused) => {
            if refused == PasskeyRefused::Unknown {
                tell(&site, &visit, "unknown-passkey", "nobody known has the passkey", None);
            }
            refused.user_message()
        }
    };
    match purpose {
        Purpose::Admin => admin::login::again(&site, &visit, StatusCode::FORBIDDEN, &to, &message),
        Purpose::User => {
            let wanted = Wanted::find(&site, &visit, &to);
            pages::once_more(&site, &visit, &headers, wanted, message).await
        }
    }
}

fn check(site: &Site, visit: &Visit, signed: &Signed) -> Result<(Arc<Identity>, Checked), PasskeyRefused> {
    let (place, answer) = (Place::of(visit), signed.answer()?);
    site.passkeys().check_any(&place.asking(), &signed.number, &answer, sent(visit))
}

fn may_log_in(site: &Site, who: &Identity, purpose: Purpose) -> Result<(), NotLetIn> {
    const HELP: UserMessage =
        UserMessage::new("You cannot log in with this passkey at present. Ask the help desk.");
    if site.parts().factors.settings().policy.demand(who).is_none() {
        return Err(NotLetIn("no-second-factor", "second factors are off for the user's domain", HELP));
    }
    if who.is_local() {
        match site.parts().local_users.user(who.user()) {
            None => return Err(NotLetIn("unknown-user", "there is no such local user any more", HELP)),
            Some(user) if user.disabled => {
                return Err(NotLetIn("disabled", "the local user is disabled", HELP));
            }
            Some(user) if user.must_change => {
                let message = "Your password has to be changed before you can log in with a passkey.";
                let why = "the local user has to change the password first";
                return Err(NotLetIn("must-change", why, UserMessage::new(message)));
            }
            Some(_) => {}
        }
    }
    if purpose == Purpose::Admin && !site.role_of(who).may_look() {
        let why = "the passkey is good, and the user is neither an administrator nor a viewer";
        return Err(NotLetIn("no-role", why, UserMessage::new("You may not administer this gateway.")));
    }
    Ok(())
}

fn tell(site: &Site, visit: &Visit, word: &'static str, why: &str, user: Option<&Identity>) {
    let method = Some(Method::Passkey);
    let refusal = Refusal { client: visit.client(), ground: Ground::Credentials(word), why, method, user };
    site.parts().audit.refused(&refusal);
}
