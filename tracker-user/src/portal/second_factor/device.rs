//! Browsers that users have told to be remembered. Never those of operators, and never for the administration.

use std::sync::Arc;

use http::HeaderValue;

use super::pending::PendingLogin;
use crate::audit::{Actor, FactorChange};
use crate::auth::factors::Terms;
use crate::portal::own::words::{fill, span};
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::portal::web_sessions::Purpose;
use crate::store::Entry;
use crate::types::{Identity, Method};

/// The cookie of a browser that is remembered.
pub(in crate::portal) const DEVICE_COOKIE: &str = "__Host-tracker-device";

/// A day, as people count.
const DAY: u64 = 86_400;

/// The terms on which a user's browsers are remembered; `None`: none is.
pub(super) fn terms<'a>(site: &Site, visit: &Visit, who: &'a Identity) -> Option<Terms<'a>> {
    let factors = &site.parts().factors;
    let keep = factors.settings().remember;
    if keep.is_zero() || site.role_of(who).may_look() {
        return None;
    }
    let generation = factors.account(who)?.generation;
    Some(Terms { who, generation, keep, now: visit.time() })
}

/// The sentence by which this browser can be remembered, in the visit's language.
pub(super) fn offer(site: &Site, visit: &Visit, login: &PendingLogin) -> Option<String> {
    if login.purpose != Purpose::User {
        return None;
    }
    let keep = terms(site, visit, &login.identity)?.keep;
    let language = visit.language();
    Some(match keep.as_secs() {
        secs if secs % DAY == 0 => {
            fill(language.t("Remember this browser for {} days: no code is asked for in it."), secs / DAY)
        }
        _ => fill(language.t("Remember this browser for {}: no code is asked for in it."), span(keep)),
    })
}

/// Remembers the browser of somebody who has given a factor: its cookie, and what says so on disk.
pub(super) fn remember(
    site: &Site,
    visit: &Visit,
    login: &PendingLogin,
) -> Option<(HeaderValue, Vec<Entry>)> {
    if login.purpose != Purpose::User {
        return None;
    }
    let terms = terms(site, visit, &login.identity)?;
    let devices = site.parts().factors.devices();
    let (secret, entries) = devices.remember(terms, visit.client(), visit.agent(), visit.device_secret())?;
    Some((set_cookie(&secret, terms.keep.as_secs())?, entries))
}

/// Tells of it, once it is so.
pub(super) fn tell(site: &Site, visit: &Visit, login: &PendingLogin) {
    let (who, client) = (&login.identity, visit.client());
    let actor = Some(Actor::on_portal(who, client));
    let what = FactorChange::DeviceRemembered;
    site.parts().factors.tell(who, Some(client), what, Some(visit.agent()), actor);
}

/// Whether this browser is one that the user has told to be remembered, and it is enough now: what says on disk that it was used.
pub(in crate::portal) fn known_device(
    site: &Site,
    visit: &Visit,
    who: &Arc<Identity>,
    method: Method,
) -> Option<Entry> {
    if !matches!(method, Method::Password | Method::Kerberos) {
        return None;
    }
    let secret = visit.device_secret()?;
    let terms = terms(site, visit, who)?;
    site.parts().factors.devices().used(terms, visit.client(), visit.agent(), secret)
}

fn set_cookie(secret: &str, age: u64) -> Option<HeaderValue> {
    let text = format!("{DEVICE_COOKIE}={secret}; Secure; HttpOnly; SameSite=Lax; Path=/; Max-Age={age}");
    HeaderValue::from_str(&text).ok()
}
