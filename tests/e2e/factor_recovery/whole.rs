//! The vendor's flow: the button, the mail, the code, back at the login, set up anew.

use std::process::Command;

use anyhow::{Result, ensure};
use lab::smtp::{self, Tls, Wishes};
use lab::web::Web;

use super::{
    GIVE, HOME, RECOVER, SETTINGS, ask, code, leads_to, lost, mail, reasons, set_up, start, start_with,
};
use crate::common::{is_for_people, session};
use crate::portal_login::log_in;

#[test]
fn a_mailed_code_resets_the_second_factor_and_both_addresses_are_told() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, smtp) = start(2, "")?;
    let (_, first) = set_up(&lab, 1, "alice", "alice@example.org")?;
    let told = smtp.has(2)?;
    let mut to: Vec<&str> = told.iter().map(|mail| &*mail.to).collect();
    to.sort_unstable();
    assert_eq!(to, ["alice@example.org", "alice@mail.example"], "of the set-up");
    assert!(
        smtp.said().lines().filter(|line| line.starts_with("rcpt")).all(|line| line.contains("tls=True"))
    );

    let (web, page) = lost(&lab, 0, "alice")?;
    is_for_people(&lab, &page.text())?;
    assert_eq!(session(&lab, 0)?.state, "waiting");
    let asked = ask(&web, &page)?;
    is_for_people(&lab, &asked.text())?;
    ensure!(!asked.text().contains("example.org"), "the address is not told: {}", asked.text());
    let mails = smtp.has(4)?;
    let to_recovery = mails.iter().skip(2).find(|mail| mail.to == "alice@example.org").unwrap();
    let to_own = mails.iter().skip(2).find(|mail| mail.to == "alice@mail.example").unwrap();
    let mailed = code(to_recovery)?;
    for (name, value) in [
        ("From", "=?utf-8?b?RXhhbXBsZSAmIFNvbnM=?= <gateway@example.test>"),
        ("To", "alice@example.org"),
        ("Subject", "Your code for resetting the second factor"),
        ("Auto-Submitted", "auto-generated"),
        ("Content-Type", "text/plain; charset=utf-8"),
    ] {
        assert_eq!(to_recovery.header(name), Some(value), "{}", to_recovery.head);
    }
    ensure!(to_recovery.header("Date").is_some() && to_recovery.header("Message-ID").is_some());
    for word in ["alice@EXAMPLE.TEST", "Example & Sons", "10.77.0.11", "Phone 4711"] {
        ensure!(to_recovery.text.contains(word) && to_own.text.contains(word), "{word}: {}", to_own.text);
    }
    ensure!(!to_own.text.contains(&mailed) && code(to_own).is_err(), "{}", to_own.text);
    ensure!(to_own.text.contains("asked for a code"), "{}", to_own.text);

    // However it is typed; back at the login, where the password is enough, and the second factor is set up anew.
    let done = web.post(&asked, GIVE, &[("code", &mailed.to_lowercase().replace('-', " "))])?;
    ensure!(leads_to(&done, "/login"), "{done:?}\n{}", done.text());
    ensure!(lab.gateway.session(&lab.address(0))?.is_none(), "nothing waits any more");
    ensure!(leads_to(&web.get(HOME)?, "/login"), "the login that was pending is over");
    let mails = smtp.has(6)?;
    let mut to: Vec<&str> = mails.iter().skip(4).map(|mail| &*mail.to).collect();
    to.sort_unstable();
    assert_eq!(to, ["alice@example.org", "alice@mail.example"]);
    ensure!(mails.iter().skip(4).all(|mail| mail.text.contains("Your second factor was reset")));
    ensure!(leads_to(&log_in(&Web::new(&lab, 0), "alice", "alice-pw")?, "/"), "the password is enough");
    let (_, again) = set_up(&lab, 1, "alice", "alice@example.org")?;
    ensure!(again.secret() != first.secret());
    let (other, page) = lost(&lab, 0, "alice")?;
    let spent = other.post(&page, GIVE, &[("code", &mailed)])?;
    ensure!(spent.code == 403 && spent.text().contains("not good any more"), "{}", spent.text());
    let told = reasons(&lab, "second-factor")?;
    assert_eq!(told, ["enrolled", "recovery-mailed", "recovered", "enrolled"]);
    assert_eq!(reasons(&lab, "second-factor-refused")?, ["wrong-recovery-code"]);
    assert_eq!(lab.gateway.metric("tracker_mail_queue")?, Some(0.0));
    assert!(lab.gateway.metrics()?.contains("tracker_mail_total{result=\"sent\"} 8"));
    Ok(())
}

