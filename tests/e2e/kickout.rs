//! One person is never taken for another: the kick-out, and the vendors' hole.

use anyhow::Result;
use lab::Lab;
use lab::origin::ECHO_PORT;
use lab::raw::Raw;
use lab::wait::until;

use crate::common::{
    ORIGIN, SOON, becomes_stale, has_ended, has_open, is_let_through, logged, mode, session,
    status_without_credentials,
};

/// A tunnel to the echo service, opened with these credentials.
fn tunnel(lab: &Lab, client: usize, credentials: &str) -> Result<Raw> {
    let mut raw = lab.raw(client)?;
    let head = raw.tunnel(&format!("origin.example.test:{ECHO_PORT}"), credentials)?;
    assert_eq!(head.code, 200, "{head:?}");
    Ok(raw)
}

/// An idle connection on which one request was served.
fn idle(lab: &Lab, client: usize, credentials: &str) -> Result<Raw> {
    let mut raw = lab.raw(client)?;
    raw.get(ORIGIN, credentials)?;
    assert_eq!(raw.answer()?.0.code, 200);
    Ok(raw)
}

fn another_user_after_the_timeout(observer: &str) -> Result<()> {
    let lab = Lab::start(&(mode("traffic") + observer))?;
    let credentials = lab.credentials(0, "alice")?;
    let mut alices_tunnel = tunnel(&lab, 0, &credentials)?;
    let mut alices_idle = idle(&lab, 0, "")?;
    let alice = becomes_stale(&lab, 0)?;
    assert!(!alices_tunnel.ended_within(SOON / 10)?, "stale alone closes nothing");

    lab.login(0, "bob")?;
    assert!(alices_tunnel.ended_within(SOON)?, "the previous user's tunnel is destroyed");
    assert!(alices_idle.ended_within(SOON)?, "and the idle connection");
    let bob = session(&lab, 0)?;
    assert!(bob.is_of("bob") && bob.id != alice.id, "{bob:?}");
    until("the kick-out in the audit trail", SOON, || has_ended(&lab, 0, "kicked").then_some(()))?;
    assert!(is_let_through(&lab, 0));
    has_open(&lab, 0, 0)
}

#[test]
fn another_user_after_the_timeout_kicks_the_first_out() -> Result<()> {
    if lab::skipped() { Ok(()) } else { another_user_after_the_timeout("") }
}

#[test]
fn another_user_after_the_timeout_kicks_the_first_out_without_the_kernel_side() -> Result<()> {
    if lab::skipped() { Ok(()) } else { another_user_after_the_timeout("[observer]\nmode = \"proxy\"\n") }
}

#[test]
fn credentials_volunteered_inside_the_timeout_kick_out_too() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let mut alices = idle(&lab, 0, &lab.credentials(0, "alice")?)?;
    let alice = session(&lab, 0)?;
    lab.login(0, "bob")?;
    let bob = session(&lab, 0)?;
    assert!(bob.is_of("bob") && bob.id != alice.id, "{bob:?}");
    assert!(alices.ended_within(SOON)?);
    assert!(has_ended(&lab, 0, "kicked"));
    Ok(())
}

#[test]
fn the_same_user_kicks_nobody_out() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(&mode("traffic"))?;
    let mut own = tunnel(&lab, 0, &lab.credentials(0, "alice")?)?;
    let before = becomes_stale(&lab, 0)?;
    lab.login(0, "alice")?;
    assert_eq!(session(&lab, 0)?.id, before.id);
    own.send("still here")?;
    assert_eq!(own.exactly(10)?, b"still here");
    Ok(())
}

#[test]
fn a_refused_token_kicks_nobody_out() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let mut alices = tunnel(&lab, 0, &lab.credentials(0, "alice")?)?;
    let reply = lab.curl(0).header("Proxy-Authorization: Negotiate Z2FyYmFnZQ==").get(ORIGIN)?;
    assert_ne!(reply.code, 200, "wrong credentials do not ride on a valid session");
    assert!(session(&lab, 0)?.is_of("alice"));
    alices.send("ok")?;
    assert_eq!(alices.exactly(2)?, b"ok");
    Ok(())
}

#[test]
fn the_vendors_hole_is_there_as_they_have_it_and_closed_on_reopen() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("[timeouts]\ndevice-change = \"ignore\"\n")?;
    lab.login(0, "alice")?;
    has_open(&lab, 0, 0)?;
    lab.net.take_over(0, 1)?;
    assert!(is_let_through(&lab, 1), "`on-timeout`: who has the address is taken for the user");
    lab.gateway.ask(&["set", "revalidate", "on-reopen"])?;
    has_open(&lab, 1, 0)?;
    assert_eq!(status_without_credentials(&lab, 1), 407, "`on-reopen`: the first new connection is asked");
    lab.login(1, "alice")?;
    let _open = idle(&lab, 1, &lab.credentials(1, "alice")?)?;
    assert!(is_let_through(&lab, 1), "while a connection is open, nobody is asked");
    Ok(())
}

#[test]
fn another_device_on_the_address_must_log_in() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    lab.login(0, "alice")?;
    assert!(!session(&lab, 0)?.device.is_empty());
    lab.net.take_over(0, 1)?;
    // The first packet tells the gateway's neighbour table; the request comes right behind it.
    until("the end of the session", SOON, || (status_without_credentials(&lab, 1) == 407).then_some(()))?;
    until("its end in the audit trail", SOON, || has_ended(&lab, 1, "device-changed").then_some(()))
}

#[test]
fn two_users_who_take_turns_on_an_address_are_pointed_out() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let warnings = || -> Result<String> { Ok(lab.gateway.ask(&["status"])?["warnings"].to_string()) };
    let _alices = tunnel(&lab, 0, &lab.credentials(0, "alice")?)?;
    assert!(!warnings()?.contains("shared-hosts"));
    let _bobs = tunnel(&lab, 0, &lab.credentials(0, "bob")?)?;
    let said = warnings()?;
    assert!(said.contains(&lab.address(0)) && said.contains("timeouts.shared-hosts"), "{said}");
    assert!(said.contains("alice") && said.contains("bob"), "{said}");
    lab.login(0, "alice")?;
    assert_eq!(lab.gateway.metric("tracker_shared_address_suspected_total")?, Some(2.0));
    logged(&lab, &["take turns while"])?;
    assert_eq!(lab.gateway.log().matches("take turns while").count(), 1, "logged once per address");
    lab.gateway.ask(&["set", "shared-hosts", &lab.address(0)])?;
    assert!(!warnings()?.contains("take turns"), "the remedy was applied");
    Ok(())
}
