//! One request, and who it comes from, as far as that is known.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse as _, Response};
use http::header::{ACCEPT_LANGUAGE, COOKIE, USER_AGENT};
use http::request::Parts as Head;
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use ring::hmac;

use super::page::{Page, Problem, answer};
use super::second_factor::{DEVICE_COOKIE, PENDING_COOKIE};
use super::settings::Settings;
use super::site::Site;
use super::web_sessions::{Purpose, WebSession};
use crate::audit::Actor;
use crate::auth::Channel;
use crate::clock::boot_now;
use crate::pages::Language;
use crate::types::{ClientAddr, Role, UserMessage};

/// The cookie of a form that somebody fills in who is not logged in to the pages.
pub(super) const FORM_COOKIE: &str = "__Host-tracker-form";

/// What is known of the connection that a request comes on.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    /// The other end: the client, or a proxy in between.
    pub(super) peer: ClientAddr,
    /// Whether it is under TLS.
    pub(super) is_tls: bool,
    /// What tickets must be made for.
    pub(super) channel: Channel,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct Visit(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    number: String,
    time: Timestamp,
    client: ClientAddr,
    arrived: Arrived,
    host: String,
    authority: String,
    path: String,
    language: Language,
    settings: Arc<Settings>,
    user: Option<Known>,
    admin: Option<Known>,
    pending: Option<String>,
    device: Option<String>,
    agent: String,
    set_up: Option<bool>,
    turned: Option<HeaderValue>,
    form: Option<String>,
    fresh_form: bool,
    key: hmac::Key,
}

/// A secret that came as a cookie, and the login that it stands for.
#[derive(Clone)]
struct Known {
    secret: String,
    session: Arc<WebSession>,
}

/// What a visit is made of.
pub(super) struct Coming<'a> {
    pub(super) number: String,
    pub(super) time: Timestamp,
    pub(super) client: ClientAddr,
    pub(super) arrived: Arrived,
    /// Without a port; see [`Visit::host`].
    pub(super) host: String,
    /// With it.
    pub(super) authority: String,
    /// Whether it is known whom it comes from and by which name: of any other request no cookie is looked at.
    pub(super) is_judged: bool,
    pub(super) path: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) key: hmac::Key,
    pub(super) settings: Arc<Settings>,
}

impl Visit {
    pub(super) async fn new(site: &Site, coming: Coming<'_>) -> Self {
        let Coming {
            number,
            time,
            client,
            arrived,
            host,
            authority,
            is_judged,
            path,
            headers,
            key,
            settings,
        } = coming;
        let accepted = headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        let language = site.parts().languages.choose(accepted);
        // Under TLS alone: elsewhere others could read and write them.
        let cookie = |name| cookie(headers, name).filter(|_| arrived.is_tls && is_judged).map(str::to_owned);
        let known = async |purpose: Purpose| {
            let secret = cookie(purpose.cookie())?;
            let session = site.find_web_session(&secret, client, purpose).await?;
            Some(Known { secret, session })
        };
        let (user, admin) = (known(Purpose::User).await, known(Purpose::Admin).await);
        let (pending, device) = (cookie(PENDING_COOKIE), cookie(DEVICE_COOKIE));
        let agent = agent(headers);
        let set_up = admin.as_ref().and_then(|known| set_up(site, &known.session));
        let known = cookie(FORM_COOKIE).filter(|value| value.len() == 32);
        let fresh_form = known.is_none();
        let form = known.or_else(|| if arrived.is_tls && is_judged { random() } else { None });
        Self(Arc::new(Inner {
            number,
            time,
            client,
            arrived,
            host,
            authority,
            path: path.to_owned(),
            language,
            settings,
            user,
            admin,
            pending,
            device,
            agent,
            set_up,
            turned: None,
            form,
            fresh_form,
            key,
        }))
    }

    /// The number by which the log knows the request.
    pub(super) fn number(&self) -> &str {
        &self.0.number
    }

    /// When it came.
    pub(super) fn time(&self) -> Timestamp {
        self.0.time
    }

    /// The address that the proxy would know the client by.
    pub(super) fn client(&self) -> ClientAddr {
        self.0.client
    }

    /// The other end of its connection: the client, or a proxy in front.
    pub(super) fn peer(&self) -> ClientAddr {
        self.0.arrived.peer
    }

    /// Whether it came under TLS.
    pub(super) fn is_tls(&self) -> bool {
        self.0.arrived.is_tls
    }

    /// What tickets must be made for.
    pub(super) fn channel(&self) -> Channel {
        self.0.arrived.channel.clone()
    }

    /// The name by which the client reached this host, without a port.
    pub(super) fn host(&self) -> &str {
        &self.0.host
    }

    /// What browsers name as the origin of this very page: `https://gateway.example.test:4081`.
    pub(super) fn origin(&self) -> String {
        let scheme = if self.is_tls() { "https" } else { "http" };
        format!("{scheme}://{}", self.0.authority)
    }

    /// The path that was asked for.
    pub(super) fn path(&self) -> &str {
        &self.0.path
    }

    /// The language of the answer.
    pub(super) fn language(&self) -> &Language {
        &self.0.language
    }

    /// What the portal goes by, the same for the whole request.
    pub(super) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// The login to the pages of whoever is logged in to the proxy here, as a user.
    pub(super) fn web(&self) -> Option<&Arc<WebSession>> {
        self.web_session(Purpose::User)
    }

    /// The login to the pages of an administrator or a viewer.
    pub(super) fn admin(&self) -> Option<&Arc<WebSession>> {
        self.web_session(Purpose::Admin)
    }

    /// The login to the pages for this purpose.
    pub(super) fn web_session(&self, purpose: Purpose) -> Option<&Arc<WebSession>> {
        self.known(purpose).map(|known| &known.session)
    }

