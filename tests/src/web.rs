//! The web pages as a client's browser would use them, by curl: with cookies, without script.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::Lab;
use crate::client::Reply;
use crate::gateway::{PORTAL_PORT, PORTAL_TLS_PORT};

/// What browsers say they are: the portal looks at how it begins.
pub const USER_AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64) lab";

/// Somebody who looks at the pages under TLS; redirects are not followed.
#[derive(Debug)]
pub struct Web<'a> {
    lab: &'a Lab,
    client: usize,
    jar: PathBuf,
}

impl<'a> Web<'a> {
    /// On this client host, without cookies.
    #[must_use]
    pub fn new(lab: &'a Lab, client: usize) -> Self {
        Self { lab, client, jar: lab.scratch.unused("cookies") }
    }

    /// On this client host, with the cookies in this file.
    #[must_use]
    pub fn with_jar(lab: &'a Lab, client: usize, jar: &Path) -> Self {
        Self { lab, client, jar: jar.to_owned() }
    }

    /// Ends whatever session its address has at the proxy, so that the next login is a first one.
    ///
    /// # Errors
    /// When `trackerctl` cannot be run.
    pub fn is_nobody(&self) -> Result<()> {
        self.lab.gateway.ctl(&["logout", &self.lab.address(self.client)]).map(drop)
    }

    /// The address of a page.
    #[must_use]
    pub fn url(path: &str) -> String {
        format!("https://proxy.example.test:{PORTAL_TLS_PORT}{path}")
    }

    /// The same without TLS.
    #[must_use]
    pub fn plain_url(path: &str) -> String {
        format!("http://proxy.example.test:{PORTAL_PORT}{path}")
    }

    /// Where the cookies are.
    #[must_use]
    pub const fn jar(&self) -> &PathBuf {
        &self.jar
    }

    /// A page.
    ///
    /// # Errors
    /// When curl cannot be started.
    pub fn get(&self, path: &str) -> Result<Reply> {
        self.ask(&Self::url(path), &[], &[])
    }

    /// The form of `page`, filled in and sent to `path`: its token goes with it.
    ///
    /// # Errors
    /// When the page has no form, or curl cannot be started.
    pub fn post(&self, page: &Reply, path: &str, fields: &[(&str, &str)]) -> Result<Reply> {
        let token = token(page)?;
        let mut all = vec![("token", token.as_str())];
        all.extend(fields);
        self.ask(&Self::url(path), &all, &["Sec-Fetch-Site: same-origin"])
    }

    /// A request of one's own: with these fields of a form (GET without any), and these headers.
    ///
    /// # Errors
    /// When curl cannot be started.
    pub fn ask(&self, url: &str, fields: &[(&str, &str)], headers: &[&str]) -> Result<Reply> {
        let jar = self.jar.display().to_string();
        let mut curl = self.lab.curl(self.client).direct().arg("--insecure");
        curl = curl.arg("--cookie").arg(&jar).arg("--cookie-jar").arg(&jar);
        curl = curl.arg("--user-agent").arg(USER_AGENT);
        for header in headers {
            curl = curl.header(header);
        }
        for (name, value) in fields {
            curl = curl.arg("--data-urlencode").arg(&format!("{name}={value}"));
        }
        curl.get(url)
    }
}

/// The token of the first form on a page.
///
/// # Errors
/// When there is none.
pub fn token(page: &Reply) -> Result<String> {
    let text = page.text();
    let (_, rest) = text.split_once("name=\"token\" value=\"").with_context(|| format!("no form: {text}"))?;
    Ok(rest.split('"').next().unwrap_or_default().to_owned())
}
