//! Each mode's timeout, firing and not firing; the lifetime; and the daemon that was away at the deadline.

use std::time::Duration;

use anyhow::Result;
use lab::Lab;
use lab::wait::{silence, throughout, until};
use nix::sys::signal::Signal;

use crate::common::{
    ORIGIN, PAST_TIMEOUT, SOON, TIMEOUT, becomes_stale, has_ended, has_open, is_let_through, mode, session,
    status_without_credentials, url,
};

/// The fallback observer.
const BY_PROXY: &str = "[observer]\nmode = \"proxy\"\n";

fn session_mode(observer: &str) -> Result<()> {
    let lab = Lab::start(&(mode("session") + observer))?;
    let mut idle = lab.raw(0)?;
    idle.get(ORIGIN, &lab.credentials(0, "alice")?)?;
    assert_eq!(idle.answer()?.0.code, 200);
    assert_eq!(session(&lab, 0)?.expires, None, "no deadline runs while a connection is open");
    throughout("an idle connection holds the session", PAST_TIMEOUT, || {
        session(&lab, 0).is_ok_and(|session| session.is_active() && session.expires.is_none())
    })?;
    assert!(is_let_through(&lab, 0));
    drop(idle);
    until("a deadline", SOON, || session(&lab, 0).ok()?.expires)?;
    assert!(is_let_through(&lab, 0), "inside the timeout");
    becomes_stale(&lab, 0)?;
    assert_eq!(status_without_credentials(&lab, 0), 407);
    Ok(())
}

#[test]
fn session_mode_runs_from_the_last_close() -> Result<()> {
    if lab::skipped() { Ok(()) } else { session_mode("") }
}

#[test]
fn session_mode_runs_from_the_last_close_without_the_kernel_side() -> Result<()> {
    if lab::skipped() { Ok(()) } else { session_mode(BY_PROXY) }
}

fn traffic_mode(observer: &str) -> Result<()> {
    let lab = Lab::start(&(mode("traffic") + observer))?;
    let mut idle = lab.raw(0)?;
    idle.keep_alive_probes()?;
    idle.get(ORIGIN, &lab.credentials(0, "alice")?)?;
    assert_eq!(idle.answer()?.0.code, 200);
    let stale = becomes_stale(&lab, 0)?;
    assert_eq!(stale.open_connections, 1, "it ran out although a connection is open and probes are sent");
    idle.get(ORIGIN, "")?;
    assert_eq!(idle.answer()?.0.code, 407, "nothing is served on a stale session");

    // Twelve requests a second apart would take too long; three over more than the timeout do.
    idle.get(ORIGIN, &lab.credentials(0, "alice")?)?;
    assert_eq!(idle.answer()?.0.code, 200);
    for _ in 0..4 {
        silence(TIMEOUT / 2);
        idle.get(ORIGIN, "")?;
        assert_eq!(idle.answer()?.0.code, 200, "every request restarts the timeout");
    }
    Ok(())
}

#[test]
fn traffic_mode_runs_from_the_last_data_whatever_is_open() -> Result<()> {
    if lab::skipped() { Ok(()) } else { traffic_mode("") }
}

#[test]
fn traffic_mode_runs_from_the_last_data_without_the_kernel_side() -> Result<()> {
    if lab::skipped() { Ok(()) } else { traffic_mode(BY_PROXY) }
}

#[test]
fn a_one_way_download_holds_a_traffic_session() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(&mode("traffic"))?;
    let mut raw = lab.raw(0)?;
    raw.get(&url("drip?n=60&ms=100"), &lab.credentials(0, "alice")?)?;
    assert_eq!(raw.head()?.code, 200);
    throughout("a download holds the session", PAST_TIMEOUT, || {
        session(&lab, 0).is_ok_and(|session| session.is_active())
    })?;
    drop(raw);
    becomes_stale(&lab, 0).map(drop)
}

#[test]
fn where_only_the_client_counts_a_download_holds_nothing() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(&(mode("traffic") + "traffic-direction = \"client\"\n"))?;
    let mut raw = lab.raw(0)?;
    raw.get(&url("drip?n=100&ms=100"), &lab.credentials(0, "alice")?)?;
    assert_eq!(raw.head()?.code, 200);
    becomes_stale(&lab, 0)?;
    assert!(!raw.ended_within(TIMEOUT / 4)?, "`on-timeout = keep` leaves the download alone");
    Ok(())
}

