//! Real programs with a password for the proxy left in their settings, where a session needs none.

use std::process::Command;

use anyhow::Result;
use lab::Lab;
use lab::gateway::PROXY_PORT;
use lab::raw::credentials;
use lab::wait::until;

use crate::common::{ORIGIN, SOON, session, url};

/// The proxy as it stands in `http_proxy`, with a password.
fn proxy() -> String {
    format!("http://user:left-over@{}:{PROXY_PORT}", lab::PROXY_NAME)
}

/// Python's own HTTP client.
const URLLIB: &str = "import sys, urllib.request\nsys.stdout.write(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())";

/// Each program that reads `http_proxy`, and sends the password unasked.
fn programs(lab: &Lab) -> Vec<Command> {
    let commands: [&[&str]; 3] = [
        &["curl", "-sS", "--fail", "--max-time", "10"],
        &["wget", "-q", "-O", "-", "--tries=1", "--timeout=10"],
        &["python3", "-c", URLLIB],
    ];
    let made = commands.iter().map(|words| {
        let mut command = lab.net.clients[0].ns.command(words[0]);
        command.args(&words[1..]).env_remove("no_proxy").env_remove("NO_PROXY");
        command.env("http_proxy", proxy()).env("PATH", "/usr/bin:/bin");
        command
    });
    made.collect()
}

#[test]
fn a_left_over_password_voids_no_session() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    for mut program in programs(&lab) {
        let output = program.arg(ORIGIN).output()?;
        assert!(!output.status.success(), "without a session it says nothing: {program:?} {output:?}");
    }
    let refused = || {
        let events = lab.gateway.events().ok()?;
        let told =
            events.iter().filter(|event| event.kind == "refused" && event.text.contains("Basic")).count();
        (told >= 3).then_some(())
    };
    until("the refusals in the audit trail", SOON, refused)?;

    lab.login(0, "alice")?;
    let before = session(&lab, 0)?;
    for mut program in programs(&lab) {
        let output = program.arg(ORIGIN).output()?;
        assert!(output.status.success(), "{program:?} {output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "the origin greets you\n", "{program:?}");
    }
    let after = session(&lab, 0)?;
    assert_eq!((after.id, after.authenticated), (before.id, before.authenticated), "and it proved nothing");
    Ok(())
}

/// urllib3, httpx and whatever else is given a header by its user.
#[test]
fn a_token_that_is_sent_with_every_request_is_good_for_its_own_connection() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(&crate::common::mode("absolute"))?;
    let credentials = credentials(&lab::raw::token(
        &lab.net.clients[0].ns,
        &lab.realm,
        &lab.tickets("alice")?,
        lab::PROXY_NAME,
    )?);
    let mut raw = lab.raw(0)?;
    let ask = |raw: &mut lab::raw::Raw| -> Result<u16> {
        raw.get(&url("headers"), &credentials)?;
        Ok(raw.answer()?.0.code)
    };
    assert_eq!(ask(&mut raw)?, 200);
    let before = session(&lab, 0)?;
    assert_eq!((ask(&mut raw)?, ask(&mut raw)?), (200, 200));
    assert_eq!(session(&lab, 0)?.authenticated, before.authenticated, "it proves nothing anew");
    assert_eq!(ask(&mut lab.raw(0)?)?, 407, "another connection of hers");
    assert_eq!(ask(&mut lab.raw(1)?)?, 407, "and of somebody else");
    assert_eq!(ask(&mut raw)?, 200, "which changes nothing for the first");
    crate::common::becomes_stale(&lab, 0)?;
    assert_eq!(ask(&mut raw)?, 407, "and when the time has run out it is a replay");
    assert_eq!(session(&lab, 0)?.state, "stale");
    Ok(())
}
