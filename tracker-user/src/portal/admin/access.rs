//! Who may open a page of those that concern others, and where whoever may not is sent.

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse as _, Response};
use http::request::Parts as Head;
use http::{Method, StatusCode, Uri};

use super::answer::url;
use crate::portal::login::secure;
use crate::portal::page::redirect;
use crate::portal::site::Site;
use crate::portal::visit::Visit;
use crate::types::{Role, UserMessage};

/// Where administrators and viewers log in.
pub(super) const LOGIN: &str = "/admin/login";

/// A visit of somebody who may look at what concerns others, and change nothing by it.
pub(in crate::portal) struct Viewing(pub(in crate::portal) Visit);

impl FromRequestParts<Site> for Viewing {
    type Rejection = Response;

    async fn from_request_parts(head: &mut Head, site: &Site) -> Result<Self, Response> {
        let visit = Visit::from_request_parts(head, site).await.map_err(StatusCode::into_response)?;
        if let Some(instead) = admit(&visit, &head.method, &head.uri, Role::may_look) {
            return Err(instead);
        }
        Ok(Self(visit))
    }
}

/// A visit of somebody who may change something, at a page that is made for that alone. What changes something takes its form by
/// [`Change`](super::fresh::Change).
pub(super) struct Administering(pub(super) Visit);

impl FromRequestParts<Site> for Administering {
    type Rejection = Response;

    async fn from_request_parts(head: &mut Head, site: &Site) -> Result<Self, Response> {
        let visit = Visit::from_request_parts(head, site).await.map_err(StatusCode::into_response)?;
        if let Some(instead) = admit(&visit, &head.method, &head.uri, Role::may_change) {
            return Err(instead);
        }
        Ok(Self(visit))
    }
}

/// Nothing, where whoever it is `may`; else where they are sent, or what they are told.
pub(super) fn admit(visit: &Visit, method: &Method, uri: &Uri, may: fn(Role) -> bool) -> Option<Response> {
    let wanted = uri.path_and_query().map_or("", |wanted| wanted.as_str());
    if !visit.is_tls() {
        return Some(secure(visit, wanted));
    }
    if visit.admin().is_none() && visit.web().is_none() {
        // What was sent with a form is lost: they begin where they are led by default.
        return Some(if matches!(*method, Method::GET | Method::HEAD) {
            redirect(visit, StatusCode::FOUND, &url(LOGIN, &[("next", wanted)]))
        } else {
            redirect(visit, StatusCode::SEE_OTHER, LOGIN)
        });
    }
    if may(visit.role()) {
        return None;
    }
    let message = if visit.role().may_look() {
        UserMessage::new(
            "Viewers may look at everything, and change nothing. Ask an administrator of this gateway.",
        )
    } else {
        UserMessage::new(
            "This page is for the gateway's administrators. Whoever is one logs in at /admin/login.",
        )
    };
    Some(visit.problem(StatusCode::FORBIDDEN, "You may not do this", &message))
}

/// Where somebody wanted to go who had to log in first: a page of these alone, by its path. Anything else is the first of them.
pub(in crate::portal) fn next(wanted: &str) -> &str {
    const HOME: &str = "/status";
    let (path, query) = wanted.split_once('?').unwrap_or((wanted, ""));
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '.' | '_');
    let in_query = |c: char| is_plain(c) || matches!(c, '=' | '&' | '%' | '+' | ':' | '@' | '~' | ',' | '*');
    let ours = ["/status", "/admin", "/second-factor", "/app-passwords"]
        .iter()
        .any(|page| path.strip_prefix(page).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    let loops = path == LOGIN || path == super::LOGOUT || path == super::CONFIRM;
    let is_good = path.chars().all(is_plain) && query.chars().all(in_query) && !path.contains("..");
    if ours && is_good && !loops && !path.contains("//") && wanted.len() <= 1_000 { wanted } else { HOME }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_led_anywhere_but_to_a_page_of_these() {
        for wanted in [
            "/status",
            "/status/sessions?sort=user&page=2",
            "/admin/settings?q=time",
            "/admin/local-users/edit?name=J%C3%BCrgen+M",
        ] {
            assert_eq!(next(wanted), wanted);
        }
        for wanted in [
            "",
            "/",
            "//evil.test",
            "/\\evil.test",
            "https://evil.test/status",
            "/statusevil",
            "/status@evil.test",
            "/status//evil.test",
            "/status/../login",
            "/admin/login?next=/status",
            "/admin/logout",
            "/admin/confirm",
            "/admin\r\nLocation: https://evil.test",
            "/admin/settings?q=\"><script>",
            "/login",
        ] {
            assert_eq!(next(wanted), "/status", "{wanted:?}");
        }
        assert_eq!(next(&format!("/admin/{}", "x".repeat(1_000))), "/status");
    }
}
