//! What strangers may take: connections, descriptors, patience. Whatever they hold, others are served.

use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use lab::gateway::PROXY_PORT;
use lab::net::{GATEWAY_V6, ORIGIN_V4};
use lab::origin::ECHO_PORT;
use lab::raw::Raw;
use lab::wait::until;
use lab::{Lab, gateway};
use nix::sys::signal::Signal;

use crate::common::{ORIGIN, SOON, is_let_through, status_without_credentials};

/// More failing connections than any browser has at once.
const FAILING: usize = 520;

fn warnings(lab: &Lab) -> Result<String> {
    Ok(lab.gateway.ask(&["status"])?["warnings"].to_string())
}

fn turned_away(lab: &Lab, why: &str) -> Result<u64> {
    let name = format!("tracker_proxy_turned_away_total{{why=\"{why}\"}} ");
    let metrics = lab.gateway.metrics()?;
    let found = metrics.lines().find_map(|line| line.strip_prefix(name.as_str()));
    Ok(found.and_then(|value| value.parse().ok()).unwrap_or_default())
}

#[test]
fn one_client_holds_no_more_connections_than_it_may() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("[proxy]\nmax-connections-per-client = 5\n")?;
    let held: Vec<Raw> = (0..5).map(|_| lab.raw(0)).collect::<Result<_>>()?;
    // They are taken in one after the other.
    until("all of them", SOON, || (lab.gateway.ask(&["status"]).ok()?["connections"] == 5).then_some(()))?;
    let mut sixth = lab.raw(0)?;
    assert_eq!(sixth.head()?.code, 503);
    assert!(sixth.ended_within(SOON)?);
    lab.login(1, "bob")?;
    assert_eq!(turned_away(&lab, "client")?, 1);
    assert!(warnings(&lab)?.contains("proxy.max-connections-per-client"), "{}", warnings(&lab)?);
    assert!(lab.gateway.log().contains("proxy.max-connections-per-client"), "{}", lab.gateway.log());

    assert_eq!(lab.gateway.ctl(&["set", "max-connections-per-client", "6"])?.exit, 0);
    assert_eq!(status_without_credentials(&lab, 0), 407, "there is room for one more now");
    drop(held);
    Ok(())
}

/// Connections on which nothing happens are given up for those of others, who may then log in.
#[test]
fn a_crowd_that_holds_its_connections_keeps_nobody_out() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("[proxy]\nmax-connections = 30\n")?;
    lab.login(0, "alice")?;
    let mut held_by_alice = lab.raw(0)?;
    held_by_alice.get(ORIGIN, "")?;
    assert_eq!(held_by_alice.answer()?.0.code, 200);
    let [a, b, c, d] = lab.net.many_addresses(1)?;
    let to = SocketAddrV6::new(GATEWAY_V6, PROXY_PORT, 0, 0);
    let crowd = |n: u16| lab.net.clients[1].ns.connect_from(Ipv6Addr::new(a, b, c, d, 0, 0, 0, n), to);
    let _held: Vec<_> = (1..=60).map(crowd).collect::<Result<_>>()?;
    until("somebody to be turned away", SOON, || (turned_away(&lab, "all").ok()? > 0).then_some(()))?;
    until("bob to be served", SOON * 4, || lab.login(1, "bob").ok())?;
    held_by_alice.get(ORIGIN, "")?;
    assert_eq!(held_by_alice.answer()?.0.code, 200, "what is proved is not given up");
    assert!(lab.gateway.metric("tracker_proxy_shed_total")? > Some(0.0));
    assert!(warnings(&lab)?.contains("proxy.max-connections"), "{}", warnings(&lab)?);
    Ok(())
}

/// One connection, and as many origins as there are descriptors.
#[test]
fn one_client_and_many_origins_starve_nobody() -> Result<()> {
    const ORIGINS: usize = 400;
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(2, &gateway::bin_dir()?)?;
    for number in 0..ORIGINS {
        lab.net.add_name(ORIGIN_V4.into(), &format!("o{number}.example.test"))?;
    }
    lab.gateway.run_under(["prlimit", "--nofile=256:256", "--"]);
    lab.gateway.start()?;
    lab.login(0, "alice")?;
    let mut raw = lab.raw(0)?;
    for number in 0..ORIGINS {
        raw.get(&format!("http://o{number}.example.test/"), "")?;
        assert_eq!(raw.answer()?.0.code, 200, "{number}: {}", lab.gateway.log());
    }
    lab.login(1, "bob")?;
    assert!(is_let_through(&lab, 0));
    assert!(lab.gateway.metric("tracker_proxy_origins_idle")? < Some(100.0));
    assert!(lab.gateway.metric("tracker_proxy_origin_given_up_total")? > Some(0.0));
    assert!(lab.gateway.descriptors()? < 192, "the reserve is left alone");
    assert_eq!(lab.gateway.http("/ready")?.0, 200);
    assert!(!lab.gateway.log().contains("Too many open files"), "{}", lab.gateway.log());
    Ok(())
}

