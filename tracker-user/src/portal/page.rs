//! Pages: what all of them carry, and the fields that go with them.

use askama::Template;
use axum::response::{Html, IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, CONTENT_LANGUAGE, HeaderName, HeaderValue, LOCATION, SET_COOKIE};
use http::{HeaderMap, StatusCode};

use super::visit::{FORM_COOKIE, Visit};
use crate::pages::Language;

/// What every template has as `page`.
pub(super) struct Page {
    /// In which language.
    pub(super) language: Language,
    /// When the request came, in the gateway's time zone.
    pub(super) time: String,
    /// Its number, as the log has it.
    pub(super) number: String,
    /// What each form carries as `token`.
    pub(super) token: String,
    visit: Visit,
}

/// A page that another leads to.
pub(super) struct Link {
    pub(super) href: &'static str,
    pub(super) text: &'static str,
}

impl Page {
    pub(super) fn new(visit: &Visit) -> Self {
        let zone = jiff::tz::TimeZone::system();
        Self {
            language: visit.language().clone(),
            time: visit.time().to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S %Z").to_string(),
            number: visit.number().to_owned(),
            token: visit.form_token(),
            visit: visit.clone(),
        }
    }

    /// What this English text is in the page's language.
    pub(super) fn t<'a>(&'a self, english: &'a str) -> &'a str {
        self.language.t(english)
    }

    /// Whose gateway it is.
    pub(super) fn organisation(&self) -> Option<&str> {
        self.visit.settings().brand.organisation.as_deref()
    }

    /// Whom people turn to.
    pub(super) fn contact(&self) -> Option<&str> {
        self.visit.settings().brand.contact.as_deref()
    }

    /// Whether there is a picture.
    pub(super) fn has_logo(&self) -> bool {
        self.visit.settings().brand.logo.is_some()
    }

    /// The operator who is logged in to the administration.
    pub(super) fn operator(&self) -> Option<String> {
        self.visit.admin().map(|session| crate::audit::Named::in_short(&session.identity))
    }

    /// What whoever it is may do, in a word.
    pub(super) fn role(&self) -> &'static str {
        self.visit.role().as_str()
    }

    /// Whether the operator has set up a second factor; `None` where none is asked for.
    pub(super) fn has_set_up(&self) -> Option<bool> {
        self.visit.has_set_up()
    }

    /// The pages that whoever it is may open.
    pub(super) fn links(&self) -> &'static [Link] {
        if self.visit.role().may_look() { super::admin::LINKS } else { &[] }
    }

    /// Whether this page is at `href`.
    pub(super) fn is_here(&self, href: &str) -> bool {
        self.visit.path() == href
    }
}

/// Marks an answer that has no end, as a stream of events: put it into the answer's extensions. It may take as long as it likes
/// as long as its reader reads; a reader that takes nothing for twenty seconds is left, as is whoever else does. It ends when the
/// gateway stops, and should end by itself when [`Site::is_still_in`](super::site::Site::is_still_in) no longer holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Endless;

/// Something went wrong.
#[derive(Template)]
#[template(path = "problem.html")]
pub(super) struct Problem {
    pub(super) page: Page,
    /// In English; the template translates it.
    pub(super) heading: &'static str,
    /// Translated.
    pub(super) message: String,
}

/// A request came under a name that is not ours. What is shown leads nowhere under that name.
#[derive(Template)]
#[template(path = "misdirected.html")]
struct Misdirected {
    page: Page,
    /// Where the pages are; `None`: nowhere under TLS.
    origin: Option<String>,
}

/// The answer to a request under a name that is not ours (RFC 9110, section 15.5.20).
pub(super) fn misdirected(visit: &Visit) -> Response {
    let page = Misdirected { page: visit.page(), origin: visit.settings().secure_origin() };
    answer(visit, StatusCode::MISDIRECTED_REQUEST, &page)
}

/// A sentence as the answer, for what is no browser.
pub(super) fn plain(visit: &Visit, status: StatusCode, english: &'static str) -> Response {
    let (language, number) = (visit.language(), visit.number());
    let text = format!("{}\n{} {number}\n", language.t(english), language.t("Request"));
    (status, text).into_response()
}

/// A page as the answer to a visit.
pub(super) fn answer(visit: &Visit, status: StatusCode, page: &impl Template) -> Response {
    let Ok(html) = page.render() else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let mut response = (status, Html(html)).into_response();
    if let Ok(tag) = HeaderValue::from_str(visit.language().tag()) {
        response.headers_mut().insert(CONTENT_LANGUAGE, tag);
    }
    if let Some(secret) = visit.new_form_cookie() {
        set_cookie(response.headers_mut(), FORM_COOKIE, secret, "");
    }
    carry(visit, response.headers_mut());
    response
}

/// The way to another page. Loading that one again sends no form again, where this answers one (`303`).
pub(super) fn redirect(visit: &Visit, status: StatusCode, to: &str) -> Response {
    let mut response = status.into_response();
    carry(visit, response.headers_mut());
    match HeaderValue::from_str(to) {
        Ok(to) => drop(response.headers_mut().insert(LOCATION, to)),
        Err(_) => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
    }
    response
}

/// The cookie that has turned during the visit.
fn carry(visit: &Visit, headers: &mut HeaderMap) {
    if let Some(cookie) = visit.turned_cookie() {
        headers.append(SET_COOKIE, cookie.clone());
    }
}

/// Sets a cookie for as long as the browser runs; `more` are further attributes, each with `; ` before it.
pub(super) fn set_cookie(headers: &mut HeaderMap, name: &str, value: &str, more: &str) {
    let text = format!("{name}={value}; Secure; HttpOnly; SameSite=Lax; Path=/{more}");
    if let Ok(value) = HeaderValue::from_str(&text) {
        headers.append(SET_COOKIE, value);
    }
}

/// The fields that every answer has, unless it has its own. Whether it demands TLS is
/// [`Settings::may_demand_tls`](super::settings::Settings::may_demand_tls)'s to say.
pub(super) fn complete(headers: &mut HeaderMap, demands_tls: bool) {
    const FIELDS: [(&str, &str); 6] = [
        (
            "content-security-policy",
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; \
             form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ];
    for (name, value) in FIELDS {
        headers.entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if demands_tls {
        let hsts = HeaderValue::from_static("max-age=31536000");
        headers.entry(HeaderName::from_static("strict-transport-security")).or_insert(hsts);
    }
}
