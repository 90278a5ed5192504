//! Another device on a client's address (`device-change = "reauthenticate"`, the default).

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::Result;
use lab::Lab;
use lab::net::{GATEWAY_V4, GATEWAY_V6};
use lab::origin::ECHO_PORT;
use lab::raw::Raw;
use lab::wait::{silence, until};

use crate::common::{
    ORIGIN, SOON, has_ended, has_open, is_let_through, is_refused_for, open_connections, session,
    status_without_credentials,
};

/// The client says something to the gateway, to nobody in particular: that is enough for the neighbour table.
fn shows_up(lab: &Lab, client: usize) {
    for gateway in [IpAddr::from(GATEWAY_V4), IpAddr::from(GATEWAY_V6)] {
        assert!(Raw::connect(&lab.net.clients[client].ns, SocketAddr::from((gateway, 9))).is_err());
    }
}

/// The status of the first request on a new connection by IPv6; 0 if it gets no answer.
fn status_by_v6(lab: &Lab, client: usize, credentials: &str) -> u16 {
    let answer = lab.raw6(client).and_then(|mut raw| {
        raw.get(ORIGIN, credentials)?;
        raw.head()
    });
    answer.map_or(0, |head| head.code)
}

/// The first answer that anybody gets, and it is a challenge.
fn is_challenged_at_once(mut ask: impl FnMut() -> u16) -> Result<()> {
    let status = until("an answer", SOON * 2, || Some(ask()).filter(|status| *status != 0))?;
    assert_eq!(status, 407, "not one request may be served to the other device");
    Ok(())
}

#[test]
fn not_one_request_of_another_device_is_served() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    lab.login(0, "alice")?;
    let token =
        lab::raw::token(&lab.net.clients[0].ns, &lab.realm, &lab.tickets("bob")?, "proxy6.example.test")?;
    assert_eq!(status_by_v6(&lab, 0, &lab::raw::credentials(&token)), 200);
    assert_eq!(status_by_v6(&lab, 0, ""), 200);
    let v6 = lab.net.clients[0].v6.to_string();
    let devices: Vec<_> = lab.gateway.sessions()?.into_iter().map(|session| session.device).collect();
    assert!(devices.len() == 2 && devices[0] == devices[1] && devices[0].len() == 17, "{devices:?}");

    lab.net.take_over(0, 1)?;
    is_challenged_at_once(|| status_without_credentials(&lab, 1))?;
    is_challenged_at_once(|| status_by_v6(&lab, 1, ""))?;
    until("both ends in the audit trail", SOON, || {
        let events = lab.gateway.events().ok()?;
        let ended = |client: &str| events.iter().any(|e| e.client == client && e.reason == "device-changed");
        (ended(&lab.address(1)) && ended(&v6)).then_some(())
    })?;
    // The new device logs in, even without being asked first.
    lab.login(1, "carol")?;
    assert_ne!(session(&lab, 1)?.device, devices[0]);
    assert!(is_let_through(&lab, 1));
    Ok(())
}

#[test]
fn what_the_old_device_has_open_ends_when_the_new_one_shows_up() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    let mut tunnel = lab.raw(0)?;
    let target = format!("origin.example.test:{ECHO_PORT}");
    assert_eq!(tunnel.tunnel(&target, &lab.credentials(0, "alice")?)?.code, 200);
    has_open(&lab, 0, 1)?;
    lab.net.take_over(0, 1)?;
    shows_up(&lab, 1);
    until("the end of the session", SOON, || has_ended(&lab, 1, "device-changed").then_some(()))?;
    has_open(&lab, 1, 0)?;
    assert!(lab.gateway.session(&lab.address(1))?.is_none());
    Ok(())
}

#[test]
fn a_device_that_changed_while_nobody_looked_is_noticed() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    lab.login(0, "alice")?;
    let before = session(&lab, 0)?;
    // The same device over a restart changes nothing.
    lab.gateway.kill();
    lab.gateway.start()?;
    assert_eq!(session(&lab, 0)?.device, before.device);
    assert!(is_let_through(&lab, 0));

    lab.gateway.kill();
    lab.net.take_over(0, 1)?;
    shows_up(&lab, 1);
    lab.gateway.start()?;
    until("the end of the session", SOON, || has_ended(&lab, 1, "device-changed").then_some(()))?;
    assert_eq!(status_without_credentials(&lab, 1), 407);
    Ok(())
}

