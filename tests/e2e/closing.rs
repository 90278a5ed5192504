//! However a connection ends, the record knows.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::process::Stdio;
use std::thread;

use anyhow::{Context as _, Result};
use lab::gateway::PROXY_PORT;
use lab::net::{GATEWAY_V4, GATEWAY_V6, has_kernel_side};
use lab::origin::ECHO_PORT;
use lab::raw::Raw;
use lab::wait::until;
use lab::{Lab, answers};

use crate::common::{ORIGIN, SOON, has_open, open_connections, session, url};

/// A gateway on which alice has logged in from client 0, with nothing open.
fn logged_in() -> Result<Lab> {
    let lab = Lab::start("")?;
    lab.login(0, "alice")?;
    has_open(&lab, 0, 0)?;
    Ok(lab)
}

#[test]
fn the_kernel_side_is_used_where_there_is_one() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let status = lab.gateway.ask(&["status"])?;
    let wanted = if has_kernel_side() { "ebpf" } else { "proxy" };
    assert_eq!(answers::observer(&status), wanted, "{status}\n{}", lab.gateway.log());
    Ok(())
}

#[test]
fn fin_rst_and_half_close_are_closes() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = logged_in()?;
    let one = lab.raw(0)?;
    let mut two = lab.raw(0)?;
    has_open(&lab, 0, 2)?;
    assert_eq!(session(&lab, 0)?.open_connections, 2);
    assert_eq!(session(&lab, 0)?.expires, None);
    one.reset()?;
    has_open(&lab, 0, 1)?;

    two.get(&url("slow?ms=700"), "")?;
    two.half_close()?;
    assert_eq!(open_connections(&lab, 0), Some(1), "half closed is open");
    assert_eq!(two.answer()?.1, b"slow\n", "the answer still arrives");
    drop(two);
    has_open(&lab, 0, 0)?;
    assert!(session(&lab, 0)?.expires.is_some());

    let mut fin = lab.raw(0)?;
    fin.get(ORIGIN, "")?;
    fin.answer()?;
    has_open(&lab, 0, 1)?;
    drop(fin);
    has_open(&lab, 0, 0)
}

#[test]
fn a_reset_in_the_middle_of_a_tunnel_is_a_close() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = logged_in()?;
    let mut tunnel = lab.raw(0)?;
    assert_eq!(tunnel.tunnel(&format!("origin.example.test:{ECHO_PORT}"), "")?.code, 200);
    tunnel.send("hello")?;
    has_open(&lab, 0, 1)?;
    tunnel.reset()?;
    has_open(&lab, 0, 0)
}

#[test]
fn a_killed_client_is_a_close() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = logged_in()?;
    let mut command = lab.net.clients[0].ns.command("curl");
    command.args(["-s", "--proxy", &lab::gateway::Gateway::proxy_url(), &url("drip?n=1000&ms=50")]);
    let mut process = lab.scratch.spawn(command.stdout(Stdio::null()))?;
    has_open(&lab, 0, 1)?;
    process.kill();
    has_open(&lab, 0, 0)
}

#[test]
fn a_gateway_that_was_away_finds_the_open_connections_again() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = logged_in()?;
    lab.gateway.kill();
    // Opened and closed by the death of the daemon, or never answered: either way nothing is open but what `ss` shows.
    lab.gateway.start()?;
    let address = lab.address(0);
    let agrees = || {
        let sockets = lab.gateway.sockets().ok()?.get(&address).copied().unwrap_or(0);
        (open_connections(&lab, 0).unwrap_or(0) == sockets).then_some(())
    };
    until("record and socket dump to agree", SOON, agrees)
}

/// Opens `count` connections one after the other and ends them in every way in turn.
fn churn(host: &lab::ns::Ns, to: SocketAddr, count: usize) -> Result<()> {
    for number in 0..count {
        let mut raw = Raw::connect(host, to)?;
        match number % 4 {
            0 => drop(raw),
            1 => raw.reset()?,
            2 => {
                raw.get(ORIGIN, "Connection: close\r\n")?;
                raw.head()?;
            }
            _ => {
                raw.half_close()?;
                raw.rest()?;
            }
        }
    }
    Ok(())
}

#[test]
fn ten_thousand_connections_leave_nothing_open() -> Result<()> {
    const CLIENTS: usize = 20;
    const EACH: usize = 500;
    const HELD: usize = 5;
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(CLIENTS, "")?;
    let hosts = &lab.net.clients;
    let target = |number: usize| -> SocketAddr {
        // Every fourth client comes by IPv6.
        if number % 4 == 3 { (GATEWAY_V6, PROXY_PORT).into() } else { (GATEWAY_V4, PROXY_PORT).into() }
    };
    let mut held = Vec::new();
    for (number, host) in hosts.iter().enumerate() {
        for _ in 0..HELD {
            held.push(Raw::connect(&host.ns, target(number))?);
        }
    }
    thread::scope(|scope| {
        let work = hosts.iter().enumerate().map(|(number, host)| {
            let to = target(number);
            scope.spawn(move || churn(&host.ns, to, EACH))
        });
        let threads: Vec<_> = work.collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;

    let address = |number: usize| {
        let host = &hosts[number];
        if number % 4 == 3 { host.v6.to_string() } else { host.v4.to_string() }
    };
    let look = || anyhow::Ok((answers::hosts(&lab.gateway.ask(&["hosts"])?), lab.gateway.sockets()?));
    let all_have = |count: usize| {
        let (recorded, sockets) = look().ok()?;
        let right = (0..hosts.len()).all(|number| {
            let open =
                recorded.iter().find(|host| host.client == address(number)).map(|h| h.open_connections);
            let dumped = sockets.get(&address(number)).copied().unwrap_or(0);
            open == Some(count as u64) && dumped == count as u64
        });
        right.then_some(())
    };
    until("the held connections, and only they, to be open", SOON * 4, || all_have(HELD))
        .with_context(|| format!("{:#?}", look()))?;
    drop(held);
    until("nothing to be open", SOON * 4, || all_have(0)).with_context(|| format!("{:#?}", look()))?;
    Ok(())
}

#[test]
fn two_thousand_addresses_are_told_apart() -> Result<()> {
    const ADDRESSES: u16 = 2_000;
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let [a, b, c, d] = lab.net.many_addresses(0)?;
    let to = SocketAddrV6::new(GATEWAY_V6, PROXY_PORT, 0, 0);
    let address = |number: u16| Ipv6Addr::new(a, b, c, d, 0, 0, 0, number);
    let host = &lab.net.clients[0].ns;
    let open: Vec<_> = (1..=ADDRESSES).map(|n| host.connect_from(address(n), to)).collect::<Result<_>>()?;
    let all_have = |count: u64| {
        let recorded = answers::hosts(&lab.gateway.ask(&["hosts"]).ok()?);
        let of: BTreeMap<_, _> = recorded.iter().map(|h| (h.client.as_str(), h.open_connections)).collect();
        let right = (1..=ADDRESSES).all(|n| of.get(address(n).to_string().as_str()) == Some(&count));
        right.then_some(())
    };
    until("each to have one open connection", SOON * 4, || all_have(1))?;
    drop(open);
    until("none to have one", SOON * 4, || all_have(0))
}
