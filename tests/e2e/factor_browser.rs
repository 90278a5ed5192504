//! Codes in a real browser: both scenarios of the vendor's document, administrators, and the picture as a phone reads it.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lab::browser::{Browser, ENTER, TAB};
use lab::oath::Authenticator;
use lab::pages;
use lab::wait::{PAGE, until};
use lab::web::Web;
use lab::{Lab, axe, npm};

use crate::common::{is_let_through, session};

const PASSWORD: &str = "korrekt Pferd Batterie";

/// What `zbarimg` reads on what the browser shows.
fn scanned(lab: &Lab, browser: &mut Browser) -> Result<String> {
    let file = lab.scratch.write("screen.png", browser.picture()?)?;
    let output = Command::new("zbarimg").args(["--quiet", "--raw"]).arg(&file).output()?;
    ensure!(output.status.success(), "it reads nothing: {output:?}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// The secret as text, and that a phone reads the same in light and in dark, on a desk and on a small screen.
fn scan(lab: &Lab, browser: &mut Browser, user: &str) -> Result<Authenticator> {
    let shown = browser.script("return document.querySelector('.secret code').textContent", &[])?;
    let own = Authenticator::new(shown.as_str().context("no secret")?);
    for (width, height) in [(1280, 1800), (320, 2400)] {
        browser.size(width, height)?;
        for dark in [false, true] {
            browser.dark(dark)?;
            let url = scanned(lab, browser).with_context(|| format!("dark: {dark}, {width}"))?;
            ensure!(url.starts_with("otpauth://totp/"), "{url}");
            ensure!(url.contains(&format!("secret={}", own.secret())), "{url}");
            ensure!(url.contains("issuer=Example") && url.to_lowercase().contains(user), "{url}");
        }
    }
    browser.dark(false)?;
    browser.size(1280, 900)?;
    Ok(own)
}

/// What axe-core finds on the page, where it can be had.
pub(crate) fn is_for_everybody(browser: &mut Browser) -> Result<()> {
    let Some(tools) = npm::tools() else { return Ok(()) };
    let axe = tools.axe()?;
    for dark in [false, true] {
        browser.dark(dark)?;
        let faults = axe::faults(browser, &axe)?;
        ensure!(faults.is_empty(), "{}: {faults:#?}", browser.url()?);
    }
    browser.dark(false)
}

/// Fills in the set-up that is shown, by what a phone shows.
fn sets_up(lab: &Lab, browser: &mut Browser, user: &str) -> Result<Authenticator> {
    is_for_everybody(browser)?;
    let own = scan(lab, browser, user)?;
    browser.types("#address", "somebody@example.org")?;
    browser.types("#code", &own.code()?)?;
    browser.press(ENTER)?;
    browser.reads("shown now, and never again")?;
    is_for_everybody(browser)?;
    let codes = browser.script("return document.querySelectorAll('.codes code').length", &[])?;
    ensure!(codes == 10, "{codes}");
    Ok(own)
}

/// Logs in with a password and, by keyboard alone, with a code.
fn logs_in(lab: &Lab, browser: &mut Browser, path: &str, user: &str, password: &str) -> Result<()> {
    browser.forget_cookies()?;
    // Where nobody is logged in to the proxy.
    lab.gateway.ctl(&["logout", &lab.address(0)])?;
    browser.open(&Web::url(path))?;
    browser.types("#name", user)?;
    browser.types("#password", password)?;
    browser.press(ENTER)?;
    browser.arrives(|url| url == Web::url("/second-factor")).map(drop)
}

fn by_keyboard(browser: &mut Browser, own: &Authenticator) -> Result<()> {
    is_for_everybody(browser)?;
    // It is there already; and from the top of the page it is reached.
    ensure!(browser.script("return document.activeElement.id", &[])? == "code");
    browser.script("document.activeElement.blur()", &[])?;
    for _ in 0..40 {
        browser.press(TAB)?;
        if browser.script("return document.activeElement.id", &[])? == "code" {
            break;
        }
    }
    for key in own.code()?.chars().map(String::from).chain([ENTER.to_owned()]) {
        browser.press(&key)?;
    }
    until("to be in", PAGE, || {
        // First they may be told of their phone's clock.
        if browser.has("a.target").ok()? {
            browser.clicks("a.target").ok()?;
        }
        browser.url().ok().filter(|url| !url.contains("/second-factor"))
    })
    .with_context(|| format!("{:?}", browser.text()))
    .map(drop)
}

/// Scenario one of the vendor's document: it is optional, and its user switches it on.
#[test]
fn scenario_one_a_user_switches_it_on() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let settings = "[second-factor.domains]\n\"EXAMPLE.TEST\" = \"optional\"\n[portal]\norganisation = \"Example & Sons\"\n";
    let lab = Lab::start_with(1, settings)?;
    let mut browser = lab.browser(0).chromium()?;
    pages::log_in(&mut browser, "/login", "alice")?;
    browser.clicks("a[href='/second-factor']")?;
    browser.reads("Start 2FA setup")?;
    is_for_everybody(&mut browser)?;
    browser.clicks("a[href='/second-factor/set-up']")?;
    browser.reads("Do you want to start?")?;
    is_for_everybody(&mut browser)?;
    browser.clicks("main form button[type=submit]")?;
    browser.reads("Scan this")?;
    let own = sets_up(&lab, &mut browser, "alice")?;
    browser.clicks("a.target")?;
    browser.reads("Recovery codes left: 10")?;
    is_for_everybody(&mut browser)?;
    assert!(is_let_through(&lab, 0));

    logs_in(&lab, &mut browser, "/login", "alice", "alice-pw")?;
    assert_eq!(session(&lab, 0)?.state, "waiting");
    by_keyboard(&mut browser, &own)?;
    browser.reads("You are logged in as")?;
    assert!(session(&lab, 0)?.is_active() && is_let_through(&lab, 0));

    // A wrong code says so at the field.
    logs_in(&lab, &mut browser, "/login", "alice", "alice-pw")?;
    browser.types("#code", &own.wrong(1)?)?;
    browser.press(ENTER)?;
    browser.reads("This code is not right")?;
    is_for_everybody(&mut browser)?;
    browser.clicks("a[href='/second-factor/recovery-code']")?;
    browser.reads("Use a recovery code")?;
    is_for_everybody(&mut browser)
}

/// Scenario two: it is demanded, and after the password there is the set-up and nothing else.
#[test]
fn scenario_two_it_is_demanded_and_leads_on_to_what_was_wanted() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let settings = "[second-factor.domains]\n\"EXAMPLE.TEST\" = \"required\"\n[portal]\norganisation = \"Example & Sons\"\n\
        administrators = [\"carol@EXAMPLE.TEST\"]\n";
    let lab = Lab::start_with(1, settings)?;
    let mut browser = lab.browser(0).language("de").chromium()?;
    let wanted = crate::common::url("/headers?of=this&page");
    browser.open(&wanted)?;
    browser.arrives(|url| url.starts_with(&Web::url("/login")))?;
    browser.types("#name", "bob")?;
    browser.types("#password", "bob-pw")?;
    browser.press(ENTER)?;
    browser.reads("Scannen Sie dies")?;
    browser.open(&Web::url("/status"))?;
    browser.arrives(|url| url.starts_with(&Web::url("/admin/login")))?;
    assert_eq!(session(&lab, 0)?.state, "waiting");
    browser.open(&Web::url("/second-factor"))?;
    let own = scan(&lab, &mut browser, "bob")?;
    browser.types("#code", &own.code()?)?;
    browser.press(ENTER)?;
    browser.reads("nie wieder")?;
    is_for_everybody(&mut browser)?;
    browser.clicks("a.target")?;
    browser.arrives(|url| url == wanted)?;
    assert!(session(&lab, 0)?.is_active());

    // An administrator goes the same way, to the administration.
    logs_in(&lab, &mut browser, "/admin/login", "carol", "carol-pw")?;
    let own = scan(&lab, &mut browser, "carol")?;
    browser.types("#code", &own.code()?)?;
    browser.press(ENTER)?;
    browser.reads("nie wieder")?;
    browser.clicks("a.target")?;
    browser.arrives(|url| url == Web::url("/status"))?;
    ensure!(browser.has(".account a[href='/second-factor']")?, "at the top right");
    is_for_everybody(&mut browser)?;
    logs_in(&lab, &mut browser, "/admin/login", "carol", "carol-pw")?;
    by_keyboard(&mut browser, &own)?;
    browser.arrives(|url| url == Web::url("/status")).map(drop)
}

