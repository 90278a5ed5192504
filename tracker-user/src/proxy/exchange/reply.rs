//! Answers that the proxy gives itself, apart from how they are written down.

use std::borrow::Cow;

use http::StatusCode;

/// An answer of our own. Its content is small, and nothing in it is markup that came from outside.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Reply {
    status: StatusCode,
    content: Cow<'static, str>,
    /// Values of `Proxy-Authenticate`: challenges, or the gateway's own proof.
    authenticate: Vec<Cow<'static, str>>,
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
        Self { status, content: html, authenticate: Vec::new(), closes: false, retry: false }
    }

    /// With one more value of `Proxy-Authenticate`.
    pub(super) fn authenticate(mut self, value: impl Into<Cow<'static, str>>) -> Self {
        self.authenticate.push(value.into());
        self
    }

    /// With the gateway's own proof, where the request brought credentials that proved something.
    pub(in crate::proxy) fn proved(self, mutual_auth: Option<String>) -> Self {
        match mutual_auth {
            Some(token) => self.authenticate(token),
            None => self,
        }
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
        for value in &self.authenticate {
            put("Proxy-Authenticate", value);
        }
        if self.retry {
            put("Retry-After", "1");
        }
    }
}
