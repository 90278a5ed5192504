//! As a second factor.

use anyhow::{Context as _, Result, ensure};
use lab::wait::{PAGE, until};
use lab::web::Web;
use lab::{Lab, axe, npm, pages};

use super::{button, enrol, first_factor, make, press, settings, told};
use crate::common::{is_let_through, session};

#[test]
fn two_are_made_with_names_given_after_the_password_renamed_and_deleted() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, &settings("second"))?;
    let mut browser = lab.browser(0).chromium()?;
    let phone = enrol(&mut browser, "alice", "Phone")?;
    ensure!(session(&lab, 0)?.is_active() && is_let_through(&lab, 0), "who makes one has proved it");
    ensure!(told(&lab, "second-factor", "passkey-added"));
    browser.open(&Web::url("/second-factor"))?;
    browser.reads("Phone")?;

    // The same device has no second one for her.
    make(&mut browser, "Phone again")?;
    browser.reads("This device has a passkey for you already")?;
    let known = browser.passkeys(&phone)?;
    ensure!(known.len() == 1, "{known:?}");
    browser.unplug(&phone)?;
    let laptop = browser.plug_in(true)?;
    make(&mut browser, "phone")?;
    browser.reads("You have a passkey of this name already")?;
    ensure!(browser.has("#name")?, "it can be tried again");
    make(&mut browser, "Laptop")?;
    browser.arrives(|url| url.ends_with("done=passkey-added"))?;
    browser.reads("The passkey was added")?;
    let text = browser.text()?;
    ensure!(text.contains("Phone") && text.contains("Laptop"), "{text}");
    if let Some(tools) = npm::tools() {
        let axe = tools.axe()?;
        for path in ["/second-factor", "/second-factor/passkey/add"] {
            browser.open(&Web::url(path))?;
            for dark in [false, true] {
                browser.dark(dark)?;
                let faults = axe::faults(&mut browser, &axe)?;
                ensure!(faults.is_empty(), "{path}: {faults:#?}");
            }
        }
        browser.dark(false)?;
    }

    first_factor(&lab, &mut browser, "alice")?;
    ensure!(session(&lab, 0)?.state == "waiting" && !is_let_through(&lab, 0));
    ensure!(!browser.has("#code")?, "there is no authenticator to ask for a code");
    press(&mut browser, "give")?;
    browser.reads("You are logged in as")?;
    ensure!(session(&lab, 0)?.is_active() && is_let_through(&lab, 0));
    ensure!(told(&lab, "login", "passkey"), "{}", lab.gateway.ask(&["events"])?);

    // What she has just proved is good for a while; then she is asked again.
    browser.open(&Web::url("/second-factor"))?;
    browser.clicks("li:nth-of-type(1) summary")?;
    browser.script("document.querySelector('[name=name]').value = 'Old phone'", &[])?;
    browser.clicks("li:nth-of-type(1) details button")?;
    browser.reads("The passkey has another name")?;
    browser.clicks("form[action='/second-factor/passkey/remove'] button")?;
    browser.reads("The passkey was removed")?;
    ensure!(!browser.text()?.contains("Old phone") && told(&lab, "second-factor", "passkey-removed"));

    // The one that is left works, the one that is deleted does not.
    first_factor(&lab, &mut browser, "alice")?;
    browser.unplug(&laptop)?;
    let old = browser.plug_in(true)?;
    browser.put_passkey(&old, &known[0])?;
    press(&mut browser, "give")?;
    browser.reads("No passkey came")?;
    ensure!(session(&lab, 0)?.state == "waiting");
    Ok(())
}

