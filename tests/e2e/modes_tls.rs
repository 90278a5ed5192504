//! The modes on a listener under TLS: what counts as traffic there is what the proxy reads and writes, not what moves on the
//! wire. The same for both observers.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::Lab;
use lab::gateway::PROXY_TLS;
use lab::net::has_kernel_side;
use lab::origin::{ECHO_PORT, SILENT_PORT};
use lab::raw::Raw;
use lab::wait::{Stopwatch, silence, throughout, until};

use crate::common::{
    ORIGIN, PAST_TIMEOUT, SOON, TIMEOUT, becomes_stale, has_ended, has_open, is_let_through, mode, session,
    status_without_credentials, url,
};

/// What an ended connection holds a session for.
const GRACE: Duration = Duration::from_secs(5);
/// How often a client says something that is no traffic.
const PING: Duration = Duration::from_millis(200);

/// Runs with each of the observers that there are, on a gateway that speaks TLS, too.
fn with_each(settings: &str, test: impl Fn(&Lab) -> Result<()> + Sync) -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let observers = if has_kernel_side() { ["ebpf", "proxy"].as_slice() } else { &["proxy"] };
    std::thread::scope(|scope| {
        let begin = |observer: &&'static str| {
            let (test, observer) = (&test, *observer);
            scope.spawn(move || {
                let observe = format!("[observer]\nmode = \"{observer}\"\n");
                Lab::start(&format!("{observe}{PROXY_TLS}{settings}"))
                    .and_then(|lab| test(&lab))
                    .map_err(|error| error.context(format!("with the observer {observer}")))
            })
        };
        let threads: Vec<_> = observers.iter().map(begin).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })
}

/// A connection under TLS on which alice's one request was served.
fn proved(lab: &Lab) -> Result<Raw> {
    let mut raw = lab.raw_tls(0)?;
    raw.get(ORIGIN, &lab.credentials(0, "alice")?)?;
    let code = raw.answer()?.0.code;
    ensure!(code == 200, "{code}: {}", lab.gateway.log());
    Ok(raw)
}

/// The status of a request without credentials on this connection.
fn status(raw: &mut Raw) -> Result<u16> {
    raw.get(ORIGIN, "")?;
    Ok(raw.answer()?.0.code)
}

#[test]
fn under_tls_what_only_pings_goes_stale_on_time_and_requests_hold() -> Result<()> {
    with_each(&mode("traffic"), |lab| {
        let mut raw = proved(lab)?;
        raw.keep_alive_probes()?;
        let watch = Stopwatch::start();
        let stale = until("a session that is only pinged to be stale", TIMEOUT + SOON, || {
            raw.ping().ok()?;
            silence(PING);
            session(lab, 0).ok().filter(|session| session.state == "stale")
        })?;
        ensure!(stale.open_connections == 1, "{stale:?}");
        ensure!(watch.elapsed() > TIMEOUT / 2, "it ran out {:?} after the request", watch.elapsed());
        ensure!(status(&mut raw)? == 407, "nothing is served on a stale session");

        raw.get(ORIGIN, &lab.credentials(0, "alice")?)?;
        ensure!(raw.answer()?.0.code == 200);
        for _ in 0..4 {
            silence(TIMEOUT / 2);
            ensure!(status(&mut raw)? == 200, "every request restarts the timeout");
        }
        Ok(())
    })
}

#[test]
fn under_tls_a_download_holds_a_traffic_session_and_a_silent_tunnel_does_not() -> Result<()> {
    with_each(&mode("traffic"), |lab| {
        let mut raw = lab.raw_tls(0)?;
        raw.get(&url("drip?n=60&ms=100"), &lab.credentials(0, "alice")?)?;
        ensure!(raw.head()?.code == 200);
        throughout("a download holds the session", PAST_TIMEOUT, || {
            session(lab, 0).is_ok_and(|session| session.is_active())
        })?;
        drop(raw);
        becomes_stale(lab, 0)?;

        let to = format!("origin.example.test:{SILENT_PORT}");
        let mut tunnel = lab.raw_tls(0)?;
        ensure!(tunnel.tunnel(&to, &lab.credentials(0, "alice")?)?.code == 200);
        until("a tunnel that is only pinged to be stale", TIMEOUT + SOON, || {
            tunnel.ping().ok()?;
            silence(PING);
            session(lab, 0).ok().filter(|session| session.state == "stale")
        })?;
        ensure!(!tunnel.ended_within(TIMEOUT / 4)?, "`on-timeout = keep` leaves the tunnel alone");
        Ok(())
    })
}