/// Whoever guesses passwords learns nothing of addresses; and nobody is flooded.
#[test]
fn the_page_is_the_same_whether_there_is_an_address_or_not() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, smtp) = start(3, "")?;
    set_up(&lab, 2, "alice", "alice@example.org")?;
    smtp.has(2)?;
    // Mail is switched on after she set it up: she has no address.
    lab.gateway.ask(&["set", "mail.smtp", ""])?;
    set_up(&lab, 2, "bob", "")?;
    let (web, page) = lost(&lab, 1, "bob")?;
    let text = page.text();
    ensure!(text.contains("sends no mail") && !text.contains("name=\"token\"><p><button"), "{text}");
    is_for_people(&lab, &text)?;
    ensure!(web.post(&page, RECOVER, &[]).is_err(), "there is nothing to press");
    lab.gateway.ask(&["unset", "mail.smtp"])?;
    let alices = lost(&lab, 0, "alice")?;
    let bobs = lost(&lab, 1, "bob")?;
    let mut shown = Vec::new();
    for (name, (web, page)) in [("alice", &alices), ("bob", &bobs), ("alice", &alices)] {
        let text = ask(web, page)?.text().replace(name, "NAME");
        let token = text.split("name=\"token\" value=\"").nth(1).unwrap_or_default();
        let token = token.split('"').next().unwrap_or_default().to_owned();
        shown.push(crate::common::lasting(&text.replace(&token, "")));
    }
    ensure!(shown.iter().all(|page| *page == shown[0]), "{shown:#?}");
    smtp.has(4)?;
    // One a minute: of the second one there is no mail.
    lab::wait::silence(std::time::Duration::from_secs(1));
    assert_eq!(smtp.mails()?.len(), 4);
    Ok(())
}

/// The code is in no log, no store, no event, and no core once it is sent; neither is the mail server's password.
#[test]
fn the_code_stands_in_the_mail_alone() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let wishes = Wishes { tls: Tls::Trusted, asks_for_a_password: true };
    // Where the lab's own files are not known yet: gone at the end, whatever comes of the test.
    let scratch = lab::scratch::Scratch::new()?;
    let password_file = scratch.write("mail-password", format!("{}\n", smtp::PASSWORD))?;
    let settings = format!(
        "{SETTINGS}{}password-file = \"{}\"\n",
        mail("smtps", smtp::TLS_PORT, "gateway@"),
        password_file.display()
    );
    let (mut lab, smtp) = start_with(2, wishes, &settings)?;
    set_up(&lab, 1, "alice", "alice@example.org")?;
    smtp.has(2)?;
    smtp.behave("defer")?;
    let (web, page) = lost(&lab, 0, "alice")?;
    ask(&web, &page)?;
    // While it waits, sealed, there is a copy of the store and of memory.
    let waits = lab::wait::until("both mails to wait", std::time::Duration::from_secs(20), || {
        (lab.gateway.metric("tracker_mail_queue").ok()?? >= 2.0 && smtp.tries() >= 4).then_some(())
    });
    waits?;
    let core = lab.scratch.join("core");
    let pid = lab.gateway.pid().to_string();
    let dumped = Command::new("gcore").arg("-o").arg(&core).arg(&pid).output()?;
    ensure!(dumped.status.success(), "is gdb installed? {dumped:?}");
    smtp.behave("")?;
    let mails = smtp.has(4)?;
    let mailed = super::last_code(&mails)?;
    lab.gateway.stop()?;
    let mut places = vec![(lab.gateway.log_file(), true), (lab.scratch.join(&format!("core.{pid}")), false)];
    for entry in std::fs::read_dir(lab.scratch.join("state"))? {
        places.push((entry?.path(), true));
    }
    for (path, _) in places {
        let bytes = std::fs::read(&path).unwrap_or_default();
        for secret in [mailed.clone(), mailed.replace('-', ""), smtp::PASSWORD.to_owned()] {
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            ensure!(!found, "{secret} stands in {}", path.display());
        }
    }
    Ok(())
}
