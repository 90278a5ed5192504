//! Real Chromium, headless, on a client host.
//!
//! It opens one page and ends. Like other browsers it never sends credentials unasked, and none with later requests on
//! a connection that has proved itself.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;

use crate::certificates::Certificate;
use crate::ns::Ns;
use crate::nss;
use crate::realm::{NO_TICKETS, Realm};
use crate::scratch::Scratch;
use crate::wait;

/// How long a page may take; it takes about two seconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a profile holds that has been used before: a fresh one leaves the first challenge on an http page unanswered.
const LOCAL_STATE: &str = r#"{"net":{"received_http_auth_negotiate_headers":true}}"#;

/// As root; and without what it asks for by itself, which would be in the gateway's log and counts.
pub(crate) const SWITCHES: [&str; 10] = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
    "--window-size=900,600",
];

/// Chromium with a profile of its own for each page.
#[derive(Debug)]
#[must_use]
pub struct Chromium<'a> {
    ns: &'a Ns,
    scratch: &'a Scratch,
    proxy: Vec<String>,
    trust: Trust,
    environment: Vec<(&'static str, PathBuf)>,
}

/// Which certificates it takes.
#[derive(Clone, Debug)]
enum Trust {
    /// All: the lab's are of its own making.
    All,
    /// Those of this authority, and the origin's.
    Root(PathBuf),
}

/// A page as the browser shows it.
#[derive(Debug, Default)]
pub struct Page {
    /// The document after loading, as HTML; the browser's own page where it could not load this one.
    pub dom: String,
    /// What Chromium complained about.
    pub stderr: String,
}

impl<'a> Chromium<'a> {
    /// Through `proxy` (a URL), of this realm, without tickets.
    pub fn new(ns: &'a Ns, scratch: &'a Scratch, realm: &Realm, proxy: &str) -> Self {
        let mut environment = realm.environment();
        environment.push(("KRB5CCNAME", NO_TICKETS.into()));
        let proxy = vec![
            format!("--proxy-server={proxy}"),
            "--proxy-bypass-list=*.googleapis.com;*.google.com;*.gvt1.com".to_owned(),
        ];
        Self { ns, scratch, proxy, trust: Trust::All, environment }
    }

    /// Through whichever proxy this PAC file says.
    pub fn pac(mut self, script: &str) -> Self {
        let script = base64::engine::general_purpose::STANDARD.encode(script);
        self.proxy = vec![format!("--proxy-pac-url=data:application/x-ns-proxy-autoconfig;base64,{script}")];
        self
    }

    /// Takes the proxy's certificate only if this authority has signed it.
    pub fn trusts(mut self, root: &Path) -> Self {
        self.trust = Trust::Root(root.to_owned());
        self
    }

    /// With the tickets in this file.
    pub fn tickets(self, cache: &Path) -> Self {
        self.environment([("KRB5CCNAME", cache.to_owned())])
    }

    /// With these variables; the last one of a name counts.
    pub fn environment(mut self, more: impl IntoIterator<Item = (&'static str, PathBuf)>) -> Self {
        self.environment.extend(more);
        self
    }

    /// Opens a page and reads it. A page that cannot be loaded is no error: look at what is shown.
    ///
    /// # Errors
    /// When Chromium is missing, or has not ended after a minute.
    pub fn dom(&self, url: &str) -> Result<Page> {
        self.run(&["--dump-dom"], url)
    }

    /// Opens a page and makes a picture of it, a PNG file.
    ///
    /// # Errors
    /// When there is no picture.
    pub fn screenshot(&self, url: &str, path: &Path) -> Result<()> {
        let page = self.run(&[&format!("--screenshot={}", path.display())], url)?;
        anyhow::ensure!(path.is_file(), "no picture of {url}: {page:?}");
        Ok(())
    }

    fn run(&self, arguments: &[&str], url: &str) -> Result<Page> {
        let profile = self.scratch.unused("chromium");
        std::fs::create_dir_all(&profile)?;
        std::fs::write(profile.join("Local State"), LOCAL_STATE)?;
        let (out, err) = (profile.join("stdout"), profile.join("stderr"));
        let mut command = self.ns.family("chromium");
        command.args(SWITCHES).args(arguments);
        command.arg(format!("--user-data-dir={}", profile.display()));
        match &self.trust {
            Trust::All => {
                command.arg("--ignore-certificate-errors");
            }
            Trust::Root(root) => {
                nss::trust(&profile.join(".pki/nssdb"), root)?;
                let origin = Certificate { chain: self.scratch.join("origin.crt"), key: PathBuf::new() };
                if origin.chain.exists() {
                    command.arg(format!("--ignore-certificate-errors-spki-list={}", origin.spki()?));
                }
            }
        }
        command.args(&self.proxy).arg(url);
        command.envs(self.environment.iter().cloned()).env("HOME", &profile);
        command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(File::create(&err)?);
        let mut process = self.scratch.spawn(&mut command).context("is chromium installed?")?;
        let ended = wait::until("Chromium to end", PATIENCE, || process.ended());
        let read = |path| Ok::<_, anyhow::Error>(String::from_utf8_lossy(&std::fs::read(path)?).into_owned());
        // There is no D-Bus, and it says so a dozen times.
        let stderr = read(&err)?.lines().filter(|line| !line.contains("dbus")).collect::<Vec<_>>().join("\n");
        let page = Page { dom: read(&out)?, stderr };
        let status = ended.with_context(|| format!("{url}: {page:?}"))?;
        anyhow::ensure!(status.success(), "Chromium ended with {status}: {page:?}");
        std::fs::remove_dir_all(profile)?;
        Ok(page)
    }
}