    /// The secret of its cookie.
    pub(super) fn web_secret(&self, purpose: Purpose) -> Option<&str> {
        self.known(purpose).map(|known| known.secret.as_str())
    }

    /// The secret of the login whose second factor has not come yet.
    pub(super) fn pending_secret(&self) -> Option<&str> {
        self.0.pending.as_deref()
    }

    /// The secret of this browser, where a user has told it to be remembered.
    pub(super) fn device_secret(&self) -> Option<&str> {
        self.0.device.as_deref()
    }

    /// What the browser says it is, in so many characters that it can be shown.
    pub(super) fn agent(&self) -> &str {
        &self.0.agent
    }

    /// Whether the operator who is logged in has set up a second factor; `None` where none is asked for.
    pub(super) fn has_set_up(&self) -> Option<bool> {
        self.0.set_up
    }

    fn known(&self, purpose: Purpose) -> Option<&Known> {
        match purpose {
            Purpose::User => self.0.user.as_ref(),
            Purpose::Admin => self.0.admin.as_ref(),
        }
    }

    /// The same visit of an operator whose cookie has another secret from now on.
    pub(super) fn turned(&self, secret: String, session: WebSession, cookie: HeaderValue) -> Self {
        let admin = Some(Known { secret, session: Arc::new(session) });
        Self(Arc::new(Inner { admin, turned: Some(cookie), ..(*self.0).clone() }))
    }

    /// The operator's cookie that the answer sets, where it has turned during the visit.
    pub(super) fn turned_cookie(&self) -> Option<&HeaderValue> {
        self.0.turned.as_ref()
    }

    /// What whoever it is may do.
    pub(super) fn role(&self) -> Role {
        self.admin().map_or(Role::User, |session| session.role)
    }

    /// Whether an operator has given their password so short a time ago that they may change something: a change needs it.
    pub(super) fn is_fresh(&self) -> bool {
        self.admin().is_some_and(|session| session.is_fresh(boot_now()))
    }

    /// Whose order it is, for the audit trail.
    pub(super) fn actor(&self) -> Option<Actor> {
        let session = self.admin().or_else(|| self.web())?;
        Some(Actor::on_portal(&session.identity, self.client()))
    }

    /// The secret of the form cookie that an answer sets; `None` where it is there already, or may not be.
    pub(super) fn new_form_cookie(&self) -> Option<&str> {
        self.0.form.as_deref().filter(|_| self.0.fresh_form)
    }

    /// What a form carries, so that only this browser can have sent it. Empty without TLS, where there are no forms.
    pub(super) fn form_token(&self) -> String {
        let Some(form) = &self.0.form else { return String::new() };
        let secrets = Purpose::ALL.map(|purpose| self.web_secret(purpose).unwrap_or_default());
        let text = format!("{form} {} {}", secrets.join(" "), self.pending_secret().unwrap_or_default());
        let tag = hmac::sign(&self.0.key, text.as_bytes());
        tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The browser, as long as it runs: the same before a login, between its factors and after it. Empty without TLS.
    pub(super) fn browser(&self) -> String {
        let Some(form) = &self.0.form else { return String::new() };
        let tag = hmac::sign(&self.0.key, format!("browser {form}").as_bytes());
        tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether a form carries what it was given.
    pub(super) fn is_own_form(&self, token: &str) -> bool {
        let expected = self.form_token();
        // The cookie came with this very request: of one that did not, nobody can know the token.
        !self.0.fresh_form
            && expected.len() == token.len()
            && expected.bytes().zip(token.bytes()).fold(0, |all, (a, b)| all | (a ^ b)) == 0
    }

    /// A page in the house style.
    pub(super) fn page(&self) -> Page {
        Page::new(self)
    }

    /// A page that says what went wrong, and whose turn it is.
    pub(super) fn problem(
        &self,
        status: StatusCode,
        heading: &'static str,
        message: &UserMessage,
    ) -> Response {
        let message = self.language().say(message);
        answer(self, status, &Problem { page: self.page(), heading, message }).into_response()
    }
}

impl FromRequestParts<Site> for Visit {
    type Rejection = StatusCode;

    async fn from_request_parts(head: &mut Head, _: &Site) -> Result<Self, StatusCode> {
        // `server` puts it there before any route is looked for.
        head.extensions.get::<Self>().cloned().ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// The value of a cookie (RFC 6265, section 5.4), where there is one of that name.
pub(super) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let fields = headers.get_all(COOKIE).iter().filter_map(|field| field.to_str().ok());
    let mut pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// What a browser says it is.
fn agent(headers: &HeaderMap) -> String {
    const MOST: usize = 200;
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    agent.chars().filter(|c| !c.is_control()).take(MOST).collect()
}

/// Whether it looks like a browser, which shows pages to a person: not like the script of a logoff.
pub(super) fn is_browser(headers: &HeaderMap) -> bool {
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    agent.starts_with("Mozilla/") || headers.contains_key(ACCEPT_LANGUAGE)
}

/// Whether an operator has set up a second factor, where one may be asked for.
fn set_up(site: &Site, session: &WebSession) -> Option<bool> {
    let factors = &site.parts().factors;
    factors.settings().policy.demand(&session.identity)?;
    Some(!factors.enrolled(&session.identity).is_empty())
}

/// 128 bits that nobody can guess, in hexadecimal: a secret of a cookie. `None` where the system has no randomness.
pub(super) fn random() -> Option<String> {
    use ring::rand::{SecureRandom as _, SystemRandom};
    let mut random = [0; 16];
    SystemRandom::new().fill(&mut random).ok()?;
    Some(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