/// More tunnels than descriptors: who finds none is told, and the operator is answered.
#[test]
fn tunnels_leave_a_reserve() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(2, &gateway::bin_dir()?)?;
    lab.gateway.configure("[proxy]\nmax-connections = 10000\n")?;
    lab.gateway.run_under(["prlimit", "--nofile=200:200", "--"]);
    lab.gateway.start()?;
    lab.login(0, "alice")?;
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..150 {
        let mut raw = lab.raw(0)?;
        match raw.tunnel(&format!("origin.example.test:{ECHO_PORT}"), "") {
            Ok(head) if head.code == 200 => held.push(raw),
            // No descriptor for the origin, or none for the client.
            Ok(head) => {
                assert_eq!(head.code, 503, "{head:?}");
                refused += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0 && held.len() > 20, "{} held, {refused} refused", held.len());
    assert!(turned_away(&lab, "descriptors")? > 0);
    assert!(warnings(&lab)?.contains("LimitNOFILE"), "{}", warnings(&lab)?);
    assert_eq!(lab.gateway.ctl(&["sessions"])?.exit, 0);
    let tunnel = held.last_mut().expect("one");
    tunnel.send("ping")?;
    assert_eq!(tunnel.exactly(4)?, b"ping");
    drop(held);
    until("room again", SOON, || lab.login(1, "bob").ok())
}

/// Tunnels whose clients read nothing have bytes waiting in pipes, of two descriptors each.
#[test]
fn pipes_of_one_client_leave_descriptors_for_others() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(2, &gateway::bin_dir()?)?;
    lab.gateway.run_under(["prlimit", "--nofile=230:230", "--"]);
    lab.gateway.start()?;
    lab.login(0, "alice")?;
    let mut held = Vec::new();
    for number in 0..30 {
        let mut raw = lab.raw(0)?;
        assert_eq!(raw.tunnel(&format!("origin.example.test:{ECHO_PORT}"), "")?.code, 200, "{number}");
        raw.fill_up(Duration::from_millis(100))?;
        held.push(raw);
    }
    lab.login(1, "bob")?;
    assert_eq!(turned_away(&lab, "descriptors")?, 0);
    Ok(())
}

#[test]
fn a_source_that_only_fails_is_refused_for_a_while() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(3, "[timeouts]\nshared-hosts = [\"10.77.0.13/32\"]\n")?;
    lab.login(0, "alice")?;
    let garbage = |client: usize| -> Result<()> {
        let mut raw = lab.raw(client)?;
        raw.send("no request at all\r\n\r\n")?;
        raw.rest().map(drop)
    };
    // Who was asked to log in and went away has not failed, however often: browsers do that.
    for _ in 0..FAILING {
        let mut raw = lab.raw(1)?;
        raw.get(ORIGIN, "")?;
        raw.head()?;
    }
    assert_eq!(status_without_credentials(&lab, 1), 407);
    for client in [0, 1, 2] {
        for _ in 0..FAILING {
            let _ = garbage(client);
        }
    }
    assert_eq!(status_without_credentials(&lab, 1), 0, "hung up on");
    assert!(turned_away(&lab, "penalty")? > 0);
    assert_eq!(lab.gateway.metric("tracker_proxy_penalties_total")?, Some(1.0));
    let warnings = warnings(&lab)?;
    assert!(warnings.contains(&lab.address(1)) && warnings.contains("timeouts.shared-hosts"), "{warnings}");
    assert!(!lab.gateway.metrics()?.contains(&lab.address(1)), "no address in a label");
    // Who is logged in, or many, is not refused.
    assert!(is_let_through(&lab, 0));
    assert_eq!(status_without_credentials(&lab, 2), 407);
    until("the penalty to be over", Duration::from_secs(40), || {
        (status_without_credentials(&lab, 1) == 407).then_some(())
    })?;
    lab.login(1, "bob")
}

/// An office is one IPv6 network.
#[test]
fn who_only_fails_keeps_no_neighbour_out() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    for _ in 0..FAILING {
        if let Ok(mut raw) = lab.raw6(0) {
            let _ = raw.send("no request at all\r\n\r\n").and_then(|()| raw.rest());
        }
    }
    assert_eq!(lab.gateway.metric("tracker_proxy_penalties_total")?, Some(1.0));
    let mut neighbour = lab.raw6(1)?;
    neighbour.get(ORIGIN, "")?;
    assert_eq!(neighbour.head()?.code, 407);
    Ok(())
}

/// A head that comes in pieces, smaller and larger than what is read at once.
#[test]
fn a_head_in_pieces_is_read_as_one() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.login(0, "alice")?;
    for size in [10, 10_000, 40_000, 100_000] {
        let mut raw = lab.raw(0)?;
        let field = "c".repeat(size);
        let head = format!("GET {ORIGIN} HTTP/1.1\r\nHost: x\r\nX-Long: {field}\r\n\r\n");
        for piece in head.as_bytes().chunks(size / 7 + 3) {
            raw.send(piece)?;
            lab::wait::silence(Duration::from_millis(5));
        }
        assert_eq!(raw.answer()?.0.code, 200, "{size}");
    }
    Ok(())
}

#[test]
fn trackerctl_gives_up_a_daemon_that_does_not_answer() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.gateway.signal(Signal::SIGSTOP)?;
    let stopped = lab.gateway.ctl(&["status"])?;
    lab.gateway.signal(Signal::SIGCONT)?;
    assert_eq!(stopped.exit, 69, "{stopped:?}");
    assert!(stopped.stderr.contains("not answered within 15 s"), "{stopped:?}");

    // One that does not even take connections any more.
    let path = lab.scratch.join("deaf.sock");
    let _deaf = UnixListener::bind(&path)?;
    let mut waiting = Vec::new();
    while let Ok(stream) = nix_connect(&path) {
        waiting.push(stream);
    }
    let mut command = Command::new(gateway::bin_dir()?.join("trackerctl"));
    let output = command.arg("--socket").arg(&path).arg("status").output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(69), "{said}");
    assert!(said.contains("not answered within 5 s"), "{said}");
    Ok(())
}

/// Connects without waiting for room in the listener's queue.
fn nix_connect(path: &std::path::Path) -> Result<std::os::fd::OwnedFd> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let stream = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(std::os::fd::AsRawFd::as_raw_fd(&stream), &UnixAddr::new(path)?)?;
    Ok(stream)
}
