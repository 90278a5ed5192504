//! Addresses in numbers, without any credentials: what they have of the gateway, no user can miss.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use lab::Lab;
use lab::gateway::PROXY_PORT;
use lab::net::{GATEWAY_V4, GATEWAY_V6, Net};
use lab::origin::ECHO_PORT;
use lab::raw::Raw;
use lab::wait::{silence, until};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6};

use crate::common::{
    ORIGIN, PAST_TIMEOUT, SOON, TIMEOUT, becomes_stale, has_open, is_let_through, session,
    status_without_credentials,
};

/// The client host that has the strangers' addresses.
const CROWD: usize = 3;
/// Room for so many users; strangers have a quarter of that.
const ROOM: usize = 256;
/// So many strangers come and go, and so many stay.
const PASSING: u16 = 1_500;
const STAYING: u16 = 300;

/// The strangers' addresses: a /64, and 4,096 of IPv4.
fn settle(lab: &Lab) -> Result<()> {
    lab.net.many_addresses(CROWD)?;
    lab.net.clients[CROWD].ns.ip("route add local 10.79.0.0/20 dev lo")?;
    lab.net.clients[CROWD].ns.inside(|| std::fs::write("/proc/sys/net/ipv4/ip_nonlocal_bind", "1"))?;
    let via = lab.net.clients[CROWD].v4;
    lab.net.gateway.ip(&format!("route add 10.79.0.0/20 via {via}"))
}

/// A connection from a stranger's address: from the /64 by turns with the others.
fn stranger(number: u16) -> Result<TcpStream> {
    let [high, low] = number.to_be_bytes();
    let (family, from, to): (_, SocketAddr, SocketAddr) = if number.is_multiple_of(2) {
        let from = SocketAddrV6::new(Ipv6Addr::new(0xfd77, 0, 0, 1, 0, 0, 0, number + 1), 0, 0, 0);
        (AddressFamily::Inet6, from.into(), SocketAddrV6::new(GATEWAY_V6, PROXY_PORT, 0, 0).into())
    } else {
        let from = SocketAddrV4::new(Ipv4Addr::new(10, 79, high & 15, low), 0);
        (AddressFamily::Inet, from.into(), SocketAddrV4::new(GATEWAY_V4, PROXY_PORT).into())
    };
    let socket = socket::socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    match (from, to) {
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            socket::bind(socket.as_raw_fd(), &SockaddrIn6::from(from))?;
            socket::connect(socket.as_raw_fd(), &SockaddrIn6::from(to))?;
        }
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            socket::bind(socket.as_raw_fd(), &SockaddrIn::from(from))?;
            socket::connect(socket.as_raw_fd(), &SockaddrIn::from(to))?;
        }
        _ => anyhow::bail!("two families"),
    }
    Ok(TcpStream::from(socket))
}

/// Strangers in a stream until `enough`, and some who stay until then.
fn flood(net: &Net, begun: &AtomicBool, enough: &AtomicBool) -> Result<usize> {
    net.clients[CROWD].ns.inside(|| -> Result<usize> {
        let staying: Vec<_> = (0..STAYING).map(stranger).collect::<Result<_>>().context("those who stay")?;
        begun.store(true, Ordering::Release);
        let mut came = staying.len();
        for number in (STAYING..STAYING + PASSING).cycle() {
            if enough.load(Ordering::Acquire) {
                break;
            }
            drop(stranger(number).context("one who passes by")?);
            came += 1;
        }
        Ok(came)
    })
}

fn tunnel(lab: &Lab, client: usize, user: &str) -> Result<Raw> {
    let mut raw = lab.raw(client)?;
    let credentials = lab.credentials(client, user)?;
    let head = raw.tunnel(&format!("origin.example.test:{ECHO_PORT}"), &credentials)?;
    assert_eq!(head.code, 200, "{head:?}\n{}", lab.gateway.log());
    Ok(raw)
}

fn works(raw: &mut Raw) -> Result<()> {
    raw.send("ping")?;
    assert_eq!(raw.exactly(4)?, b"ping");
    Ok(())
}

