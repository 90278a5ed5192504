//! How long a mailed code is good, and how often one may be typed.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::wait::{silence, until};

use super::{GIVE, ask, last_code, leads_to, lost, reasons, set_up, start};

#[test]
fn three_wrong_tries_are_the_last_of_a_code() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, smtp) = start(2, "")?;
    set_up(&lab, 1, "alice", "alice@example.org")?;
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

/// How long one is good is tested where time is an argument: the gateway's clock cannot be another than this machine's.
#[test]
fn a_code_survives_a_crash_and_is_void_with_the_next_one() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (mut lab, smtp) = start(2, "")?;
    set_up(&lab, 1, "alice", "alice@example.org")?;
    smtp.has(2)?;
    let first = {
        let (web, page) = lost(&lab, 0, "alice")?;
        ask(&web, &page)?;
        last_code(&smtp.has(4)?)?
    };
    // There is one a minute.
    silence(Duration::from_secs(61));
    lab.gateway.kill();
    lab.gateway.start()?;
    let second = {
        let (web, page) = lost(&lab, 0, "alice")?;
        let asked = ask(&web, &page)?;
        let second = until("another code", Duration::from_secs(20), || {
            smtp.mails().ok().and_then(|mails| last_code(&mails).ok()).filter(|code| *code != first)
        })?;
        let void = web.post(&asked, GIVE, &[("code", &first)])?;
        ensure!(void.code == 403, "the first one is void: {void:?}");
        second
    };
    lab.gateway.kill();
    lab.gateway.start()?;
    let (web, page) = lost(&lab, 0, "alice")?;
    let done = web.post(&page, GIVE, &[("code", &second)])?;
    ensure!(leads_to(&done, "/login"), "{}", done.text());
    Ok(())
}
