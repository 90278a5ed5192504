//! In place of the password.

use anyhow::{Result, ensure};
use lab::web::Web;
use lab::{Lab, pages};

use super::{enrol, make, press, send, settings, signed, told};
use crate::common::{is_let_through, session};

const PASSWORD: &str = "korrekt Pferd Batterie";

/// Nobody is logged in at the pages, nor at the proxy.
fn log_out(lab: &Lab, browser: &mut lab::browser::Browser) -> Result<()> {
    lab.gateway.ask(&["logout", &lab.address(0)])?;
    browser.forget_cookies()
}

#[test]
fn a_user_and_an_administrator_log_in_with_a_passkey_and_nothing_else() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, &settings("alone"))?;
    let mut browser = lab.browser(0).chromium()?;
    let device = enrol(&mut browser, "alice", "Phone")?;
    log_out(&lab, &mut browser)?;
    ensure!(!is_let_through(&lab, 0));
    browser.open(&Web::url("/login"))?;
    press(&mut browser, "login")?;
    browser.reads("You are logged in as")?;
    let now = session(&lab, 0)?;
    ensure!(now.is_active() && is_let_through(&lab, 0), "{now:?}");
    ensure!(lab.gateway.ask(&["sessions"])?.to_string().contains("\"passkey\""), "the method");

    // Whatever is typed as a name: the passkey says who it is. Where she wanted is not forgotten.
    log_out(&lab, &mut browser)?;
    let wanted = crate::common::url("/headers?of=this&page");
    browser.open(&wanted)?;
    browser.arrives(|url| url.starts_with(&Web::url("/login")))?;
    browser.types("#name", "bob")?;
    press(&mut browser, "login")?;
    browser.arrives(|url| url == wanted)?;
    ensure!(session(&lab, 0)?.user.to_lowercase().starts_with("alice"));

    // She administers nothing.
    browser.open(&Web::url("/admin/login"))?;
    press(&mut browser, "login")?;
    browser.reads("You may not administer this gateway")?;
    browser.unplug(&device)?;
    log_out(&lab, &mut browser)?;
    enrol(&mut browser, "carol", "Carol's")?;
    log_out(&lab, &mut browser)?;
    browser.open(&Web::url("/admin/login"))?;
    press(&mut browser, "login")?;
    browser.arrives(|url| url == Web::url("/status"))?;
    ensure!(told(&lab, "admin-login", "passkey"));
    ensure!(!is_let_through(&lab, 0), "an administrator has no session of the proxy by it");
    Ok(())
}

#[test]
fn a_local_user_who_is_switched_off_or_must_change_the_password_is_not_let_in() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(1, &settings("alone"))?;
    crate::local_users_login::user(&lab, &["add", "dora"], PASSWORD)?;
    let mut browser = lab.browser(0).chromium()?;
    browser.open(&Web::url("/login"))?;
    browser.types("#name", "dora@local")?;
    browser.types("#password", PASSWORD)?;
    browser.clicks("main form button[type=submit]")?;
    browser.reads("You are logged in as")?;
    browser.plug_in(true)?;
    make(&mut browser, "Dora's")?;
    browser.reads("shown now, and never again")?;
    log_out(&lab, &mut browser)?;
    browser.open(&Web::url("/login"))?;
    press(&mut browser, "login")?;
    browser.reads("You are logged in as")?;
    lab.gateway.ask(&["user", "disable", "dora"])?;
    browser.forget_cookies()?;
    browser.open(&Web::url("/login"))?;
    press(&mut browser, "login")?;
    browser.reads("You cannot log in with this passkey at present")?;
    ensure!(!is_let_through(&lab, 0) && told(&lab, "refused", "disabled"));
    lab.gateway.ask(&["user", "remove", "dora"])?;
    browser.open(&Web::url("/login"))?;
    press(&mut browser, "login")?;
    browser.reads("passkey")?;
    ensure!(!is_let_through(&lab, 0));
    Ok(())
}

/// The host that passkeys are made for has changed.
#[test]
fn another_host_is_warned_of_before_and_stops_passkeys_until_it_is_put_back() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(1, &settings("alone"))?;
    let mut browser = lab.browser(0).chromium()?;
    enrol(&mut browser, "alice", "Phone")?;
    log_out(&lab, &mut browser)?;
    lab.gateway.configure("[portal]\nhost = \"elsewhere.example.test\"\n")?;
    let (exit, said) = lab.gateway.check_config()?;
    ensure!(exit == Some(0) && said.contains("1 passkey is for proxy.example.test"), "{said}");
    lab.gateway.restart()?;
    let status = lab.gateway.ask(&["status"])?;
    ensure!(status["warnings"].to_string().contains("1 passkey is for proxy.example.test"), "{status}");
    ensure!(status["passkeys"]["proxy.example.test"] == 1, "{status}");
    browser.open(&Web::url("/login"))?;
    browser.reads("Passkeys do not work at present, because the gateway's name has changed")?;
    pages::log_in(&mut browser, "/login", "alice")?;
    browser.reads("Passkeys do not work at present")?;
    lab.gateway.configure("[portal]\nhost = \"proxy.example.test\"\n")?;
    lab.gateway.restart()?;
    browser.forget_cookies()?;
    browser.open(&Web::url("/login"))?;
    // What was signed on one page is not good after the minute is over, nor twice: asked now, sent in the end.
    let fields = signed(&mut browser, "login")?;
    ensure!(
        send(&mut browser, "/second-factor/passkey/login", &fields)?.0 != 403,
        "the passkey is good again"
    );
    let (status, text) = send(&mut browser, "/second-factor/passkey/login", &fields)?;
    ensure!(status == 403, "twice: {status} {text}");
    Ok(())
}
