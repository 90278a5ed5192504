//! What stays when the daemon goes: the kernel side, and with it every decision. And another proxy's connections, which
//! the daemon never holds itself.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use anyhow::Result;
use lab::Lab;
use lab::net::GATEWAY_V4;
use lab::raw::Raw;
use lab::wait::{Stopwatch, silence};

use crate::common::{
    PAST_TIMEOUT, SOON, becomes_stale, has_open, is_let_through, mode, open_connections, session,
    status_without_credentials,
};

/// The port of the other proxy.
pub(crate) const FOREIGN: u16 = 8080;

/// Settings that watch it.
pub(crate) fn watching(more: &str) -> String {
    format!("[observer]\nmode = \"ebpf\"\nwatch-ports = [{FOREIGN}]\n{more}")
}

/// Something that holds connections as another proxy on the gateway's host would: it sends back what it gets.
pub(crate) fn foreign_proxy(lab: &Lab) -> Result<()> {
    let listener = lab.net.gateway.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, FOREIGN)))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || echo(stream));
        }
    });
    Ok(())
}

fn echo(mut stream: TcpStream) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// A connection of a client to the other proxy, at work.
fn through(lab: &Lab, client: usize) -> Result<Raw> {
    let mut raw = Raw::connect(&lab.net.clients[client].ns, SocketAddr::from((GATEWAY_V4, FOREIGN)))?;
    works(&mut raw)?;
    Ok(raw)
}

fn works(raw: &mut Raw) -> Result<()> {
    raw.send("ping")?;
    assert_eq!(raw.exactly(4)?, b"ping");
    Ok(())
}

fn adopted(lab: &Lab) -> Result<bool> {
    let status = lab.gateway.ask(&["status"])?;
    Ok(status["observer"]["pinned"]["adopted"].as_bool().unwrap_or_default())
}

#[test]
fn the_records_go_on_while_the_daemon_is_dead() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start(&watching(&mode("session")))?;
    assert!(!adopted(&lab)?);
    foreign_proxy(&lab)?;
    lab.login(0, "alice")?;
    let before = session(&lab, 0)?;
    let mut first = through(&lab, 0)?;
    has_open(&lab, 0, 1)?;

    lab.gateway.kill();
    // Held open over the deadline, partly by another connection: nothing runs out.
    silence(PAST_TIMEOUT / 2);
    let mut second = through(&lab, 0)?;
    drop(first);
    silence(PAST_TIMEOUT / 2);
    works(&mut second)?;
    lab.gateway.start()?;
    assert!(adopted(&lab)?, "{}", lab.gateway.log());
    assert_eq!(open_connections(&lab, 0), Some(1));
    let after = session(&lab, 0)?;
    assert!(after.is_active() && after.id == before.id, "{after:?}");
    assert!(is_let_through(&lab, 0));

    // The socket is older than the daemon, and still watched.
    first = through(&lab, 0)?;
    drop(second);
    has_open(&lab, 0, 1)?;
    drop(first);
    has_open(&lab, 0, 0)?;
    becomes_stale(&lab, 0)?;
    Ok(())
}

#[test]
fn a_gap_that_nobody_was_there_to_see_ends_the_session() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start(&watching(&mode("session")))?;
    foreign_proxy(&lab)?;
    lab.login(0, "alice")?;
    lab.login(1, "bob")?;
    let mut bobs = through(&lab, 1)?;
    has_open(&lab, 0, 0)?;
    lab.gateway.kill();
    silence(PAST_TIMEOUT);
    // The client is back before the daemon is: what it finds is an open connection, and the latched gap.
    let alices = through(&lab, 0)?;
    lab.gateway.start()?;
    assert!(adopted(&lab)?);
    assert_eq!(session(&lab, 0)?.state, "stale");
    assert_eq!(status_without_credentials(&lab, 0), 407);
    works(&mut bobs)?;
    assert!(is_let_through(&lab, 1), "who was connected all the time is still logged in");
    drop(alices);
    Ok(())
}

#[test]
fn a_changed_timeout_in_the_file_does_not_reach_back_over_a_restart() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start(&watching(&mode("session")))?;
    lab.login(0, "alice")?;
    has_open(&lab, 0, 0)?;
    lab.gateway.kill();
    lab.gateway.configure("[timeouts]\nproxy-auth-timeout = \"10m\"\n")?;
    silence(PAST_TIMEOUT);
    lab.gateway.start()?;
    assert_eq!(session(&lab, 0)?.state, "stale", "it ran out while the old timeout was in force");
    Ok(())
}

