//! Servers that no mail is handed over to, and what operators are told; `doctor`; addresses that are none.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::smtp::{self, Smtp, Tls, Wishes};
use lab::wait::until;
use lab::{Lab, answers};

use super::{SETTINGS, leads_to, mail, set_up, start, start_with};

const PATIENCE: Duration = Duration::from_secs(60);

/// What `doctor` finds of the mail server: its state, what it found, and what helps.
fn doctor(lab: &Lab, smtp: &Smtp) -> Result<(String, String)> {
    let (name, value) = smtp.trust();
    let config = lab.gateway.config();
    let mut command = lab.gateway.trackerctl();
    command.env(name, value).args(["--json", "doctor", "--config"]).arg(config);
    let output = command.output()?;
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let checks = answers::list(&report, "checks");
    let check = checks.iter().find(|check| check["name"] == "mail").map(ToString::to_string);
    let check: serde_json::Value = serde_json::from_str(&check.unwrap_or_default())?;
    let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
    Ok((text("state"), format!("{} / {}", text("finding"), text("remedy"))))
}

#[test]
fn a_server_that_is_not_to_be_trusted_gets_nothing_and_operators_are_told_why() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let scratch = lab::scratch::Scratch::new()?;
    let file = scratch.write("mail-password", "wrong\n")?;
    let wrong = format!("{}password-file = \"{}\"\n", mail("smtp", smtp::PORT, "gateway@"), file.display());
    let plain = Wishes { tls: Tls::None, asks_for_a_password: false };
    for (wishes, settings, word) in [
        (plain, mail("smtp", smtp::PORT, ""), "does not offer STARTTLS"),
        (Wishes { tls: Tls::Untrusted, ..plain }, mail("smtp", smtp::PORT, ""), "is not trusted"),
        (Wishes { tls: Tls::Untrusted, ..plain }, mail("smtps", smtp::TLS_PORT, ""), "is not trusted"),
        (Wishes { tls: Tls::Trusted, asks_for_a_password: true }, wrong, "does not accept the user"),
        (
            Wishes { tls: Tls::Trusted, asks_for_a_password: true },
            mail("smtp", smtp::PORT, ""),
            "name its user in mail.smtp",
        ),
    ] {
        let (lab, smtp) = start_with(1, wishes, &format!("{SETTINGS}{settings}"))?;
        set_up(&lab, 0, "alice", "alice@example.org")?;
        let log = until("it to be told", PATIENCE, || {
            let log = lab.gateway.log();
            log.contains("no mail is sent at present").then_some(log)
        })?;
        ensure!(log.contains(word), "{word}: {log}");
        let status = lab.gateway.shown(&["status"])?;
        ensure!(status.contains("2 mails wait: ") && status.contains(word), "{status}");
        ensure!(smtp.mails()?.is_empty() && !log.contains("wrong\""), "{}", smtp.said());
        if !word.starts_with("name its user") {
            let (state, found) = doctor(&lab, &smtp)?;
            ensure!(state == "failed" && found.contains(word), "{state}: {found}");
        }
    }
    Ok(())
}

#[test]
fn doctor_says_that_mail_could_be_handed_over() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, smtp) = start(1, "")?;
    let (state, found) = doctor(&lab, &smtp)?;
    ensure!(state == "ok" && found.contains("under TLS, with a trusted certificate"), "{state}: {found}");
    assert_eq!((smtp.mails()?.len(), smtp.tries()), (0, 0), "no mail is sent for it");
    lab.gateway.ask(&["set", "mail.smtp", ""])?;
    Ok(())
}

#[test]
fn an_address_is_one_mailbox_and_no_header() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, smtp) = start(1, "")?;
    let (web, _) = set_up(&lab, 0, "alice", "alice@example.org")?;
    smtp.has(2)?;
    let path = "/second-factor/recovery-address";
    for evil in [
        "a@example.org\r\nBcc: mallory@example.net",
        "a@example.org>\r\nRCPT TO:<mallory@example.net",
        "a@example.org, mallory@example.net",
        "\"a\r\nBcc: x\"@example.org",
        "alice+x@mail.example",
        "gateway@example.test",
    ] {
        let refused = web.post(&web.get(super::HOME)?, path, &[("address", evil)])?;
        ensure!(refused.code == 422, "{evil:?}: {refused:?}");
    }
    let done = web.post(&web.get(super::HOME)?, path, &[("address", "alice@example.net")])?;
    ensure!(leads_to(&done, "/second-factor?done=address"), "{done:?}");
    // The one before, the new one, and her own mailbox.
    let mails = smtp.has(5)?;
    let mut to: Vec<&str> = mails.iter().skip(2).map(|mail| &*mail.to).collect();
    to.sort_unstable();
    assert_eq!(to, ["alice@example.net", "alice@example.org", "alice@mail.example"]);
    ensure!(!smtp.said().contains("mallory"));
    Ok(())
}
