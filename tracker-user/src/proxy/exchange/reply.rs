//! Answers that the proxy gives itself, apart from how they are written down.

use std::borrow::Cow;

use http::StatusCode;

use crate::auth::{Scheme, Schemes};

/// An answer of our own. Its content is small, and nothing in it is markup that came from outside.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Reply {
    status: StatusCode,
    content: Cow<'static, str>,
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
        Self::page(status, Cow::Borrowed(""))
    }

    /// An answer with a page of HTML.
    pub(super) const fn page(status: StatusCode, html: Cow<'static, str>) -> Self {
        Self {
            status,
            content: html,
            schemes: Schemes::NONE,
            message: None,
            mutual_auth: None,
            closes: false,
            retry: false,
        }
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
        for value in self.schemes.challenges(self.message.as_deref()).chain(self.mutual_auth.as_deref()) {
            put("Proxy-Authenticate", value);
        }
        if self.retry {
            put("Retry-After", "1");
        }
    }
}
