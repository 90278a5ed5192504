//! Connections whose client has ended its side: they hold a session while something is delivered on them, and five seconds
//! longer, and nobody who comes new is served because of them. The same for both observers.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::Lab;
use lab::net::{GATEWAY_V4, has_kernel_side};
use lab::origin::SILENT_PORT;
use lab::raw::Raw;
use lab::wait::{Stopwatch, silence, until};

use crate::common::{
    SOON, TIMEOUT, has_open, is_let_through, mode, open_connections, session, status_without_credentials, url,
};
use crate::takeover::{FOREIGN, watching};

/// What an ended connection holds a session for.
const GRACE: Duration = Duration::from_secs(5);

/// Runs with each of the observers that there are.
fn with_each(test: impl Fn(&str) -> Result<()> + Sync) -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let observers = if has_kernel_side() { ["ebpf", "proxy"].as_slice() } else { &["proxy"] };
    std::thread::scope(|scope| {
        let begin = |observer: &&'static str| {
            let (test, observer) = (&test, *observer);
            scope.spawn(move || {
                test(&format!("[observer]\nmode = \"{observer}\"\n"))
                    .map_err(|error| error.context(format!("with the observer {observer}")))
            })
        };
        let threads: Vec<_> = observers.iter().map(begin).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })
}

/// Alice logs in with a tunnel to an origin that never ends one, and ends her own side: since when.
fn leaves(lab: &Lab, client: usize) -> Result<Stopwatch> {
    let mut tunnel = lab.raw(client)?;
    let head =
        tunnel.tunnel(&format!("origin.example.test:{SILENT_PORT}"), &lab.credentials(client, "alice")?)?;
    ensure!(head.code == 200, "{head:?}");
    let watch = Stopwatch::start();
    drop(tunnel);
    // The connection is there for as long as the origin likes.
    silence(Duration::from_millis(200));
    ensure!(open_connections(lab, client) == Some(1), "{:?}", open_connections(lab, client));
    Ok(watch)
}

#[test]
fn whoever_comes_after_somebody_that_left_by_fin_must_prove_themselves_at_once() -> Result<()> {
    with_each(|observer| {
        let settings = "[timeouts]\nproxy-auth-timeout = \"3s\"\nrevalidate = \"on-reopen\"\n";
        let mut lab = Lab::start_with(3, &format!("{observer}{settings}"))?;
        leaves(&lab, 0)?;
        leaves(&lab, 2)?;
        lab.net.take_over(0, 1)?;
        let watch = Stopwatch::start();
        while watch.elapsed() < Duration::from_secs(6) {
            ensure!(status_without_credentials(&lab, 1) == 407, "another host, after {:?}", watch.elapsed());
            ensure!(status_without_credentials(&lab, 2) == 407, "the same host, after {:?}", watch.elapsed());
            silence(Duration::from_millis(700));
        }
        Ok(())
    })
}

#[test]
fn a_tunnel_that_its_client_has_ended_does_not_hold_a_session() -> Result<()> {
    with_each(|observer| {
        let lab = Lab::start(&format!("{observer}{}", mode("session")))?;
        let watch = leaves(&lab, 0)?;
        let expires = session(&lab, 0)?.expires;
        ensure!(expires.is_some(), "the clock is set at once");
        until("the session to be stale", GRACE + TIMEOUT + SOON, || {
            session(&lab, 0).ok().filter(|session| session.state == "stale")
        })?;
        ensure!(watch.elapsed() > GRACE + TIMEOUT, "{:?}", watch.elapsed());
        ensure!(open_connections(&lab, 0) == Some(1), "it was not cut");
        ensure!(status_without_credentials(&lab, 0) == 407);
        Ok(())
    })
}

#[test]
fn a_download_of_a_client_that_has_ended_its_side_goes_on_and_is_a_use() -> Result<()> {
    with_each(|observer| {
        let lab = Lab::start(&format!("{observer}{}", mode("session")))?;
        lab.login(0, "alice")?;
        let mut raw = lab.raw(0)?;
        raw.get(&url("drip?n=9&ms=1000"), "")?;
        raw.half_close()?;
        let watch = Stopwatch::start();
        let before = session(&lab, 0)?;
        // Longer than the timeout and what an ended connection holds for.
        silence((GRACE + TIMEOUT + Duration::from_millis(800)).saturating_sub(watch.elapsed()));
        let after = session(&lab, 0)?;
        ensure!(after.is_active() && after.id == before.id, "{after:?}");
        ensure!(is_let_through(&lab, 0));
        let (head, body) = raw.answer()?;
        ensure!(head.code == 200 && !body.is_empty() && watch.elapsed() > GRACE + TIMEOUT, "{head:?}");
        drop(raw);
        has_open(&lab, 0, 0)
    })
}

/// Another proxy on the gateway's host: when its client has ended, it goes on sending if it was told to, or keeps silent.
fn stubborn_proxy(lab: &Lab) -> Result<()> {
    let listener = lab.net.gateway.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, FOREIGN)))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || stay(stream));
        }
    });
    Ok(())
}

fn stay(mut stream: TcpStream) {
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    for _ in 0..40 {
        if said == b"go on" && stream.write_all(b".").is_err() {
            return;
        }
        silence(Duration::from_millis(500));
    }
}

#[test]
fn a_dead_daemon_decides_the_same_about_what_its_client_has_ended() -> Result<()> {
    if lab::skipped() || !has_kernel_side() {
        return Ok(());
    }
    let mut lab = Lab::start(&watching(&mode("session")))?;
    stubborn_proxy(&lab)?;
    lab.login(0, "alice")?;
    lab.login(1, "bob")?;
    let ended = |client: usize, words: &str| -> Result<Raw> {
        let host = &lab.net.clients[client];
        let mut raw = Raw::connect(&host.ns, SocketAddr::from((GATEWAY_V4, FOREIGN)))?;
        raw.send(words)?;
        raw.half_close()?;
        Ok(raw)
    };
    let held = [ended(0, "be silent")?, ended(1, "go on")?];
    lab.gateway.kill();
    silence(GRACE + TIMEOUT + Duration::from_millis(1_500));
    lab.gateway.start()?;
    ensure!(session(&lab, 0)?.state == "stale", "nothing was delivered");
    ensure!(session(&lab, 1)?.is_active(), "something was, all the time");
    ensure!(status_without_credentials(&lab, 0) == 407 && is_let_through(&lab, 1));
    drop(held);
    Ok(())
}