#[test]
fn one_pin_directory_has_one_daemon_and_detach_waits_for_it() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start(&watching(""))?;
    let config = lab.gateway.config().display().to_string();
    let detach = ["detach", "--config", config.as_str()];
    let refused = lab.gateway.ctl(&detach)?;
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(refused.stderr.contains("another trackerd"), "{refused:?}");

    // A second daemon with everything of its own but the directory.
    let text = std::fs::read_to_string(lab.gateway.config())?;
    let other = text.replace("/state\"", "/state2\"").replace("/run\"", "/run2\"").replace("3128", "3129");
    let file = lab.scratch.write("other.toml", other.replace("9477", "9478"))?;
    let output = lab
        .net
        .gateway
        .command(lab::gateway::bin_dir()?.join("trackerd"))
        .arg("--config")
        .arg(file)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("observer.pin-dir"), "{said}");

    lab.gateway.stop()?;
    let pins = lab.scratch.pin_dir();
    assert!(pins.exists());
    let mut nobody = lab.net.gateway.command("setpriv");
    nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]);
    // The programs may lie where nobody may look.
    let program = lab.scratch.join("trackerctl");
    std::fs::copy(lab::gateway::bin_dir()?.join("trackerctl"), &program)?;
    let output = nobody.arg(program).args(["detach", "--pin-dir"]).arg(&pins).output()?;
    assert_eq!(output.status.code(), Some(77), "{output:?}");
    assert!(pins.exists());
    let done = lab.gateway.ctl(&detach)?;
    assert_eq!(done.exit, 0, "{done:?}");
    assert!(!pins.exists());
    assert_eq!(lab.gateway.ctl(&detach)?.exit, 1, "there is nothing any more");

    lab.gateway.start()?;
    assert!(!adopted(&lab)?);
    lab.login(0, "alice")
}

/// How many connections the last end of a client's session closed, by the audit trail.
fn closed(lab: &Lab, client: usize, reason: &str) -> Result<u64> {
    let address = lab.address(client);
    let mut ended =
        lab.gateway.events()?.into_iter().filter(|event| event.client == address && event.reason == reason);
    let last: serde_json::Value = serde_json::from_str(&ended.next_back().expect("an end").text)?;
    Ok(last["connections_closed"].as_u64().unwrap_or_default())
}

#[test]
fn a_kick_out_reaches_fifty_tunnels_own_and_foreign_at_once() -> Result<()> {
    const EACH: usize = 25;
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(&watching(""))?;
    foreign_proxy(&lab)?;
    let credentials = lab.credentials(0, "alice")?;
    let echo = format!("origin.example.test:{}", lab::origin::ECHO_PORT);
    let mut doomed = Vec::new();
    for number in 0..EACH {
        let mut own = lab.raw(0)?;
        let head = own.tunnel(&echo, if number == 0 { &credentials } else { "" })?;
        assert_eq!(head.code, 200, "{head:?}");
        doomed.push(own);
        doomed.push(through(&lab, 0)?);
    }
    lab.login(1, "carol")?;
    let mut carols = [through(&lab, 1)?, lab.raw(1)?];
    assert_eq!(carols[1].tunnel(&echo, "")?.code, 200);
    has_open(&lab, 0, 2 * EACH as u64)?;

    lab.login(0, "bob")?;
    let watch = Stopwatch::start();
    for raw in &mut doomed {
        assert!(raw.ended_within(SOON)?);
    }
    let took = watch.elapsed();
    // Well under a second on a machine that has nothing else to do; this one may.
    println!("fifty tunnels were dead {took:?} after the kick-out's answer");
    assert!(took < SOON, "{took:?}");
    has_open(&lab, 0, 0)?;
    assert_eq!(closed(&lab, 0, "kicked")?, 2 * EACH as u64);
    let metrics = lab.gateway.metrics()?;
    for by in ["proxy", "netlink"] {
        let line = format!("tracker_connections_destroyed_total{{by=\"{by}\"}} {EACH}");
        assert!(metrics.contains(&line), "{metrics}");
    }
    for raw in &mut carols {
        works(raw)?;
    }
    has_open(&lab, 1, 2)
}

#[test]
fn a_logout_closes_what_the_client_has_through_the_other_proxy() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(&watching(""))?;
    foreign_proxy(&lab)?;
    lab.login(0, "alice")?;
    lab.login(1, "bob")?;
    let (mut alices, mut bobs) = (through(&lab, 0)?, through(&lab, 1)?);
    lab.gateway.ask(&["logout", "--user", "alice"])?;
    assert!(alices.ended_within(SOON)?);
    works(&mut bobs)?;
    assert_eq!(closed(&lab, 0, "admin")?, 1);
    lab.gateway.ask(&["logout", "--all"])?;
    assert!(bobs.ended_within(SOON)?);
    Ok(())
}
