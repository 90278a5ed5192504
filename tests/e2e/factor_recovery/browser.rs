//! The vendor's flow in a real browser.

use anyhow::{Context as _, Result};
use lab::browser::ENTER;
use lab::oath::Authenticator;
use lab::web::Web;

use super::{last_code, set_up, start};
use crate::factor_browser::is_for_everybody;

#[test]
fn who_has_lost_it_presses_the_button_reads_the_mail_and_sets_it_up_anew() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, smtp) = start(2, "")?;
    set_up(&lab, 1, "alice", "alice@example.org")?;
    smtp.has(2)?;
    lab.gateway.ask(&["set", "second-factor.domains", "EXAMPLE.TEST=required"])?;
    let mut browser = lab.browser(0).chromium()?;
    browser.open(&Web::url("/login"))?;
    browser.types("#name", "alice")?;
    browser.types("#password", "alice-pw")?;
    browser.press(ENTER)?;
    browser.arrives(|url| url == Web::url("/second-factor"))?;
    browser.reads("Recover lost 2FA")?;
    browser.clicks("a[href='/second-factor/recover']")?;
    browser.reads("A code is mailed")?;
    is_for_everybody(&mut browser)?;
    browser.clicks("main form button[type=submit]")?;
    browser.reads("a code is on its way")?;
    is_for_everybody(&mut browser)?;
    let mailed = last_code(&smtp.has(4)?)?;
    browser.types("#code", "ABCD-2345")?;
    browser.press(ENTER)?;
    browser.reads("This code is not right")?;
    is_for_everybody(&mut browser)?;
    browser.types("#code", &mailed)?;
    browser.press(ENTER)?;
    browser.arrives(|url| url.starts_with(&Web::url("/login")))?;
    browser.types("#name", "alice")?;
    browser.types("#password", "alice-pw")?;
    browser.press(ENTER)?;
    browser.reads("Scan this")?;
    let shown = browser.script("return document.querySelector('.secret code').textContent", &[])?;
    let own = Authenticator::new(shown.as_str().context("no secret")?);
    browser.types("#address", "alice@example.org")?;
    browser.types("#code", &own.code()?)?;
    browser.press(ENTER)?;
    browser.reads("shown now, and never again").map(drop)
}
