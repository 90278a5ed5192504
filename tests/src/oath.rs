//! An authenticator app: real `oathtool`.

use std::cell::RefCell;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::client::Reply;
use crate::wait::until;

/// A code is good for half a minute, and one that was used is not good again.
const NEXT: Duration = Duration::from_secs(70);

/// An app that has scanned a secret.
#[derive(Debug)]
pub struct Authenticator {
    secret: String,
    last: RefCell<Option<String>>,
}

impl Authenticator {
    /// With this secret, in base32.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self { secret: secret.split_whitespace().collect(), last: RefCell::default() }
    }

    /// With the secret that stands on the page of the set-up.
    ///
    /// # Errors
    /// When there is none.
    pub fn on(page: &Reply) -> Result<Self> {
        let text = page.text();
        let (_, rest) =
            text.split_once("<p class=\"secret\"><code>").with_context(|| format!("no secret: {text}"))?;
        Ok(Self::new(rest.split('<').next().unwrap_or_default()))
    }

    /// The secret, in base32.
    #[must_use]
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// A code that was not asked for before: of now, or the next one. Waits for one where both were.
    ///
    /// # Errors
    /// When oathtool cannot be run.
    pub fn code(&self) -> Result<String> {
        let found = until("a new code", NEXT, || {
            let codes = match self.codes("now", 1) {
                Ok(codes) => codes,
                Err(error) => return Some(Err(error)),
            };
            let last = self.last.borrow().clone();
            let at = codes.iter().position(|code| Some(code) == last.as_ref()).map_or(0, |at| at + 1);
            codes.get(at).cloned().map(Ok)
        })??;
        *self.last.borrow_mut() = Some(found.clone());
        Ok(found)
    }

    /// The code of half a minute from now, as an app whose clock is ahead shows it; one that was not asked for before.
    ///
    /// # Errors
    /// When oathtool cannot be run.
    pub fn ahead(&self) -> Result<String> {
        let found = until("a new code", NEXT, || {
            let codes = self.codes("now", 1).ok()?;
            let last = self.last.borrow().clone();
            codes.get(1).filter(|code| Some(*code) != last.as_ref()).cloned()
        })?;
        *self.last.borrow_mut() = Some(found.clone());
        Ok(found)
    }

    /// A code that is not right, nor will be soon: another with each number.
    ///
    /// # Errors
    /// When oathtool cannot be run.
    pub fn wrong(&self, number: usize) -> Result<String> {
        let soon = self.codes("2 minutes ago", 8)?;
        let mut others = (number * 10..).map(|code| format!("{:06}", code % 1_000_000));
        others.find(|code| !soon.contains(code)).context("a wrong code")
    }

    fn codes(&self, from: &str, more: u32) -> Result<Vec<String>> {
        let mut command = Command::new("oathtool");
        command.args(["--totp", "--base32", "--now", from, "--window", &more.to_string(), &self.secret]);
        let output = command.output().context("is oathtool installed?")?;
        ensure!(output.status.success(), "{output:?}");
        Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
    }
}
