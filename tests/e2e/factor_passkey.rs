//! Passkeys: real Chromium, with chromedriver's virtual authenticators for devices.

mod alone;
mod refused;
mod second;

use anyhow::{Result, ensure};
use lab::answers::list;
use lab::browser::{Browser, Device};
use lab::wait::until;
use lab::web::Web;
use lab::{Lab, pages};
use serde_json::{Value, json};

use crate::common::SOON;

/// Who may set up a factor, and what passkeys are good for.
fn settings(passkey: &str) -> String {
    format!(
        "[portal]\nhost = \"proxy.example.test\"\nadministrators = [\"carol@EXAMPLE.TEST\"]\n\
         [second-factor]\npasskey = \"{passkey}\"\n[second-factor.domains]\n\"EXAMPLE.TEST\" = \"optional\"\nlocal = \"optional\"\n"
    )
}

/// Whether the gateway tells such an event with this word before long.
fn told(lab: &Lab, event: &str, word: &str) -> bool {
    let is_there = || {
        let events = lab.gateway.ask(&["events"]).ok()?;
        let is_it =
            |known: &Value| known["event"] == event && known.to_string().contains(&format!("\"{word}\""));
        list(&events, "events").into_iter().any(is_it).then_some(())
    };
    until(&format!("{event} {word}"), SOON, is_there).is_ok()
}

/// The button of the passkey, wherever it stands.
fn button(of: &str) -> String {
    format!("form[data-for={of}] button")
}

/// Presses it.
fn press(browser: &mut Browser, of: &str) -> Result<()> {
    browser.clicks(&button(of))
}

/// Fills in the form that makes one, and presses the button.
fn make(browser: &mut Browser, name: &str) -> Result<()> {
    browser.open(&Web::url("/second-factor/passkey/add"))?;
    browser.reads("Name of the passkey")?;
    browser.types("#name", name)?;
    press(browser, "add")
}

/// Logs in with a password, and adds the first passkey.
fn enrol(browser: &mut Browser, user: &str, name: &str) -> Result<Device> {
    pages::log_in(browser, "/login", user)?;
    let device = browser.plug_in(true)?;
    make(browser, name)?;
    browser.reads("shown now, and never again")?;
    ensure!(browser.script("return document.querySelectorAll('.codes code').length", &[])? == 10);
    Ok(device)
}

/// Logs in with the password again, after a logout: the second factor is asked for then.
fn first_factor(lab: &Lab, browser: &mut Browser, user: &str) -> Result<()> {
    lab.gateway.ask(&["logout", &lab.address(0)])?;
    browser.forget_cookies()?;
    pages::log_in(browser, "/login", user)?;
    browser.arrives(|url| url == Web::url("/second-factor")).map(drop)
}

/// Asks the gateway and the device as the page's script does, and returns the fields of the form without sending it.
fn signed(browser: &mut Browser, of: &str) -> Result<Value> {
    const SIGN: &str = r#"
        const [what, done] = arguments;
        const form = document.querySelector(`form[data-for=${what}]`);
        HTMLFormElement.prototype.submit = function () {
            done(Object.fromEntries(new FormData(this)));
        };
        form.requestSubmit();
    "#;
    browser.script_async(SIGN, &[json!(of)])
}

/// Sends a form by the page's own browser, and returns the status and what people read.
fn send(browser: &mut Browser, path: &str, fields: &Value) -> Result<(u64, String)> {
    const SEND: &str = r#"
        const [path, fields, done] = arguments;
        fetch(path, { method: "POST", body: new URLSearchParams(fields), redirect: "manual" })
            .then(async (answer) => done([answer.status, await answer.text()]));
    "#;
    let answer = browser.script_async(SEND, &[json!(path), fields.clone()])?;
    Ok((answer[0].as_u64().unwrap_or_default(), answer[1].as_str().unwrap_or_default().to_owned()))
}