#[test]
fn where_one_is_demanded_a_passkey_is_set_up_instead_of_an_authenticator_and_the_last_one_stays() -> Result<()>
{
    if lab::skipped() {
        return Ok(());
    }
    let settings =
        settings("second").replace("\"EXAMPLE.TEST\" = \"optional\"", "\"EXAMPLE.TEST\" = \"required\"");
    let lab = Lab::start_with(1, &settings)?;
    let mut browser = lab.browser(0).chromium()?;
    pages::log_in(&mut browser, "/login", "bob")?;
    browser.plug_in(true)?;
    browser.clicks("a[href='/second-factor/passkey/add']")?;
    browser.reads("Your domain asks for a second factor")?;
    ensure!(session(&lab, 0)?.state == "waiting" && !is_let_through(&lab, 0));
    browser.types("#name", "Key")?;
    press(&mut browser, "add")?;
    browser.reads("shown now, and never again")?;
    ensure!(session(&lab, 0)?.is_active() && is_let_through(&lab, 0), "making it has proved it");
    browser.open(&Web::url("/second-factor"))?;
    browser.clicks("form[action='/second-factor/passkey/remove'] button")?;
    browser.reads("This is your only second factor")?;
    browser.reads("Key")?;
    // An administrator is asked on the same page.
    browser.forget_cookies()?;
    pages::log_in(&mut browser, "/admin/login", "carol")?;
    browser.clicks("a[href='/second-factor/passkey/add']")?;
    browser.types("#name", "Carol's key")?;
    press(&mut browser, "add")?;
    browser.reads("shown now, and never again")?;
    browser.open(&Web::url("/status"))?;
    ensure!(browser.url()? == Web::url("/status"));
    browser.forget_cookies()?;
    pages::log_in(&mut browser, "/admin/login", "carol")?;
    press(&mut browser, "give")?;
    browser.arrives(|url| url == Web::url("/status")).map(drop)
}

/// A change a while after the factor asks for it once more; the change is carried along.
#[test]
fn a_change_is_confirmed_by_a_passkey_and_carried_along() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, &settings("second"))?;
    let mut browser = lab.browser(0).chromium()?;
    enrol(&mut browser, "alice", "Phone")?;
    // A login that did not prove one is not fresh: that of another browser, whose cookie outlives a restart.
    let mut lab = lab;
    lab.gateway.restart()?;
    browser.open(&Web::url("/second-factor/passkey/add"))?;
    browser.reads("Confirm that it is you")?;
    press(&mut browser, "confirm")?;
    browser.reads("Name of the passkey")?;
    lab.gateway.restart()?;
    browser.open(&Web::url("/second-factor"))?;
    browser.clicks("form[action='/second-factor/passkey/remove'] button")?;
    browser.reads("Confirm that it is you")?;
    press(&mut browser, "confirm")?;
    browser.reads("The passkey was removed")?;
    ensure!(told(&lab, "second-factor", "passkey-removed"));
    Ok(())
}

#[test]
fn a_page_by_an_address_or_another_name_or_without_script_says_why_there_is_no_button() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, &settings("alone"))?;
    let web = Web::new(&lab, 0);
    let by_name = web.get("/login")?.text();
    ensure!(
        by_name.contains("Log in with a passkey") && by_name.contains("Passkeys need JavaScript"),
        "{by_name}"
    );
    let url = Web::url("/login").replace("proxy.example.test", &lab::net::GATEWAY_V4.to_string());
    let by_address = web.ask(&url, &[], &[])?.text();
    ensure!(
        by_address.contains("reached by an address. Open it by the name proxy.example.test.")
            && !by_address.contains("data-passkey"),
        "{by_address}"
    );
    let mut browser = lab.browser(0).chromium()?;
    browser.open(&url)?;
    browser.reads("reached by an address")?;
    ensure!(!browser.has(&button("login"))?);
    // A browser that takes the connection for insecure, or has no passkeys.
    for (gone, says) in [
        ("isSecureContext", "does not take this connection for a secure one"),
        ("PublicKeyCredential", "This browser has no passkeys"),
    ] {
        let script = format!("Object.defineProperty(window, '{gone}', {{ value: undefined }})");
        let source = serde_json::json!({ "source": script });
        let added = browser.devtools("Page.addScriptToEvaluateOnNewDocument", &source)?;
        browser.open(&Web::url("/login"))?;
        browser.reads(says)?;
        let hidden = format!("return document.querySelector('{}').hidden", button("login"));
        until("no button", PAGE, || browser.script(&hidden, &[]).ok().filter(|hidden| hidden == true))?;
        let id = added["identifier"].as_str().context("no script")?;
        let id = serde_json::json!({ "identifier": id });
        browser.devtools("Page.removeScriptToEvaluateOnNewDocument", &id)?;
    }
    Ok(())
}
