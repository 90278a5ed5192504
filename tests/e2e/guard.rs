//! Whereto the gateway does not go on a client's behalf: to itself, however the address got to be its own, and to ports where
//! something else than HTTP is spoken.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context as _, Result};
use lab::Lab;
use lab::net::GATEWAY_V4;
use lab::wait::until;
use serde_json::Value;

use crate::common::SOON;

/// A service on the gateway that clients have no business with.
const SERVICE: u16 = 8090;

/// A lab whose gateway host has such a service, and lets tunnels to its port through; alice is logged in on client 0.
fn with_service() -> Result<(Lab, TcpListener)> {
    let lab = Lab::start(&format!("[proxy]\nconnect-ports = [443, {SERVICE}]\n"))?;
    let service = lab.net.gateway.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, SERVICE)))?;
    service.set_nonblocking(true)?;
    lab.login(0, "alice")?;
    Ok((lab, service))
}

/// What a tunnel to the service at this address is answered.
fn tunnel(lab: &Lab, address: &str) -> Result<u16> {
    Ok(lab.raw(0)?.tunnel(&format!("{address}:{SERVICE}"), "")?.code)
}

/// Insists that nobody has connected.
fn is_untouched(service: &TcpListener) -> Result<()> {
    match service.accept() {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        other => anyhow::bail!("somebody has connected: {other:?}"),
    }
}

/// The refusals with this cause in the audit trail.
fn refusals(lab: &Lab, cause: &str) -> Result<Vec<Value>> {
    let events = lab.gateway.ask(&["events"])?;
    let events = events.as_array().cloned().unwrap_or_default();
    Ok(events.into_iter().filter(|event| event["event"] == "refused" && event["cause"] == cause).collect())
}

#[test]
fn an_address_that_the_gateway_gets_meanwhile_is_its_own_at_once() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, service) = with_service()?;
    for last in 1..=3 {
        let address = format!("10.99.0.{last}");
        assert_eq!(tunnel(&lab, &address)?, 502, "there is no route yet");
        lab.net.gateway.ip(&format!("addr add {address}/32 dev lo"))?;
        assert_eq!(tunnel(&lab, &address)?, 403, "{address}");
        let plain = lab.curl(0).get(&format!("http://{address}:{SERVICE}/"))?;
        assert_eq!(plain.code, 403, "{plain:?}");
    }
    is_untouched(&service)?;
    let told = refusals(&lab, "destination")?;
    let reason = told.last().context("nothing in the audit trail")?["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("10.99.0.3") && reason.contains("address of the gateway itself"), "{told:?}");
    assert!(told.iter().all(|event| event["client"] == lab.address(0).as_str() && event["user"] == "alice"));

    // It could have been reached: whoever names it opens it.
    assert_eq!(lab.gateway.ctl(&["set", "allow-destinations", "10.99.0.0/24"])?.exit, 0);
    assert_eq!(tunnel(&lab, "10.99.0.1")?, 200);
    until("the connection to the service", SOON, || service.accept().ok())?;
    Ok(())
}

#[test]
fn what_is_local_by_a_route_only_is_the_gateways_own_in_every_form() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (lab, service) = with_service()?;
    lab.net.gateway.ip("route add local 10.9.0.0/16 dev lo
         route add local 10.10.0.0/16 dev lo table 77
         rule add to 10.10.0.0/16 lookup 77
         route add local fd99::/64 dev lo
         route add default via fd78::2 dev up0
         route add default via 10.78.0.2 dev up0")?;
    for address in [
        "10.9.1.2",
        "10.10.1.2",
        "10.77.0.255",
        "[fd99::7]",
        // 10.77.0.1, the gateway, and 10.9.1.2 behind translators' prefixes of each length.
        "[::ffff:10.9.1.2]",
        "[64:ff9b::10.9.1.2]",
        "[64:ff9b:1::10.77.0.1]",
        "[64:ff9b:1:a4d:0:100::]",
        "[64:ff9b:1:a4d:0:100:0:1]",
        "[64:ff9b:1:a09:1:200:bad:cafe]",
        "[64:ff9b:1:50a:9:102::]",
        "[64:ff9b:1:5:a:901:200:0]",
        "[2002:a09:102::1]",
    ] {
        assert_eq!(tunnel(&lab, address)?, 403, "{address}");
    }
    is_untouched(&service)?;
    assert_eq!(lab.gateway.ctl(&["set", "allow-destinations", "10.9.0.0/16"])?.exit, 0);
    assert_eq!(tunnel(&lab, "10.9.1.2")?, 200, "the service listens there indeed");
    assert_eq!(tunnel(&lab, "10.10.1.2")?, 403);
    Ok(())
}

#[test]
fn without_descriptors_nothing_is_taken_for_foreign() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let (mut lab, service) = with_service()?;
    // What an earlier connection may have told of the gateway's addresses is gone with the process.
    lab.gateway.restart()?;
    // Connections that are there already, and have been served without one to an origin.
    let mut served = Vec::new();
    for _ in 0..4 {
        let mut raw = lab.raw(0)?;
        raw.send("OPTIONS http://origin.example.test/ HTTP/1.1\r\nHost: origin.example.test\r\nMax-Forwards: 0\r\n\r\n")?;
        assert_eq!(raw.answer()?.0.code, 200, "answered by the proxy itself");
        served.push(raw);
    }
    let limit = |soft: &str| {
        let words = ["prlimit", "--pid", &lab.gateway.pid().to_string(), &format!("--nofile={soft}:")];
        lab.net.gateway.run(&words)
    };
    let before = std::fs::read_to_string(format!("/proc/{}/limits", lab.gateway.pid()))?;
    let before = before.lines().find_map(|line| line.strip_prefix("Max open files")).context("no limit")?;
    let before = before.split_whitespace().next().context("no soft limit")?;
    // None above the third: whatever is needed now cannot be had.
    limit("3")?;
    let to = format!("{GATEWAY_V4}:{SERVICE}");
    for raw in served.iter_mut().take(2) {
        assert_ne!(raw.tunnel(&to, "")?.code, 200);
    }
    limit(before)?;
    for raw in served.iter_mut().skip(2) {
        assert_eq!(raw.tunnel(&to, "")?.code, 403);
    }
    is_untouched(&service)?;
    lab.login(0, "alice")
}

#[test]
fn plain_requests_go_to_ports_of_http_only() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.login(0, "alice")?;
    let mut listeners = Vec::new();
    for port in [25, 81, 6000, 6667] {
        let listener = lab.net.origin.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?;
        listener.set_nonblocking(true)?;
        let reply = lab.curl(0).get(&format!("http://origin.example.test:{port}/"))?;
        assert_eq!(reply.code, 403, "{port}: {reply:?}");
        assert!(
            reply.text().contains(&format!("Requests to port {port} are not allowed")),
            "{}",
            reply.text()
        );
        is_untouched(&listener)?;
        listeners.push(listener);
    }
    let told = refusals(&lab, "port")?;
    assert!(told.len() == 4 && told.iter().all(|event| event["user"] == "alice"), "{told:?}");

    // Named by itself it is open, and at once; a range does not open what other protocols have.
    assert_eq!(lab.gateway.ctl(&["set", "forward-ports", "1-6100, 25"])?.exit, 0);
    let mut raw = lab.raw(0)?;
    raw.get("http://origin.example.test:25/", "")?;
    until("the request at port 25", SOON, || listeners[0].accept().ok())?;
    assert_eq!(lab.curl(0).get("http://origin.example.test:6000/")?.code, 403);
    is_untouched(&listeners[2])
}
