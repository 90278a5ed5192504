//! How long a mailed code is good, and how often one may be typed.

use anyhow::{Result, ensure};
use lab::wait::until;

use super::{GIVE, ask, last_code, leads_to, lost, reasons, set_up, start, trusts};

#[test]
fn three_wrong_tries_are_the_last_of_a_code() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, smtp) = start(1, "")?;
    set_up(&lab, 0, "alice", "alice@example.org")?;
    smtp.has(2)?;
    let (web, page) = lost(&lab, 0, "alice")?;
    let asked = ask(&web, &page)?;
    let mailed = last_code(&smtp.has(4)?)?;
    for wrong in ["AAAA-AAAA", "", "x\r\nBcc: y@example.org"] {
        let refused = web.post(&asked, GIVE, &[("code", wrong)])?;
        ensure!(refused.code == 403 && refused.text().contains("not right"), "{wrong}: {}", refused.text());
    }
    let void = web.post(&asked, GIVE, &[("code", &mailed)])?;
    ensure!(void.code == 403, "{void:?}");
    // It was the login's fifth with this one: back to the password.
    let over = web.post(&asked, GIVE, &[("code", &mailed)])?;
    ensure!(over.code == 403 && over.text().contains("name=\"password\""), "{}", over.text());
    assert_eq!(reasons(&lab, "second-factor-refused")?, ["wrong-recovery-code"; 5]);
    // The account's budget is the same as that of other codes: ten in a quarter of an hour.
    let (web, page) = lost(&lab, 0, "alice")?;
    let asked = ask(&web, &page)?;
    for _ in 0..5 {
        web.post(&asked, GIVE, &[("code", "AAAA-AAAA")])?;
    }
    let (web, page) = lost(&lab, 0, "alice")?;
    let refused = web.post(&ask(&web, &page)?, GIVE, &[("code", "AAAA-AAAA")])?;
    ensure!(refused.text().contains("Wait a quarter of an hour"), "{}", refused.text());
    Ok(())
}

/// Over restarts, on which the gateway's clock goes on.
#[test]
fn a_code_survives_a_restart_is_void_with_the_next_one_and_after_ten_minutes() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (mut lab, smtp) = start(1, "")?;
    set_up(&lab, 0, "alice", "alice@example.org")?;
    smtp.has(2)?;
    let first = {
        let (web, page) = lost(&lab, 0, "alice")?;
        ask(&web, &page)?;
        last_code(&smtp.has(4)?)?
    };
    lab.gateway.stop()?;
    trusts(&mut lab, &smtp, Some("+2m"))?;
    lab.gateway.start()?;
    let second = {
        let (web, page) = lost(&lab, 0, "alice")?;
        let asked = ask(&web, &page)?;
        let second = last_code(&smtp.has(6)?)?;
        assert_ne!(first, second);
        let void = web.post(&asked, GIVE, &[("code", &first)])?;
        ensure!(void.code == 403, "the first one is void: {void:?}");
        second
    };
    lab.gateway.kill();
    trusts(&mut lab, &smtp, Some("+13m"))?;
    lab.gateway.start()?;
    {
        let (web, page) = lost(&lab, 0, "alice")?;
        let late = web.post(&page, GIVE, &[("code", &second)])?;
        ensure!(late.code == 403, "{late:?}");
        let asked = ask(&web, &page)?;
        smtp.has(8)?;
        drop(asked);
    }
    let third = last_code(&smtp.mails()?)?;
    lab.gateway.kill();
    trusts(&mut lab, &smtp, Some("+15m"))?;
    lab.gateway.start()?;
    {
        let (web, page) = lost(&lab, 0, "alice")?;
        let done = web.post(&page, GIVE, &[("code", &third)])?;
        ensure!(leads_to(&done, "/login"), "after a crash and two minutes it is good: {}", done.text());
    }
    until("all to be told", std::time::Duration::from_secs(20), || {
        smtp.mails().ok().filter(|mails| mails.len() == 10).map(drop)
    })
}
