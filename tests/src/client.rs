//! Real `curl` on a client host.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::ns::Ns;
use crate::realm::{NO_TICKETS, Realm};
use crate::scratch::Scratch;

/// A `curl` call in the making.
#[derive(Debug)]
#[must_use]
pub struct Curl<'a> {
    ns: &'a Ns,
    scratch: &'a Scratch,
    realm: &'a Realm,
    proxy: Option<String>,
    cache: Option<PathBuf>,
    environment: Vec<(&'static str, PathBuf)>,
    arguments: Vec<String>,
    limit: Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Reply {
    /// curl's exit code.
    pub exit: i32,
    /// The status of the last answer, 0 if there was none.
    pub code: u16,
    /// The status of the proxy's answer to the last CONNECT, 0 if there was none.
    pub connect_code: u16,
    /// How many connections were made for it.
    pub connects: u32,
    /// How long it took.
    pub seconds: f64,
    /// The body.
    pub body: Vec<u8>,
    /// The head of every answer in order, also those of the proxy to CONNECT.
    pub heads: Vec<String>,
    /// What curl complained about.
    pub stderr: String,
    /// What was run, as a person would type it.
    pub command: String,
}

impl<'a> Curl<'a> {
    /// A call through `proxy` (a URL).
    pub fn new(ns: &'a Ns, scratch: &'a Scratch, realm: &'a Realm, proxy: &str) -> Self {
        let limit = Duration::from_secs(20);
        let proxy = Some(proxy.to_owned());
        let (environment, arguments) = (Vec::new(), Vec::new());
        Self { ns, scratch, realm, proxy, cache: None, environment, arguments, limit }
    }

    /// Past the proxy, which in this lab leads nowhere but on the gateway itself.
    pub fn direct(mut self) -> Self {
        self.proxy = None;
        self
    }

    /// With the tickets in this file: curl sends a token with every request, unasked.
    pub fn tickets(mut self, cache: &Path) -> Self {
        self.cache = Some(cache.to_owned());
        self.arg("--proxy-negotiate").arg("--proxy-user").arg(":")
    }

    /// With more variables.
    pub fn environment(mut self, more: impl IntoIterator<Item = (&'static str, PathBuf)>) -> Self {
        self.environment.extend(more);
        self
    }

    /// One more argument.
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// A header.
    pub fn header(self, header: &str) -> Self {
        self.arg("--header").arg(header)
    }

    /// A method other than GET.
    pub fn method(self, method: &str) -> Self {
        self.arg("--request").arg(method)
    }

    /// A body, sent as it is.
    pub fn data(self, body: &str) -> Self {
        self.arg("--data-binary").arg(body)
    }

    /// A body from a file, sent as a stream.
    pub fn upload(self, file: &Path) -> Self {
        self.arg("--upload-file").arg(&file.display().to_string())
    }

    /// Gives up after this time (curl exit code 28).
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The same, to be started: what comes goes to its standard output.
    #[must_use]
    pub fn command(&self, url: &str) -> Command {
        self.prepared(url, &[]).0
    }

    /// With these options before those that were asked for, which curl takes for the same.
    fn prepared(&self, url: &str, first: &[&OsStr]) -> (Command, Vec<String>) {
        let mut command = self.ns.command("curl");
        command.args(["-sS", "--noproxy", "", "--max-time", &self.limit.as_secs_f64().to_string()]);
        command.args(first);
        let mut shown = vec![];
        if let Some(proxy) = &self.proxy {
            shown.extend(["--proxy".to_owned(), proxy.clone()]);
        }
        shown.extend(self.arguments.iter().cloned());
        shown.push(url.to_owned());
        command.args(&shown).envs(self.realm.environment()).envs(self.environment.iter().cloned());
        command.env("KRB5CCNAME", self.cache.as_deref().unwrap_or(Path::new(NO_TICKETS)));
        (command, shown)
    }

    /// Asks for a URL.
    ///
    /// # Errors
    /// Only when curl cannot be started; a failed transfer is a [`Reply`].
    pub fn get(&self, url: &str) -> Result<Reply> {
        let (body, heads) = (self.scratch.unused("body"), self.scratch.unused("heads"));
        let first: [&OsStr; 6] = [
            "--write-out".as_ref(),
            "%{http_code} %{http_connect} %{num_connects} %{time_total}".as_ref(),
            "--output".as_ref(),
            body.as_ref(),
            "--dump-header".as_ref(),
            heads.as_ref(),
        ];
        let (mut command, shown) = self.prepared(url, &first);
        let output = command.output().context("is curl installed?")?;

        let written = String::from_utf8_lossy(&output.stdout);
        let mut numbers = written.split_whitespace();
        let reply = Reply {
            exit: output.status.code().unwrap_or(-1),
            code: numbers.next().and_then(|text| text.parse().ok()).unwrap_or(0),
            connect_code: numbers.next().and_then(|text| text.parse().ok()).unwrap_or(0),
            connects: numbers.next().and_then(|text| text.parse().ok()).unwrap_or(0),
            seconds: numbers.next().and_then(|text| text.parse().ok()).unwrap_or(0.0),
            body: std::fs::read(&body).unwrap_or_default(),
            heads: String::from_utf8_lossy(&std::fs::read(&heads).unwrap_or_default())
                .split("\r\n\r\n")
                .filter(|head| !head.is_empty())
                .map(str::to_owned)
                .collect(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            command: format!("curl {}", shown.join(" ")),
        };
        let _ = (std::fs::remove_file(body), std::fs::remove_file(heads));
        Ok(reply)
    }
}

impl Reply {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// All values of a header in the last answer.
    #[must_use]
    pub fn header(&self, name: &str) -> Vec<String> {
        let lines = self.heads.last().into_iter().flat_map(|head| head.lines());
        lines
            .filter_map(|line| line.split_once(':'))
            .filter(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned())
            .collect()
    }
}