#[test]
fn under_tls_an_upload_is_traffic_where_only_the_client_counts_and_a_download_is_none() -> Result<()> {
    with_each(&(mode("traffic") + "traffic-direction = \"client\"\n"), |lab| {
        let to = format!("origin.example.test:{ECHO_PORT}");
        let mut tunnel = lab.raw_tls(0)?;
        ensure!(tunnel.tunnel(&to, &lab.credentials(0, "alice")?)?.code == 200);
        throughout("an upload holds the session", PAST_TIMEOUT, || {
            tunnel.send("up").is_ok() && session(lab, 0).is_ok_and(|session| session.is_active())
        })?;
        drop(tunnel);
        becomes_stale(lab, 0)?;

        let mut raw = lab.raw_tls(0)?;
        raw.get(&url("drip?n=100&ms=100"), &lab.credentials(0, "alice")?)?;
        ensure!(raw.head()?.code == 200);
        becomes_stale(lab, 0)?;
        ensure!(!raw.ended_within(TIMEOUT / 4)?, "`on-timeout = keep` leaves the download alone");
        Ok(())
    })
}

#[test]
fn under_tls_session_mode_runs_from_the_last_close_and_another_user_kicks_out() -> Result<()> {
    with_each(&mode("session"), |lab| {
        let mut idle = proved(lab)?;
        ensure!(session(lab, 0)?.expires.is_none(), "no deadline runs while a connection is open");
        throughout("an idle connection holds the session", PAST_TIMEOUT, || {
            session(lab, 0).is_ok_and(|session| session.is_active() && session.expires.is_none())
        })?;
        ensure!(status(&mut idle)? == 200 && is_let_through(lab, 0), "on either listener");
        idle.half_close()?;
        drop(idle);
        until("a deadline", SOON, || session(lab, 0).ok()?.expires)?;
        ensure!(is_let_through(lab, 0), "inside the timeout");
        becomes_stale(lab, 0)?;
        ensure!(status_without_credentials(lab, 0) == 407);

        let to = format!("origin.example.test:{SILENT_PORT}");
        let mut alices = lab.raw_tls(0)?;
        ensure!(alices.tunnel(&to, &lab.credentials(0, "alice")?)?.code == 200);
        let mut bobs = lab.raw_tls(0)?;
        bobs.get(ORIGIN, &lab.credentials(0, "bob")?)?;
        ensure!(bobs.answer()?.0.code == 200);
        ensure!(alices.ended_within(SOON)?, "the previous user's tunnel is destroyed");
        ensure!(session(lab, 0)?.is_of("bob") && has_ended(lab, 0, "kicked"));
        drop((alices, bobs));
        has_open(lab, 0, 0)
    })
}

#[test]
fn under_tls_absolute_mode_runs_from_the_login_whatever_moves() -> Result<()> {
    with_each(&mode("absolute"), |lab| {
        let mut raw = lab.raw_tls(0)?;
        raw.get(&url("drip?n=100&ms=50"), &lab.credentials(0, "alice")?)?;
        ensure!(raw.head()?.code == 200);
        let first = session(lab, 0)?;
        ensure!(first.expires.is_some(), "{first:?}");
        silence(TIMEOUT / 2);
        ensure!(session(lab, 0)?.expires == first.expires);
        becomes_stale(lab, 0)?;
        ensure!(status_without_credentials(lab, 0) == 407);
        ensure!(!raw.ended_within(TIMEOUT / 4)?);
        Ok(())
    })
}