/// The built-in administrator.
#[test]
fn the_built_in_administrator_sets_it_up_from_the_top_right() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let settings = "[second-factor.domains]\n\"EXAMPLE.TEST\" = \"optional\"\n[portal]\norganisation = \"Example & Sons\"\n";
    let lab = Lab::start_with(1, settings)?;
    let first = fs::read_to_string(lab.scratch.join("state/administrator-password"))?;
    let web = Web::new(&lab, 0);
    let form = web.get("/password?then=admin")?;
    let fields = [
        ("name", "admin"),
        ("current", first.trim()),
        ("new", PASSWORD),
        ("repeat", PASSWORD),
        ("then", "admin"),
    ];
    ensure!(web.post(&form, "/password", &fields)?.code == 303);
    let mut browser = lab.browser(0).chromium()?;
    browser.open(&Web::url("/admin/login"))?;
    browser.types("#name", "admin")?;
    browser.types("#password", PASSWORD)?;
    browser.press(ENTER)?;
    browser.arrives(|url| url == Web::url("/status"))?;
    browser.reads("Set up 2FA")?;
    browser.clicks(".account a[href='/second-factor']")?;
    browser.reads("Start 2FA setup")?;
    browser.clicks("a[href='/second-factor/set-up']")?;
    browser.clicks("main form button[type=submit]")?;
    browser.reads("Scan this")?;
    let own = sets_up(&lab, &mut browser, "admin")?;
    browser.clicks("a.target")?;
    browser.reads("Recovery codes left: 10")?;
    logs_in(&lab, &mut browser, "/admin/login", "admin", PASSWORD)?;
    by_keyboard(&mut browser, &own)?;
    browser.arrives(|url| url == Web::url("/status")).map(drop)
}