#[test]
fn the_policy_reaches_sessions_that_began_before_it() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("[timeouts]\ndevice-change = \"ignore\"\n")?;
    lab.login(0, "alice")?;
    lab.login(1, "bob")?;
    assert!(!session(&lab, 0)?.device.is_empty());
    lab.gateway.ask(&["logout", &lab.address(1)])?;
    lab.net.take_over(0, 1)?;
    shows_up(&lab, 1);
    assert!(is_let_through(&lab, 1), "`ignore`, as the vendors have it");
    lab.gateway.ask(&["set", "device-change", "reauthenticate"])?;
    until("the end of the session", SOON, || has_ended(&lab, 1, "device-changed").then_some(()))?;
    assert_eq!(status_without_credentials(&lab, 1), 407);
    Ok(())
}

/// Two others, connected: a router's clients, if they are believed to be behind one device.
fn others(lab: &Lab) -> Result<[IpAddr; 4]> {
    lab.login(1, "bob")?;
    lab.login(2, "carol")?;
    for client in [1, 2] {
        assert_eq!(status_by_v6(lab, client, ""), 407);
    }
    let host = |client: usize| &lab.net.clients[client];
    Ok([host(1).v4.into(), host(2).v4.into(), host(1).v6.into(), host(2).v6.into()])
}

#[test]
fn arp_about_the_user_does_not_let_another_device_in() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(4, "")?;
    let alice = lab.net.device(0)?;
    let others = others(&lab)?;
    lab.login(0, "alice")?;
    let token =
        lab::raw::token(&lab.net.clients[0].ns, &lab.realm, &lab.tickets("bob")?, "proxy6.example.test")?;
    assert_eq!(status_by_v6(&lab, 0, &lab::raw::credentials(&token)), 200);
    assert_eq!(session(&lab, 0)?.device, alice);
    // The others' addresses are at alice's device, says the fourth host; then it takes alice's addresses.
    lab.net.claim(3, &others, &alice)?;
    lab.net.take_over(0, 3)?;
    is_challenged_at_once(|| status_without_credentials(&lab, 3))?;
    is_challenged_at_once(|| status_by_v6(&lab, 3, ""))?;
    until("the end of the session", SOON, || has_ended(&lab, 3, "device-changed").then_some(()))
}

#[test]
fn arp_before_the_login_does_not_take_the_device_from_a_session() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(4, "")?;
    let alice = lab.net.device(0)?;
    let others = others(&lab)?;
    lab.net.claim(3, &others, &alice)?;
    lab.login(0, "alice")?;
    assert_eq!(session(&lab, 0)?.device, alice, "they connected before they were said to be there");
    lab.net.take_over(0, 3)?;
    is_challenged_at_once(|| status_without_credentials(&lab, 3))
}

#[test]
fn a_handshake_that_is_completed_late_makes_no_router() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(4, "")?;
    let alice = lab.net.device(0)?;
    let others: [IpAddr; 2] = [lab.net.clients[1].v4.into(), lab.net.clients[2].v4.into()];
    let mut raws = Vec::new();
    for client in [1, 2] {
        shows_up(&lab, client);
        // The answer to the handshake has come when the rest of it is still on its way.
        let slow = "tc qdisc add dev eth0 root tbf rate 40bit burst 110 latency 60s";
        lab.net.clients[client].ns.run(&slow.split(' ').collect::<Vec<_>>())?;
        raws.push(lab.raw(client)?);
        assert_eq!(open_connections(&lab, client).unwrap_or(0), 0);
    }
    lab.net.claim(3, &others, &alice)?;
    for client in [1, 2] {
        until("the end of the handshake", SOON * 4, || (open_connections(&lab, client)? == 1).then_some(()))?;
    }
    lab.login(0, "alice")?;
    assert_eq!(session(&lab, 0)?.device, alice, "they were not answered where they were said to be");
    lab.net.take_over(0, 3)?;
    is_challenged_at_once(|| status_without_credentials(&lab, 3))
}

