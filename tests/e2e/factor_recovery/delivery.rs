//! What becomes of mail when the server is slow, broken or away.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::wait::until;
use lab::{Lab, smtp::Smtp};

use super::{ask, code, lost, set_up, start};
use crate::common::is_let_through;

const PATIENCE: Duration = Duration::from_secs(60);

fn waiting(lab: &Lab) -> f64 {
    lab.gateway.metric("tracker_mail_queue").ok().flatten().unwrap_or(-1.0)
}

fn result(lab: &Lab, result: &str) -> f64 {
    let start = format!("tracker_mail_total{{result=\"{result}\"}} ");
    let metrics = lab.gateway.metrics().unwrap_or_default();
    metrics.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok()).unwrap_or(-1.0)
}

/// A second factor is set up, and told of; then a code is asked for while the server does this.
fn asked_while(lab: &Lab, smtp: &Smtp, how: &str) -> Result<()> {
    set_up(lab, 1, "alice", "alice@example.org")?;
    smtp.has(2)?;
    smtp.behave(how)?;
    let (web, page) = lost(lab, 0, "alice")?;
    ask(&web, &page).map(drop)
}

#[test]
fn what_is_put_off_waits_on_disk_and_survives_a_crash() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (mut lab, smtp) = start(2, "")?;
    asked_while(&lab, &smtp, "defer")?;
    until("both to be put off", PATIENCE, || (result(&lab, "deferred") >= 2.0).then_some(()))?;
    assert!((waiting(&lab) - 2.0).abs() < 0.1);
    // It is tried again by itself.
    let before = smtp.tries();
    until("another try", PATIENCE, || (smtp.tries() > before).then_some(()))?;
    lab.gateway.kill();
    smtp.behave("")?;
    lab.gateway.start()?;
    let mails = smtp.has(4)?;
    ensure!(mails.iter().filter(|mail| code(mail).is_ok()).count() == 1, "{mails:?}");
    until("nothing to wait", PATIENCE, || (waiting(&lab) < 0.5).then_some(()))?;
    // What was sent is not sent again.
    lab.gateway.kill();
    lab.gateway.start()?;
    lab::wait::silence(Duration::from_secs(2));
    assert_eq!(smtp.mails()?.len(), 4);
    Ok(())
}

#[test]
fn what_is_refused_is_given_up_and_operators_are_told() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, smtp) = start(2, "")?;
    asked_while(&lab, &smtp, "refuse")?;
    until("both to be refused", PATIENCE, || (result(&lab, "refused") >= 2.0).then_some(()))?;
    assert!(waiting(&lab) < 0.5);
    let told = super::reasons(&lab, "mail-failed")?;
    ensure!(
        told.len() == 2 && told.iter().all(|why| why.starts_with("refused: ") && why.contains("550 5.1.1"))
    );
    let status = lab.gateway.shown(&["status"])?;
    ensure!(status.contains("alice@EXAMPLE.TEST was given up (refused)"), "{status}");
    ensure!(lab.gateway.log().contains("a mail about the account alice@EXAMPLE.TEST is given up (refused)"));
    // A server that repeats what it refuses tells nobody the code.
    smtp.behave("repeat")?;
    let web = set_up(&lab, 1, "bob", "bob@example.org")?;
    drop(web);
    until("it to be refused", PATIENCE, || (result(&lab, "refused") >= 4.0).then_some(()))?;
    ensure!(lab.gateway.log().contains("and repeats what is in the mail"), "{}", lab.gateway.log());
    Ok(())
}

#[test]
fn a_server_that_hangs_stalls_nobody() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (mut lab, smtp) = start(2, "")?;
    asked_while(&lab, &smtp, "hang")?;
    until("it to hang", PATIENCE, || (smtp.tries() >= 3).then_some(()))?;
    // Everything else goes on: logins, settings, a stop.
    lab.login(1, "bob")?;
    assert!(is_let_through(&lab, 1));
    lab.gateway.ask(&["set", "portal.contact", "Phone 4712"])?;
    lab.gateway.stop()?;
    smtp.behave("")?;
    lab.gateway.start()?;
    smtp.has(4).map(drop)
}

/// Where the server has taken a mail and its answer is lost, it is sent again, and is known to be the same.
#[test]
fn what_breaks_off_is_sent_again() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, smtp) = start(2, "")?;
    asked_while(&lab, &smtp, "close")?;
    until("it to break off", PATIENCE, || (result(&lab, "deferred") >= 2.0).then_some(()))?;
    smtp.behave("lose")?;
    let mails = smtp.has(3)?;
    smtp.behave("")?;
    let again = until("it to be sent again", PATIENCE, || {
        let waits = waiting(&lab);
        ((0.0..0.5).contains(&waits)).then(|| smtp.mails().ok())?
    })?;
    let id = |mail: &lab::smtp::Mail| mail.header("Message-ID").map(str::to_owned);
    ensure!(again.iter().filter(|mail| id(mail) == id(&mails[2])).count() >= 2, "{again:?}");
    let mut ids: Vec<_> = again.iter().map(id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4, "four mails in all");
    Ok(())
}
