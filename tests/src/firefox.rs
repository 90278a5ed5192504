//! Real Firefox, headless, on a client host.
//!
//! It opens one page and stays until it is dropped. It sends no credentials unasked, and reads no answer before it has sent
//! all of its request.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result};
use base64::Engine as _;

use crate::PROXY_NAME;
use crate::gateway::PROXY_PORT;
use crate::ns::Ns;
use crate::nss;
use crate::realm::Realm;
use crate::scratch::{Process, Scratch};

/// What it asks for by itself would be in the gateway's log and counts.
const QUIET: &str = r#"
user_pref("app.normandy.enabled", false);
user_pref("app.update.enabled", false);
user_pref("browser.aboutConfig.showWarning", false);
user_pref("browser.region.update.enabled", false);
user_pref("browser.safebrowsing.downloads.remote.enabled", false);
user_pref("browser.safebrowsing.malware.enabled", false);
user_pref("browser.safebrowsing.phishing.enabled", false);
user_pref("browser.search.update", false);
user_pref("browser.shell.checkDefaultBrowser", false);
user_pref("datareporting.policy.dataSubmissionEnabled", false);
user_pref("dom.push.connection.enabled", false);
user_pref("extensions.update.enabled", false);
user_pref("extensions.getAddons.cache.enabled", false);
user_pref("network.captive-portal-service.enabled", false);
user_pref("network.connectivity-service.enabled", false);
user_pref("network.dns.disablePrefetch", true);
user_pref("services.settings.server", "data:,");
user_pref("toolkit.telemetry.enabled", false);
user_pref("toolkit.telemetry.unified", false);
"#;

/// Starts it on a page, through the proxy, with the tickets in `cache`.
///
/// # Errors
/// When it is not installed.
pub fn open(scratch: &Scratch, ns: &Ns, realm: &Realm, cache: &Path, url: &str) -> Result<Process> {
    let profile = scratch.unused("firefox");
    std::fs::create_dir_all(&profile)?;
    let proxy = format!(
        "user_pref(\"network.proxy.type\", 1);\nuser_pref(\"network.proxy.http\", \"{PROXY_NAME}\");\n\
         user_pref(\"network.proxy.http_port\", {PROXY_PORT});\n"
    );
    start(scratch, ns, realm, cache, &profile, &proxy, url)
}

/// The same through whichever proxy a PAC file says, which it takes only with a certificate of this authority.
///
/// # Errors
/// When it is not installed.
pub fn open_by_pac(
    scratch: &Scratch,
    ns: &Ns,
    realm: &Realm,
    cache: &Path,
    (script, root): (&str, &Path),
    url: &str,
) -> Result<Process> {
    let profile = scratch.unused("firefox");
    nss::trust(&profile, root)?;
    let script = base64::engine::general_purpose::STANDARD.encode(script);
    let proxy = format!(
        "user_pref(\"network.proxy.type\", 2);\n\
         user_pref(\"network.proxy.autoconfig_url\", \"data:application/x-ns-proxy-autoconfig;base64,{script}\");\n"
    );
    start(scratch, ns, realm, cache, &profile, &proxy, url)
}

/// Starts it without a page, to be told what to do.
///
/// # Errors
/// When it is not installed.
pub(crate) fn start_driven(
    scratch: &Scratch,
    ns: &Ns,
    realm: &Realm,
    cache: &Path,
    profile: &Path,
    settings: &str,
) -> Result<Process> {
    start(scratch, ns, realm, cache, profile, settings, "--marionette")
}

fn start(
    scratch: &Scratch,
    ns: &Ns,
    realm: &Realm,
    cache: &Path,
    profile: &Path,
    settings: &str,
    what: &str,
) -> Result<Process> {
    std::fs::write(profile.join("user.js"), [QUIET, settings].concat())?;
    let mut command = ns.family("firefox-esr");
    command.args(["--headless", "--no-remote", "--profile"]).arg(profile).arg(what);
    command.envs(realm.environment()).env("KRB5CCNAME", cache).env("HOME", profile);
    command.stdin(Stdio::null());
    command.stdout(File::create(profile.join("stdout"))?).stderr(File::create(profile.join("stderr"))?);
    scratch.spawn(&mut command).context("is firefox-esr installed?")
}
