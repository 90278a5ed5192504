//! Chromium and its driver, in one family of processes.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::wire::{Driver, Wire};
use super::{Browser, Wish};
use crate::PROXY_NAME;
use crate::chromium::SWITCHES;
use crate::gateway::Gateway;
use crate::nss;
use crate::wait::{self, PAGE};

/// The driver's usual port. Further ones of this program count up.
const PORT: u16 = 9515;

pub(super) fn start(wish: &Wish<'_>) -> Result<Browser> {
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let port = PORT + COUNT.fetch_add(1, Ordering::Relaxed) % 10_000;
    let profile = wish.scratch.unused("chromium");
    std::fs::create_dir_all(&profile)?;
    if let Some(root) = &wish.root {
        nss::trust(&profile.join(".pki/nssdb"), root)?;
    }
    let log = File::create(profile.join("driver.log"))?;
    let mut command = wish.ns.family("chromedriver");
    command.arg(format!("--port={port}")).envs(wish.environment());
    command.env("HOME", &profile).env("TMPDIR", &profile);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let process = wish.scratch.spawn(&mut command).context("is chromium-driver installed?")?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    wait::until("chromedriver to listen", PAGE, || wish.ns.connect(address).ok())?;

    let mut arguments: Vec<String> = SWITCHES.iter().map(|switch| (*switch).to_owned()).collect();
    arguments.push(format!("--user-data-dir={}", profile.join("profile").display()));
    arguments.push(format!("--auth-server-allowlist={PROXY_NAME}"));
    if wish.proxied {
        arguments.push(format!("--proxy-server={}", Gateway::proxy_url()));
        arguments.push(format!("--proxy-bypass-list={}", wish.directly()));
    }
    let capabilities = json!({
        "browserName": "chrome",
        "acceptInsecureCerts": true,
        // What is asked is answered, not waved away.
        "unhandledPromptBehavior": "ignore",
        "goog:chromeOptions": {
            "args": arguments,
            "prefs": { "intl.accept_languages": wish.language, "intl.selected_languages": wish.language },
            // A fresh profile leaves the first challenge on an http page unanswered.
            "localState": { "net.received_http_auth_negotiate_headers": true },
        },
    });
    let driver = Driver::new(wish.ns, address, &capabilities)?;
    Ok(Browser { wire: Wire::Driver(driver), _process: process })
}