#[test]
fn under_tls_a_slow_answer_to_who_has_ended_their_side_is_a_use() -> Result<()> {
    with_each(&mode("session"), |lab| {
        let mut raw = lab.raw_tls(0)?;
        raw.get(&url("drip?n=9&ms=1000"), &lab.credentials(0, "alice")?)?;
        raw.half_close()?;
        let watch = Stopwatch::start();
        until("a session", SOON, || session(lab, 0).ok())?;
        // Longer than the timeout and what an ended connection holds for.
        silence((GRACE + TIMEOUT + Duration::from_millis(800)).saturating_sub(watch.elapsed()));
        ensure!(session(lab, 0)?.is_active() && is_let_through(lab, 0));
        let (head, body) = raw.answer()?;
        ensure!(head.code == 200 && !body.is_empty() && watch.elapsed() > GRACE + TIMEOUT, "{head:?}");
        drop(raw);
        has_open(lab, 0, 0)
    })
}

/// A session of one connection goes by what is read from and written to that.
#[test]
fn under_tls_a_connection_of_a_shared_host_goes_by_its_own_payload() -> Result<()> {
    let settings = mode("traffic") + "shared-hosts = [\"10.77.0.11/32\"]\n";
    with_each(&settings, |lab| {
        let (mut pinged, mut used) = (proved(lab)?, proved(lab)?);
        used.get(&url("drip?n=35&ms=100"), "")?;
        let watch = Stopwatch::start();
        while watch.elapsed() < PAST_TIMEOUT {
            pinged.ping()?;
            silence(PING);
        }
        ensure!(used.answer()?.0.code == 200);
        ensure!(status(&mut used)? == 200, "what was downloaded on it holds it");
        ensure!(status(&mut pinged)? == 407, "what was said on it for TLS does not");
        Ok(())
    })
}

/// What was told of payload is the kernel's, and outlives the daemon: a session whose last traffic under TLS was just before the
/// daemon was killed runs from then on, and not from the login.
#[test]
fn under_tls_a_daemon_that_is_killed_amid_traffic_decides_as_if_it_had_never_been_away() -> Result<()> {
    if lab::skipped() || !has_kernel_side() {
        return Ok(());
    }
    // A 64th of it is the most that a crash loses.
    let settings = "[timeouts]\nproxy-auth-timeout = \"60s\"\nproxy-re-authentication-mode = \"traffic\"\n";
    let mut lab = Lab::start(&format!("{PROXY_TLS}{settings}"))?;
    let downloads = |lab: &Lab| -> Result<Raw> {
        let mut raw = lab.raw_tls(0)?;
        raw.get(&url("drip?n=600&ms=50"), &lab.credentials(0, "alice")?)?;
        ensure!(raw.head()?.code == 200);
        Ok(raw)
    };
    let expires = |lab: &Lab| -> Result<String> {
        let shown = session(lab, 0)?.expires.context("no deadline")?;
        Ok(shown.trim_end_matches('Z').to_owned())
    };
    let _download = downloads(&lab)?;
    let login = expires(&lab)?;
    silence(Duration::from_secs(2));
    let used = expires(&lab)?;
    ensure!(used > login, "{used} {login}");
    silence(Duration::from_secs(2));
    lab.gateway.kill();
    lab.gateway.start()?;
    let after = expires(&lab)?;
    ensure!(after > used, "what moved until a second before the end is known: {after} {used}");
    silence(PING);
    ensure!(expires(&lab)? == after && is_let_through(&lab, 0));

    lab.gateway.ask(&["set", "proxy-auth-timeout", &format!("{}s", TIMEOUT.as_secs())])?;
    let _download = downloads(&lab)?;
    throughout("a download holds the session", PAST_TIMEOUT, || {
        session(&lab, 0).is_ok_and(|session| session.is_active())
    })?;
    lab.gateway.kill();
    silence(PAST_TIMEOUT);
    lab.gateway.start()?;
    ensure!(status_without_credentials(&lab, 0) == 407, "the timeout ran out while it was away");
    Ok(())
}

/// The daemon sleeps over the deadline; what a client sends meanwhile ends the silence when it is read, and latches it.
#[test]
fn under_tls_the_payload_that_ends_a_silence_does_not_refresh_it() -> Result<()> {
    with_each(&mode("traffic"), |lab| {
        let mut raw = proved(lab)?;
        lab.gateway.signal(nix::sys::signal::Signal::SIGSTOP)?;
        silence(PAST_TIMEOUT);
        raw.get(ORIGIN, "")?;
        silence(PING);
        lab.gateway.signal(nix::sys::signal::Signal::SIGCONT)?;
        ensure!(raw.answer()?.0.code == 407);
        Ok(())
    })
}