#[test]
fn whose_hardware_address_the_kernel_has_forgotten_is_bound_to_it_all_the_same() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(3, "")?;
    let alice = lab.net.device(0)?;
    let credentials = lab.credentials(0, "alice")?;
    let mut raw = lab.raw(0)?;
    raw.get(ORIGIN, "")?;
    assert_eq!(raw.answer()?.0.code, 407);
    // What has been idle for a minute is dropped from the table where that is full, and asked for anew with the next packet,
    // which a client may answer late.
    let answers = |mode: &str| {
        lab.net.clients[0].ns.inside(|| std::fs::write("/proc/sys/net/ipv4/conf/eth0/arp_ignore", mode))
    };
    answers("8")?;
    lab.net.gateway.ip("neigh flush dev br0")?;
    raw.get(ORIGIN, &credentials)?;
    let logged_in = until("the login", SOON, || session(&lab, 0).ok())?;
    answers("0")?;
    assert_eq!(logged_in.device, alice);
    assert_eq!(raw.answer()?.0.code, 200);
    lab.net.take_over(0, 2)?;
    is_challenged_at_once(|| status_without_credentials(&lab, 2))
}

#[test]
fn a_proof_on_a_connection_of_an_earlier_device_binds_nobody_to_the_next() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(3, "")?;
    let credentials = lab.credentials(0, "alice")?;
    let mut raw = lab.raw(0)?;
    raw.get(ORIGIN, "")?;
    assert_eq!(raw.answer()?.0.code, 407);
    silence(Duration::from_millis(1_500));
    // Somebody says to be at alice's address; what she sends then still comes from her.
    lab.net.claim(2, &[lab.net.clients[0].v4.into()], &lab.net.device(2)?)?;
    raw.get(ORIGIN, &credentials)?;
    is_refused_for(&lab, 0, &["another device"])?;
    assert!(lab.gateway.session(&lab.address(0))?.is_none());
    lab.net.take_over(0, 2)?;
    is_challenged_at_once(|| status_without_credentials(&lab, 2))
}

#[test]
fn arp_from_another_link_ends_no_session() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(3, "")?;
    let mut tunnel = lab.raw(0)?;
    let target = format!("origin.example.test:{ECHO_PORT}");
    assert_eq!(tunnel.tunnel(&target, &lab.credentials(0, "alice")?)?.code, 200);
    let (alice, liar) = (&lab.net.clients[0], &lab.net.clients[2].ns);
    lab.net.gateway.ip(&format!(
        "link add x0 type veth peer name eth1 netns {}
         addr add 10.79.0.1/24 dev x0
         addr add fd79::1/64 dev x0 nodad
         link set x0 up",
        liar.pid()
    ))?;
    let (v4, v6) = (alice.v4, alice.v6);
    liar.ip(&format!(
        "link set eth1 up
         addr add {v4}/32 dev eth1
         addr add {v6}/128 dev eth1 nodad
         route add 10.79.0.1/32 dev eth1 src {v4}
         route add fd79::1/128 dev eth1 src {v6}"
    ))?;
    for (from, to) in [(IpAddr::from(v4), "10.79.0.1"), (IpAddr::from(v6), "fd79::1")] {
        let to: IpAddr = to.parse()?;
        let shown = from.to_string();
        until("the gateway to be told", SOON, || {
            liar.inside(|| UdpSocket::bind((from, 0))?.send_to(b"x", (to, 9))).ok()?;
            let there = lab.net.gateway.run(&["ip", "neigh", "show", &shown, "dev", "x0"]).ok()?;
            there.contains("lladdr").then_some(())
        })?;
    }
    assert!(!tunnel.ended_within(SOON / 5)?, "{}", lab.gateway.log());
    assert!(is_let_through(&lab, 0));
    assert!(!has_ended(&lab, 0, "device-changed"));
    Ok(())
}