#[test]
fn absolute_mode_runs_from_the_login_whatever_happens() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(&mode("absolute"))?;
    lab.login(0, "alice")?;
    let first = session(&lab, 0)?;
    assert!(first.expires.is_some(), "{first:?}");
    let mut raw = lab.raw(0)?;
    raw.get(&url("drip?n=100&ms=50"), "")?;
    assert_eq!(raw.head()?.code, 200);
    silence(TIMEOUT / 2);
    lab.login(0, "alice")?;
    assert_eq!(session(&lab, 0)?.expires, first.expires, "volunteered credentials do not restart it");
    becomes_stale(&lab, 0)?;
    assert_eq!(status_without_credentials(&lab, 0), 407);
    lab.login(0, "alice")?;
    let renewed = session(&lab, 0)?;
    assert_eq!((renewed.id, renewed.created), (first.id, first.created));
    assert_ne!(renewed.expires, first.expires, "renewed after it ran out, it runs anew");
    assert!(!raw.ended_within(TIMEOUT / 4)?, "the same user's connections are untouched");
    Ok(())
}

#[test]
fn the_lifetime_ends_a_session_under_constant_traffic() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(
        "[timeouts]\nproxy-auth-timeout = \"10m\"\nproxy-auth-lifetime = \"enable\"\nproxy-auth-lifetime-timeout = \"2s\"\n",
    )?;
    let mut raw = lab.raw(0)?;
    raw.get(&url("drip?n=100&ms=100"), &lab.credentials(0, "alice")?)?;
    assert_eq!(raw.head()?.code, 200);
    let first = session(&lab, 0)?;
    assert!(raw.ended_within(TIMEOUT + SOON)?, "its connections are closed");
    assert_eq!(lab.gateway.session(&lab.address(0))?, None, "it ended; it is not stale");
    until("the end in the audit trail", SOON, || has_ended(&lab, 0, "lifetime").then_some(()))?;
    assert_eq!(status_without_credentials(&lab, 0), 407);
    lab.login(0, "alice")?;
    assert_ne!(session(&lab, 0)?.id, first.id, "even the same user begins anew");
    Ok(())
}

#[test]
fn the_same_user_renews_and_keeps_everything() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(&mode("session"))?;
    lab.login(0, "alice")?;
    let first = session(&lab, 0)?;
    becomes_stale(&lab, 0)?;
    lab.login(0, "alice")?;
    let renewed = session(&lab, 0)?;
    assert_eq!((&renewed.id, &renewed.created), (&first.id, &first.created));
    assert_ne!(renewed.authenticated, first.authenticated);
    assert!(renewed.is_active());
    Ok(())
}

#[test]
fn a_daemon_that_was_dead_at_the_deadline_decides_the_same() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start(&mode("session"))?;
    lab.login(0, "alice")?;
    let first = session(&lab, 0)?;
    lab.gateway.kill();
    silence(PAST_TIMEOUT);
    lab.gateway.start()?;
    assert_eq!(status_without_credentials(&lab, 0), 407, "the timeout ran out while it was away");
    lab.login(0, "alice")?;
    assert_eq!(session(&lab, 0)?.id, first.id, "but the session was not lost");
    Ok(())
}

#[test]
fn a_daemon_that_was_killed_inside_the_timeout_loses_nothing() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("[timeouts]\nproxy-auth-timeout = \"60s\"\n")?;
    lab.login(0, "alice")?;
    let first = session(&lab, 0)?;
    lab.gateway.kill();
    lab.gateway.start()?;
    assert!(is_let_through(&lab, 0), "no need to prove it again: {}", lab.gateway.log());
    let second = session(&lab, 0)?;
    assert_eq!((second.id, second.created), (first.id, first.created));
    Ok(())
}

#[test]
fn the_packet_that_ends_a_silence_does_not_refresh_it() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(&mode("session"))?;
    lab.login(0, "alice")?;
    // A connection is open until both sides have closed it: let the daemon do its part before it sleeps.
    has_open(&lab, 0, 0)?;
    // The daemon sleeps over the deadline; the client comes back before it wakes.
    lab.gateway.signal(Signal::SIGSTOP)?;
    silence(PAST_TIMEOUT);
    let mut raw = lab.raw(0)?;
    raw.get(ORIGIN, "")?;
    silence(Duration::from_millis(200));
    lab.gateway.signal(Signal::SIGCONT)?;
    assert_eq!(raw.answer()?.0.code, 407);
    Ok(())
}

#[test]
fn on_timeout_close_ends_open_connections() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(&(mode("traffic") + "on-timeout = \"close\"\n"))?;
    let to = format!("origin.example.test:{}", lab::origin::SILENT_PORT);
    let mut tunnel = lab.raw(0)?;
    assert_eq!(tunnel.tunnel(&to, &lab.credentials(0, "alice")?)?.code, 200);
    assert!(tunnel.ended_within(TIMEOUT + SOON)?);
    Ok(())
}
