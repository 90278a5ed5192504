//! A reset that waits, and is stopped or is not.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::smtp::Smtp;
use lab::wait::{silence, until};
use lab::web::Web;
use lab::{Lab, oath};

use super::{GIVE, HOME, ask, last_code, leads_to, lost, reasons, set_up, start};
use crate::common::is_for_people;
use crate::portal_login::log_in;

const STOP: &str = "/second-factor/recover/stop";

/// Somebody who has alice's password and reads her recovery mail asks for the reset; the path in the mail that stops it.
fn asks(lab: &Lab, smtp: &Smtp, mails: usize) -> Result<String> {
    let (web, page) = lost(lab, 0, "alice")?;
    let asked = ask(&web, &page)?;
    let mailed = last_code(&smtp.has(mails + 2)?)?;
    let waits = web.post(&asked, GIVE, &[("code", &mailed)])?;
    ensure!(waits.code == 200 && waits.text().contains("takes effect at this time"), "{}", waits.text());
    is_for_people(lab, &waits.text())?;
    let told = smtp.has(mails + 4)?;
    let last: Vec<_> = told.iter().skip(mails + 2).collect();
    let mut to: Vec<&str> = last.iter().map(|mail| &*mail.to).collect();
    to.sort_unstable();
    assert_eq!(to, ["alice@example.org", "alice@mail.example"]);
    let link = last[0].behind("stop it on this page: ")?;
    assert_eq!(link, last[1].behind("stop it on this page: ")?);
    let path = link.strip_prefix(&Web::url("")).context("it leads elsewhere")?;
    ensure!(path.starts_with(STOP), "{path}");
    Ok(path.to_owned())
}

/// Whether a code is still asked for.
fn is_asked(lab: &Lab, own: &oath::Authenticator) -> Result<bool> {
    let web = Web::new(lab, 0);
    let done = log_in(&web, "alice", "alice-pw")?;
    if leads_to(&done, "/") {
        return Ok(false);
    }
    let page = web.get(HOME)?;
    let given = web.post(&page, "/second-factor/code", &[("code", &own.code()?)])?;
    // Where its clock seems off, the page says so first.
    let is_in = leads_to(&given, "/") || given.text().contains("You are logged in");
    ensure!(is_in, "{}", given.text());
    Ok(true)
}

#[test]
fn a_reset_that_waits_is_stopped_by_the_mail_by_its_owner_and_by_a_right_code() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, smtp) = start(2, "[second-factor]\nrecovery-delay = \"1h\"\n")?;
    let (owner, own) = set_up(&lab, 1, "alice", "alice@example.org")?;
    smtp.has(2)?;
    let path = asks(&lab, &smtp, 2)?;
    ensure!(owner.get(HOME)?.text().contains("going to be reset by a mailed code"));
    // Whoever looks at what is in mails opens it, and nothing happens.
    let stranger = Web::new(&lab, 0);
    let page = stranger.get(&path)?;
    ensure!(page.code == 200 && page.text().contains("alice@EXAMPLE.TEST"), "{}", page.text());
    is_for_people(&lab, &page.text())?;
    ensure!(stranger.get(&path)?.text().contains("Stop it"), "still");
    let id = path.split_once("id=").map(|(_, id)| id.to_owned()).context("no id")?;
    let wrong = stranger.post(&page, STOP, &[("id", &"0".repeat(id.len()))])?;
    ensure!(wrong.code == 404 && stranger.get(&path)?.code == 200, "{wrong:?}");
    // Nor may somebody who is not logged in with the factor.
    ensure!(leads_to(&stranger.get(STOP)?, HOME));
    let done = stranger.post(&page, STOP, &[("id", &id)])?;
    ensure!(done.code == 200 && done.text().contains("as it was"), "{}", done.text());
    ensure!(stranger.get(&path)?.code == 404, "once");
    ensure!(smtp.has(8)?.iter().skip(6).all(|mail| mail.text.contains("was stopped")));
    ensure!(is_asked(&lab, &own)?);
    assert_eq!(
        reasons(&lab, "second-factor")?,
        ["enrolled", "recovery-mailed", "recovery-waits", "recovery-stopped"]
    );
    Ok(())
}

#[test]
fn a_reset_that_waits_survives_a_crash_and_takes_effect() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (mut lab, smtp) = start(2, "[second-factor]\nrecovery-delay = \"5s\"\n")?;
    let own = set_up(&lab, 1, "alice", "alice@example.org")?.1;
    smtp.has(2)?;
    asks(&lab, &smtp, 2)?;
    lab.gateway.kill();
    silence(Duration::from_secs(1));
    lab.gateway.start()?;
    until("the reset to take effect", Duration::from_secs(30), || {
        (reasons(&lab, "second-factor").ok()?.last()? == "recovered").then_some(())
    })?;
    // Of those before the crash some may come again.
    until("both to be told", Duration::from_secs(30), || {
        let mails = smtp.mails().ok()?;
        let told = mails.iter().filter(|mail| mail.text.contains("Your second factor was reset"));
        let to: std::collections::BTreeSet<_> = told.map(|mail| mail.to.clone()).collect();
        (to.len() == 2).then_some(())
    })?;
    ensure!(!is_asked(&lab, &own)?, "the password is enough");
    Ok(())
}

/// Who finds their phone again needs no reset, and whoever has ordered it gets none.
#[test]
fn a_right_code_stops_it_and_so_does_whoever_is_logged_in() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, smtp) = start(2, "[second-factor]\nrecovery-delay = \"1h\"\n")?;
    let (owner, own) = set_up(&lab, 1, "alice", "alice@example.org")?;
    smtp.has(2)?;
    asks(&lab, &smtp, 2)?;
    let page = owner.get(STOP)?;
    ensure!(page.code == 200, "{page:?}");
    ensure!(owner.post(&page, STOP, &[])?.text().contains("as it was"));
    smtp.has(8)?;
    // A minute later; here the budget of codes that are mailed is the test's.
    ensure!(is_asked(&lab, &own)?);
    ensure!(lab.gateway.log().matches("recovery-stopped").count() >= 1);
    Ok(())
}
