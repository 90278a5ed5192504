//! What is not accepted.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lab::web::Web;
use lab::{Lab, browser::Browser};
use serde_json::{Value, json};

use super::{enrol, press, send, settings, signed, told};
use crate::common::is_let_through;

const LOGIN: &str = "/second-factor/passkey/login";

/// Opens the page anew, and has the device sign.
fn fresh(browser: &mut Browser) -> Result<Value> {
    browser.open(&Web::url("/login"))?;
    signed(browser, "login")
}

/// The fields with the answer changed.
fn changed(fields: &Value, change: impl FnOnce(&mut Value)) -> Result<Value> {
    let mut fields = fields.clone();
    let mut answer: Value = serde_json::from_str(fields["passkey"].as_str().context("no answer")?)?;
    change(&mut answer);
    fields["passkey"] = json!(answer.to_string());
    Ok(fields)
}

fn refuses(lab: &Lab, browser: &mut Browser, fields: &Value, says: &str, what: &str) -> Result<()> {
    let (status, text) = send(browser, LOGIN, fields)?;
    ensure!(status == 403 && text.contains(says), "{what}: {status} {text}");
    ensure!(!is_let_through(lab, 0), "{what}");
    Ok(())
}

const NOT_ACCEPTED: &str = "This passkey is not accepted. Take the one";
const UNKNOWN: &str = "This gateway does not know this passkey";
const LATE: &str = "That took too long, or it was answered already";

#[test]
fn copies_strangers_and_what_is_late_replayed_or_changed_are_refused_and_told() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, &settings("alone"))?;
    let mut browser = lab.browser(0).chromium()?;
    let device = enrol(&mut browser, "alice", "Phone")?;
    lab.gateway.ask(&["logout", &lab.address(0)])?;
    browser.forget_cookies()?;

    // Another origin, and another signature.
    let fields = fresh(&mut browser)?;
    let elsewhere = changed(&fields, |answer| {
        let said = answer["response"]["clientDataJSON"].as_str().unwrap_or_default();
        let said = String::from_utf8(URL_SAFE_NO_PAD.decode(said).unwrap()).unwrap();
        ensure_has(&said, "https://proxy.example.test:4081");
        let said = said.replace("https://proxy.example.test:4081", "https://evil.example.test");
        answer["response"]["clientDataJSON"] = json!(URL_SAFE_NO_PAD.encode(said));
    })?;
    refuses(&lab, &mut browser, &elsewhere, NOT_ACCEPTED, "another origin")?;
    refuses(&lab, &mut browser, &fields, LATE, "what was asked has been answered")?;
    ensure!(told(&lab, "second-factor-refused", "wrong-passkey"));
    let fields = fresh(&mut browser)?;
    let stranger =
        changed(&fields, |answer| answer["response"]["userHandle"] = json!(URL_SAFE_NO_PAD.encode([7; 16])))?;
    refuses(&lab, &mut browser, &stranger, UNKNOWN, "another user handle")?;
    for broken in ["", "{}", "[]", "nonsense", &"[".repeat(4_000)] {
        let fields = fresh(&mut browser)?;
        let mut broken_fields = fields.clone();
        broken_fields["passkey"] = json!(broken);
        refuses(&lab, &mut browser, &broken_fields, LATE, broken)?;
    }
    let mut forged = fresh(&mut browser)?;
    forged["token"] = json!("0".repeat(64));
    let (status, _) = send(&mut browser, LOGIN, &forged)?;
    ensure!(status == 403, "a form that is not this browser's: {status}");

    // The device does not make sure of its user: the browser does not even ask it to sign; where it says that it did not, it is refused.
    browser.verifies(&device, false)?;
    browser.open(&Web::url("/login"))?;
    press(&mut browser, "login")?;
    browser.reads("No passkey came")?;
    browser.verifies(&device, true)?;

    // A copy: the counter of the one that is used later is behind.
    let copy = browser.passkeys(&device)?;
    let fields = fresh(&mut browser)?;
    ensure!(send(&mut browser, LOGIN, &fields)?.0 != 403);
    ensure!(is_let_through(&lab, 0));
    lab.gateway.ask(&["logout", &lab.address(0)])?;
    browser.forget_cookies()?;
    browser.unplug(&device)?;
    let device = browser.plug_in(true)?;
    let mut behind = copy[0].clone();
    behind["signCount"] = json!(0);
    browser.put_passkey(&device, &behind)?;
    browser.open(&Web::url("/login"))?;
    press(&mut browser, "login")?;
    browser.reads("there may be a copy of it")?;
    ensure!(!is_let_through(&lab, 0) && told(&lab, "second-factor-refused", "passkey-counter"));
    browser.unplug(&device)?;

    // Somebody else's passkey, in a device that says it is alice's.
    let bobs = enrol(&mut browser, "bob", "Bob's")?;
    lab.gateway.ask(&["logout", &lab.address(0)])?;
    browser.forget_cookies()?;
    let mut stolen = browser.passkeys(&bobs)?[0].clone();
    stolen["userHandle"] = copy[0]["userHandle"].clone();
    browser.unplug(&bobs)?;
    let device = browser.plug_in(true)?;
    browser.put_passkey(&device, &stolen)?;
    browser.open(&Web::url("/login"))?;
    press(&mut browser, "login")?;
    browser.reads(NOT_ACCEPTED)?;
    browser.unplug(&device)?;

    // All is reset: nobody knows the passkey.
    let device = browser.plug_in(true)?;
    browser.put_passkey(&device, &copy[0])?;
    lab.gateway.ask(&["second-factor", "reset", "alice@EXAMPLE.TEST"])?;
    browser.open(&Web::url("/login"))?;
    press(&mut browser, "login")?;
    browser.reads(UNKNOWN)?;
    ensure!(told(&lab, "refused", "unknown-passkey"));
    Ok(())
}

#[test]
fn an_answer_that_comes_after_a_minute_is_refused() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, &settings("alone"))?;
    let mut browser = lab.browser(0).chromium()?;
    enrol(&mut browser, "alice", "Phone")?;
    lab.gateway.ask(&["logout", &lab.address(0)])?;
    browser.forget_cookies()?;
    let late = fresh(&mut browser)?;
    lab::wait::silence(Duration::from_secs(61));
    refuses(&lab, &mut browser, &late, LATE, "after a minute")?;
    browser.open(&Web::url("/login"))?;
    press(&mut browser, "login")?;
    browser.reads("You are logged in as")
}

fn ensure_has(text: &str, part: &str) {
    assert!(text.contains(part), "{text}");
}
