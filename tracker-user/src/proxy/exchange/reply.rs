//! Answers that the proxy gives itself, apart from how they are written down.

use http::StatusCode;

use super::page::{Dress, Page};
use crate::auth::{Scheme, Schemes};

/// An answer of our own. Its content is small, and nothing in it is markup that came from outside.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Reply {
    status: StatusCode,
    /// What its page will say; its content is there when that is dressed.
    page: Option<Box<Page>>,
    content: String,
    /// What its page may load.
    policy: Option<String>,
    /// Where else the client is to go.
    location: Option<String>,
    /// What the client may prove its user with.
    schemes: Schemes,
    /// A message of Negotiate for the client.
    message: Option<String>,
    /// The gateway's own proof.
    mutual_auth: Option<String>,
    closes: bool,
    retry: bool,
}

impl Reply {
    /// An answer without content.
    pub(in crate::proxy) const fn empty(status: StatusCode) -> Self {
        Self {
            status,
            page: None,
            content: String::new(),
            policy: None,
            location: None,
            schemes: Schemes::NONE,
            message: None,
            mutual_auth: None,
            closes: false,
            retry: false,
        }
    }

    /// An answer with a page.
    pub(super) fn page(status: StatusCode, page: Page) -> Self {
        Self { page: Some(Box::new(page)), ..Self::empty(status) }
    }

    /// With a link to where its reader can log in.
    pub(super) fn with_login(mut self, login: Option<String>) -> Self {
        if let Some(page) = &mut self.page {
            page.login = login;
        }
        self
    }

    /// A browser that shows the page goes on at once to where its reader can log in. One that has an answer to the challenge
    /// never shows it.
    pub(in crate::proxy) fn leading_on(mut self) -> Self {
        if let Some(page) = &mut self.page {
            page.leads_on = true;
        }
        self
    }

    /// Sends the client elsewhere.
    pub(super) fn set_location(&mut self, location: String) {
        self.location = Some(location);
    }

    /// Whether there is a page that is yet to be dressed.
    pub(super) const fn has_page(&self) -> bool {
        self.page.is_some()
    }

    /// With its page as its reader gets it.
    pub(super) fn dressed(mut self, dress: &Dress<'_>) -> Self {
        if let Some(page) = self.page.take() {
            self.content = page.render(self.status, dress);
            self.policy = Some(dress.house.policy().to_owned());
        }
        self
    }

    /// Challenges the client to prove its user with one of these; with a message where a handshake of Negotiate goes on.
    pub(super) fn challenging(mut self, schemes: Schemes, message: Option<&[u8]>) -> Self {
        self.schemes = schemes;
        self.message = message.map(|message| Scheme::Negotiate.message(message));
        self
    }

    /// With the gateway's own proof, where the request brought credentials that proved something.
    pub(in crate::proxy) fn proved(mut self, mutual_auth: Option<String>) -> Self {
        self.mutual_auth = mutual_auth;
        self
    }

    /// Asks for the connection to be closed after it.
    pub(in crate::proxy) const fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// Asks the client to try again in a second.
    pub(in crate::proxy) const fn retry(mut self) -> Self {
        self.retry = true;
        self
    }

    pub(in crate::proxy) const fn status(&self) -> StatusCode {
        self.status
    }

    /// The content: a page of HTML, or nothing. An answer to HEAD goes without it.
    pub(in crate::proxy) fn content(&self) -> &str {
        &self.content
    }

    /// Whether nothing else may be served on the connection, as nobody knows what comes next on it.
    pub(in crate::proxy) const fn closes(&self) -> bool {
        self.closes
    }

    /// Calls `put` with the name and the value of each field, but those of framing and of the client's connection, and the
    /// date: they are the front's.
    pub(in crate::proxy) fn each_field(&self, mut put: impl FnMut(&str, &str)) {
        put("Content-Type", "text/html; charset=utf-8");
        put("Cache-Control", "no-store");
        for (name, value) in [("Content-Security-Policy", &self.policy), ("Location", &self.location)] {
            if let Some(value) = value {
                put(name, value);
            }
        }
        for value in self.schemes.challenges(self.message.as_deref()).chain(self.mutual_auth.as_deref()) {
            put("Proxy-Authenticate", value);
        }
        if self.retry {
            put("Retry-After", "1");
        }
    }
}

#[cfg(test)]
impl Reply {
    /// As a page looks to somebody.
    pub(in crate::proxy) fn dressed_for_tests(self) -> Self {
        use crate::pages::{House, Language};
        use crate::proxy::access::RequestNumber;
        let (house, language) = (House::default(), Language::english());
        let number = RequestNumber::new(crate::types::ConnectionId::new(std::num::NonZeroU64::MIN), 1);
        self.dressed(&Dress { house: &house, language: &language, number, time: crate::clock::wall_now() })
    }
}
