//! Local users at the proxy: logged in by the Basic scheme, logged out by what is done to them.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use lab::Lab;
use lab::origin::ECHO_PORT;
use lab::raw::Raw;
use lab::wait::until;

use crate::common::{
    ORIGIN, SOON, has_ended, is_let_through, is_refused_for, session, status_without_credentials,
};

const FIRST: &str = "korrekt Pferd Batterie";
const SECOND: &str = "noch ein gutes Wort";
/// Passwords on plain connections; however many wrong ones a test sends, nobody is banned for it.
const BASIC: &str = "[proxy]\nbasic = \"always\"\n[regulation]\nmax-retries = 0\n";

/// `trackerctl user …`, with a password on standard input; must be done.
pub(crate) fn user(lab: &Lab, arguments: &[&str], input: &str) -> Result<serde_json::Value> {
    let mut command = lab.gateway.trackerctl();
    command.args(["--json", "user"]).args(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("a pipe")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{arguments:?}: {output:?}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What a request with this name and password gets.
fn code(lab: &Lab, client: usize, name: &str, password: &str) -> Result<u16> {
    let curl = lab.curl(client).arg("--proxy-basic").arg("--proxy-user").arg(&format!("{name}:{password}"));
    Ok(curl.get(ORIGIN)?.code)
}

/// A tunnel that bytes come back on.
fn tunnel(lab: &Lab, client: usize) -> Result<Raw> {
    let mut raw = lab.raw(client)?;
    let head = raw.tunnel(&format!("origin.example.test:{ECHO_PORT}"), "")?;
    ensure!(head.code == 200, "{head:?}");
    Ok(raw)
}

#[test]
fn a_local_user_logs_in_and_each_change_logs_them_out() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(BASIC)?;
    user(&lab, &["add", "Robert"], FIRST)?;
    for (counts, change, input) in
        [(FIRST, &["password", "robert"][..], SECOND), (SECOND, &["disable", "robert"], "")]
    {
        assert_eq!(code(&lab, 0, "robert", counts)?, 200);
        let begun = session(&lab, 0)?;
        assert!(begun.is_of("robert"), "{begun:?}");
        let shown = lab.gateway.ask(&["sessions"])?[0].clone();
        assert!(
            shown["domain"] == "local" && shown["method"] == "password" && shown["user"] == "Robert",
            "{shown}"
        );
        assert!(shown.get("realm").is_none(), "{shown}");
        let mut open = tunnel(&lab, 0)?;
        let changed = user(&lab, change, input)?;
        assert_eq!(changed["ended"].as_array().map(Vec::len), Some(1), "{changed}");
        // Answered: it is over.
        assert!(open.ended_within(SOON)?, "{change:?}: the tunnel is closed");
        assert_eq!(lab.gateway.sessions()?, []);
        assert_eq!(status_without_credentials(&lab, 0), 407);
        until("the end in the audit trail", SOON, || has_ended(&lab, 0, "admin").then_some(()))?;
        assert_eq!(code(&lab, 0, "robert", counts)?, 407, "{change:?}: what counted before is worth nothing");
    }
    assert_eq!(code(&lab, 0, "robert", SECOND)?, 407);
    is_refused_for(&lab, 0, &["disabled"])?;
    user(&lab, &["enable", "robert"], "")?;
    assert_eq!(code(&lab, 1, "ROBERT@LOCAL", SECOND)?, 200, "however it is written");
    let listed = lab.gateway.ask(&["user", "list"])?.to_string();
    assert!(listed.contains("\"last_login\":\"2"), "{listed}");
    user(&lab, &["remove", "robert"], "")?;
    assert_eq!(status_without_credentials(&lab, 1), 407);
    Ok(())
}

/// alice of the realm and alice of the gateway's own, with a password each.
#[test]
fn a_local_user_and_one_of_the_realm_are_two_people() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(BASIC)?;
    user(&lab, &["add", "alice"], FIRST)?;
    lab.login(0, "alice")?;
    assert_eq!(code(&lab, 1, "local\\alice", FIRST)?, 200);
    assert_eq!(lab.gateway.sessions()?.len(), 2);
    assert_eq!(lab.gateway.ask(&["status"])?["licences"]["used"], 2);
    // On one address, the one kicks the other out.
    assert_eq!(code(&lab, 0, "alice@local", FIRST)?, 200);
    assert!(has_ended(&lab, 0, "kicked"), "{:?}", lab.gateway.events()?);
    lab.login(0, "alice")?;
    user(&lab, &["disable", "alice"], "")?;
    assert!(is_let_through(&lab, 0), "the realm's alice is somebody else");
    assert_eq!(status_without_credentials(&lab, 1), 407);
    let left = lab.gateway.ask(&["logout", "--user", "alice@EXAMPLE.TEST"])?;
    assert_eq!(left["ended"].as_array().map(Vec::len), Some(1), "{left}");
    Ok(())
}

#[test]
fn the_administrator_logs_in_once_the_first_password_was_changed() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(BASIC)?;
    let file = lab.scratch.join("state").join("administrator-password");
    let first = std::fs::read_to_string(&file)?.trim().to_owned();
    assert_eq!(code(&lab, 0, "admin", &first)?, 407);
    is_refused_for(&lab, 0, &["trackerctl user password"])?;
    user(&lab, &["password", "admin"], FIRST)?;
    assert_eq!(code(&lab, 0, "admin", FIRST)?, 200);
    assert!(session(&lab, 0)?.is_of("admin"));
    Ok(())
}