/// Runs `work` while strangers come, and looks afterwards whether the gateway tells the truth of them.
fn among_strangers(lab: &Lab, work: impl FnOnce() -> Result<()>) -> Result<()> {
    settle(lab)?;
    let (begun, enough) = (&AtomicBool::new(false), &AtomicBool::new(false));
    let net = &lab.net;
    let came = std::thread::scope(|scope| {
        let crowd = scope.spawn(move || flood(net, begun, enough));
        while !begun.load(Ordering::Acquire) && !crowd.is_finished() {
            silence(std::time::Duration::from_millis(10));
        }
        let worked = work();
        // While they come: a comparison with the sockets makes room for a moment.
        let told = until("the crowd to be told of", SOON, || {
            let status = lab.gateway.ask(&["status"]).ok()?;
            status["warnings"].to_string().contains("users are not concerned").then_some(())
        });
        enough.store(true, Ordering::Release);
        let came = crowd.join().expect("the crowd does not panic")?;
        worked.and(told).map(|()| came)
    })?;
    println!("{came} strangers came");
    assert!(came > 2 * ROOM, "{came} strangers are no crowd");

    let status = lab.gateway.ask(&["status"])?;
    assert!(status["observer"]["errors"]["strangers_uncounted"].as_u64() > Some(0), "{status}");
    assert!(status["observer"]["errors"].get("mark_failed").is_none(), "{status}");
    assert!(status["observer"]["blind"].is_null(), "{status}");
    let warnings = status["warnings"].to_string();
    assert!(!warnings.contains("refused"), "nobody was: {warnings}");
    let log = lab.gateway.log();
    assert!(!log.contains("is blind") && !log.contains("attached again"), "{log}");
    Ok(())
}

fn settings(more: &str) -> String {
    format!("[observer]\nmode = \"ebpf\"\nmax-records = {ROOM}\n[timeouts]\n{more}")
}

#[test]
fn a_user_among_strangers_leaves_and_the_next_host_is_asked() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(4, &settings("revalidate = \"on-reopen\"\n"))?;
    let mut alices = tunnel(&lab, 0, "alice")?;
    has_open(&lab, 0, 1)?;
    among_strangers(&lab, || {
        works(&mut alices)?;
        // She goes on with another connection, unasked: one is open all the time.
        assert!(is_let_through(&lab, 0));
        drop(alices);
        has_open(&lab, 0, 0)?;
        assert_eq!(status_without_credentials(&lab, 0), 407, "the next host was served as alice");

        // Who logs in while no stranger finds a record any more.
        let mut bobs = tunnel(&lab, 1, "bob")?;
        has_open(&lab, 1, 1)?;
        assert!(is_let_through(&lab, 1));
        works(&mut bobs)?;
        bobs.reset()?;
        has_open(&lab, 1, 0)?;
        assert_eq!(status_without_credentials(&lab, 1), 407, "the next host was served as bob");
        // On a connection that has waited since before.
        let mut waiting = lab.raw(2)?;
        waiting.get(ORIGIN, "")?;
        assert_eq!(waiting.answer()?.0.code, 407);
        waiting.get(ORIGIN, &lab.credentials(2, "carol")?)?;
        assert_eq!(waiting.answer()?.0.code, 200);
        has_open(&lab, 2, 1)?;
        assert!(is_let_through(&lab, 2));
        drop(waiting);
        has_open(&lab, 2, 0)?;
        assert_eq!(status_without_credentials(&lab, 2), 407, "the next host was served as carol");
        Ok(())
    })
}

#[test]
fn timeouts_are_exact_among_strangers() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let short = "proxy-auth-timeout = \"2s\"\nproxy-re-authentication-mode = \"session\"\n";
    let lab = Lab::start_with(4, &settings(short))?;
    among_strangers(&lab, || {
        // Idle, and open: the timeout does not run.
        let mut alices = tunnel(&lab, 0, "alice")?;
        silence(PAST_TIMEOUT);
        assert!(session(&lab, 0)?.is_active());
        assert!(is_let_through(&lab, 0));
        works(&mut alices)?;
        drop(alices);
        becomes_stale(&lab, 0)?;
        assert_eq!(status_without_credentials(&lab, 0), 407);

        lab.gateway.ask(&["set", "proxy-re-authentication-mode", "traffic"])?;
        let mut bobs = tunnel(&lab, 1, "bob")?;
        for _ in 0..10 {
            silence(TIMEOUT / 4);
            works(&mut bobs)?;
        }
        assert!(session(&lab, 1)?.is_active(), "a busy user went stale");
        becomes_stale(&lab, 1)?;
        Ok(())
    })
}
