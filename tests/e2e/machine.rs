//! Computers' own accounts: a service on a PC that proves itself as `PC-17$` does not make everybody who sits there that.

use anyhow::{Context as _, Result};
use lab::Lab;
use lab::answers::Event;
use lab::client::Curl;

use crate::common::{ORIGIN, is_let_through, is_refused_for, session};

const MACHINE: &str = "PC-17$";

/// curl on a client with the computer's tickets.
fn as_machine(lab: &Lab, client: usize) -> Result<Curl<'_>> {
    let cache = lab.realm.kinit(&lab.net.gateway, MACHINE, "machine-pw")?;
    Ok(lab.curl(client).tickets(&cache))
}

#[test]
fn a_computer_is_no_user_unless_that_is_wanted() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.realm.add_user(MACHINE, "machine-pw")?;

    // It comes first, as after a boot, and is nobody: whoever comes then is asked.
    let reply = as_machine(&lab, 0)?.get(ORIGIN)?;
    assert_eq!(reply.code, 407, "{reply:?}");
    assert!(
        reply.text().contains("not of a person") && reply.text().contains("machine-account"),
        "{}",
        reply.text()
    );
    assert!(
        !reply.text().contains("PC-17") && !reply.text().contains("kerberos.machine-accounts"),
        "{}",
        reply.text()
    );
    assert_eq!(lab.gateway.sessions()?, []);
    assert!(!is_let_through(&lab, 0));
    is_refused_for(&lab, 0, &["PC-17$@EXAMPLE.TEST", "computer's own account"])?;
    let events = lab.gateway.events()?;
    let told = events.iter().find(|event| event.kind == "refused").context("no refusal")?;
    assert!(told.text.contains(r#""cause":"machine-account""#), "{told:?}");
    let metrics = lab.gateway.metrics()?;
    assert!(metrics.contains("tracker_negotiate_refused_total{cause=\"machine-account\"} 1"), "{metrics}");
    let explained = lab.gateway.shown(&["explain", &lab.address(0)])?;
    assert!(
        explained.contains("machine-account") || explained.contains("computer's own account"),
        "{explained}"
    );

    // A person who is logged in stays, whatever the computer sends.
    lab.login(0, "alice")?;
    assert_eq!(as_machine(&lab, 0)?.get(ORIGIN)?.code, 407);
    assert!(session(&lab, 0)?.is_of("alice") && is_let_through(&lab, 0));

    // The key is live, both ways.
    assert_eq!(lab.gateway.ctl(&["set", "machine-accounts", "accept"])?.exit, 0);
    assert_eq!(as_machine(&lab, 1)?.get(ORIGIN)?.code, 200);
    assert!(session(&lab, 1)?.is_of(MACHINE));
    assert_eq!(lab.gateway.ctl(&["unset", "machine-accounts"])?.exit, 0);
    assert_eq!(lab.gateway.ctl(&["logout", &lab.address(1)])?.exit, 0);
    assert_eq!(as_machine(&lab, 1)?.get(ORIGIN)?.code, 407);
    Ok(())
}

/// A service of a host is no user either, with or without the key.
#[test]
fn a_hosts_service_is_no_user() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("[kerberos]\nmachine-accounts = \"accept\"\n")?;
    lab.realm.add_user("host/pc17.example.test", "machine-pw")?;
    let cache = lab.realm.kinit(&lab.net.gateway, "host/pc17.example.test", "machine-pw")?;
    assert_eq!(lab.curl(0).tickets(&cache).get(ORIGIN)?.code, 407);
    is_refused_for(&lab, 0, &["host/pc17.example.test@EXAMPLE.TEST", "a service or an instance"])?;
    let is_named = |event: &Event| event.text.contains(r#""cause":"name""#);
    assert!(lab.gateway.events()?.iter().any(is_named));
    Ok(())
}
