//! Clients behind a balancer that says who they are: real haproxy, by versions 1 and 2 of the PROXY protocol.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use lab::client::Curl;
use lab::gateway::PROXY_PORT;
use lab::haproxy::{Haproxy, Way};
use lab::net::GATEWAY_V4;
use lab::origin::ECHO_PORT;
use lab::raw::Raw;
use lab::wait::{silence, throughout, until};
use lab::{Lab, gateway};

use crate::common::{
    ORIGIN, PAST_TIMEOUT, SOON, TIMEOUT, becomes_stale, has_ended, logged, mode, session,
    status_without_credentials, url,
};

/// Which host of the lab is the balancer.
const BALANCER: usize = 2;
const BALANCER_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 13);
/// Its ports: version 2, version 1, version 2 to the gateway's TLS port, and no header at all.
const V2: u16 = 3128;
const V1: u16 = 3127;
const TLS: u16 = 3130;
const NONE: u16 = 3126;
/// The gateway's port for the proxy under TLS.
const GATEWAY_TLS: u16 = 3129;

const BY_PROXY: &str = "[observer]\nmode = \"proxy\"\n";
/// Browsers would ask for a ticket of this name.
const NAME: &str = "balancer.example.test";

/// A gateway that believes the balancer, and the balancer.
struct Rig {
    haproxy: Haproxy,
    lab: Lab,
}

fn rig(settings: &str) -> Result<Rig> {
    let mut lab = Lab::prepare(3, &gateway::bin_dir()?)?;
    assert_eq!(lab.net.clients[BALANCER].v4, BALANCER_V4);
    lab.net.add_name(BALANCER_V4.into(), NAME)?;
    lab.realm.add_service(&format!("HTTP/{NAME}"), &lab.keytab)?;
    lab.gateway.configure(&format!(
        "[proxy]\nproxy-protocol = [\"{BALANCER_V4}\"]\n[tls]\nproxy-listen = [\"0.0.0.0:{GATEWAY_TLS}\"]\n"
    ))?;
    lab.gateway.configure(settings)?;
    lab.gateway.start()?;
    let (plain, tls) = (format!("{GATEWAY_V4}:{PROXY_PORT}"), format!("{GATEWAY_V4}:{GATEWAY_TLS}"));
    let way = |server: &str, how: &str| format!("{server} {how}");
    let (v2, v1) = (
        way(&plain, "send-proxy-v2 proxy-v2-options crc32c,authority check"),
        way(&plain, "send-proxy check"),
    );
    let (tls, none) = (way(&tls, "send-proxy-v2 check"), plain.clone());
    let bind = |port: u16| format!("{BALANCER_V4}:{port}");
    // A balancer for both families hands on IPv4 addresses within IPv6 ones.
    let v1_bind = format!(":::{V1} v4v6");
    let haproxy = Haproxy::start(
        &lab.scratch,
        &lab.net.clients[BALANCER].ns,
        &[
            Way { name: "v2", bind: &bind(V2), server: &v2 },
            Way { name: "v1", bind: &v1_bind, server: &v1 },
            Way { name: "tls", bind: &bind(TLS), server: &tls },
            Way { name: "none", bind: &bind(NONE), server: &none },
        ],
    )?;
    Ok(Rig { haproxy, lab })
}

impl Rig {
    /// A plain connection of a client's through the balancer.
    fn raw(&self, client: usize, port: u16) -> Result<Raw> {
        Raw::connect(&self.lab.net.clients[client].ns, SocketAddr::from((BALANCER_V4, port)))
    }

    fn curl(&self, client: usize, proxy: &str) -> Curl<'_> {
        let lab = &self.lab;
        Curl::new(&lab.net.clients[client].ns, &lab.scratch, &lab.realm, proxy)
    }

    /// The status of a request through the balancer without credentials; 0 if there is none.
    fn status(&self, client: usize, port: u16) -> u16 {
        let reply = self.curl(client, &format!("http://{NAME}:{port}")).get(ORIGIN);
        reply.map_or(0, |reply| reply.code)
    }

    /// Kills the gateway and starts it, and waits until the balancer knows of that.
    fn crash(&mut self) -> Result<()> {
        self.lab.gateway.kill();
        self.lab.gateway.start()?;
        let local = || self.headers("local").ok();
        until("the balancer to find the gateway again", SOON * 2, || (local()? >= 6.0).then_some(()))?;
        until("its checks to be green", SOON, || (self.haproxy.health("v2").ok()?.0 == "L4OK").then_some(()))
    }

    fn login(&self, client: usize, user: &str, port: u16) -> Result<()> {
        let curl = self.curl(client, &format!("http://{NAME}:{port}")).tickets(&self.lab.tickets(user)?);
        let reply = curl.get(ORIGIN)?;
        assert_eq!(reply.code, 200, "{reply:?}\n{}", self.lab.gateway.log());
        Ok(())
    }

    /// An idle connection through the balancer on which a user has been served.
    fn idle(&self, client: usize, user: &str) -> Result<Raw> {
        let mut raw = self.raw(client, V2)?;
        raw.get(ORIGIN, &self.lab.credentials(client, user)?)?;
        assert_eq!(raw.answer()?.0.code, 200);
        Ok(raw)
    }

    fn tunnel(&self, client: usize, user: &str) -> Result<Raw> {
        let mut raw = self.raw(client, V2)?;
        let target = format!("origin.example.test:{ECHO_PORT}");
        assert_eq!(raw.tunnel(&target, &self.lab.credentials(client, user)?)?.code, 200);
        Ok(raw)
    }

    fn headers(&self, outcome: &str) -> Result<f64> {
        let metrics = self.lab.gateway.metrics()?;
        let name = format!("tracker_proxy_protocol_total{{outcome=\"{outcome}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
        Ok(line.with_context(|| metrics.clone())?.parse()?)
    }

    fn warnings(&self) -> Result<String> {
        Ok(self.lab.gateway.ask(&["status"])?["warnings"].to_string())
    }
}

fn two_users(settings: &str) -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let rig = rig(settings)?;
    let lab = &rig.lab;
    for (port, users) in [(V2, ["alice", "bob"]), (V1, ["bob", "carol"])] {
        for (client, user) in users.iter().enumerate() {
            rig.login(client, user, port)?;
        }
        for (client, user) in users.iter().enumerate() {
            let found = session(lab, client)?;
            assert!(found.is_of(user) && found.is_active(), "{found:?}");
            assert!(found.device.is_empty() || found.device == "null", "nobody knows it: {found:?}");
            assert_eq!(rig.status(client, port), 200, "who that is is known");
        }
    }
    assert_eq!(lab.gateway.session(&BALANCER_V4.to_string())?, None);
    let mut held = rig.raw(0, V2)?;
    // What the client says of itself counts for nothing.
    held.get(ORIGIN, &format!("X-Forwarded-For: {0}\r\nForwarded: for={0}\r\n", lab.address(1)))?;
    assert_eq!(held.answer()?.0.code, 200);
    let detail = lab.gateway.ask(&["session", &lab.address(0)])?;
    let via = detail["connections"][0]["via"].as_str().unwrap_or_default().to_owned();
    assert!(via.starts_with(&format!("{BALANCER_V4}:")), "{detail:#}");
    assert_eq!(detail["connections"][0]["port"], held.local()?.port(), "the client's own");
    let shown = lab.gateway.shown(&["session", &lab.address(0)])?;
    assert!(shown.contains("VIA") && shown.contains(&via), "{shown}");
    assert_eq!(lab.gateway.host(&lab.address(0))?.map(|host| host.open_connections), Some(1));
    logged(lab, &[&format!("access: client={} ", lab.address(0))])?;
    let log = lab.gateway.log();
    assert!(!log.contains(&format!("access: client={BALANCER_V4} ")), "{log}");
    let kicked = lab.gateway.events()?;
    assert!(kicked.iter().any(|event| event.client == lab.address(0) && event.reason == "kicked"));
    assert!(rig.headers("accepted")? >= 9.0);
    Ok(())
}

#[test]
fn two_clients_behind_a_balancer_are_two_clients() -> Result<()> {
    two_users("")
}

#[test]
fn two_clients_behind_a_balancer_are_two_clients_without_the_kernel_side() -> Result<()> {
    two_users(BY_PROXY)
}

fn session_mode(observer: &str) -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let rig = rig(&(mode("session") + observer))?;
    let lab = &rig.lab;
    // Another client's connections are its own, though the balancer's to the kernel.
    let _other = rig.idle(1, "bob")?;
    let idle = rig.idle(0, "alice")?;
    assert_eq!(session(lab, 0)?.expires, None, "no deadline runs while a connection is open");
    throughout("an idle connection holds the session", PAST_TIMEOUT, || {
        session(lab, 0).is_ok_and(|session| session.is_active() && session.expires.is_none())
    })?;
    assert_eq!(rig.status(0, V2), 200);
    drop(idle);
    until("a deadline", SOON, || session(lab, 0).ok()?.expires)?;
    becomes_stale(lab, 0)?;
    assert_eq!(rig.status(0, V2), 407);
    assert!(session(lab, 1)?.is_active());
    // Held by a connection of its own, it is not closed with those through the balancer.
    lab.login(0, "alice")?;
    let mut direct = lab.raw(0)?;
    direct.get(ORIGIN, &lab.credentials(0, "alice")?)?;
    assert_eq!(direct.answer()?.0.code, 200);
    drop(rig.idle(0, "alice")?);
    throughout("the direct one holds it", PAST_TIMEOUT, || session(lab, 0).is_ok_and(|one| one.is_active()))?;
    drop(direct);
    becomes_stale(lab, 0).map(drop)
}

#[test]
fn session_mode_runs_from_the_last_close_behind_a_balancer() -> Result<()> {
    session_mode("")
}

#[test]
fn session_mode_runs_from_the_last_close_behind_a_balancer_without_the_kernel_side() -> Result<()> {
    session_mode(BY_PROXY)
}

fn traffic_mode(observer: &str) -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let rig = rig(&(mode("traffic") + observer))?;
    let lab = &rig.lab;
    let mut idle = rig.idle(0, "alice")?;
    let mut other = rig.raw(1, V2)?;
    other.get(&url("drip?n=200&ms=100"), &lab.credentials(1, "bob")?)?;
    assert_eq!(other.head()?.code, 200);
    let stale = becomes_stale(lab, 0)?;
    assert_eq!(stale.open_connections, 1, "it ran out although a connection is open");
    assert!(session(lab, 1)?.is_active(), "a download holds a session");
    idle.get(ORIGIN, "")?;
    assert_eq!(idle.answer()?.0.code, 407);
    // A new connection on which nothing is said is no traffic.
    let _quiet = rig.raw(0, V2)?;
    idle.get(ORIGIN, &lab.credentials(0, "alice")?)?;
    assert_eq!(idle.answer()?.0.code, 200);
    for _ in 0..4 {
        silence(TIMEOUT / 2);
        idle.get(ORIGIN, "")?;
        assert_eq!(idle.answer()?.0.code, 200, "every request restarts the timeout");
    }
    becomes_stale(lab, 0).map(drop)
}

#[test]
fn traffic_mode_runs_from_the_last_data_behind_a_balancer() -> Result<()> {
    traffic_mode("")
}

#[test]
fn traffic_mode_runs_from_the_last_data_behind_a_balancer_without_the_kernel_side() -> Result<()> {
    traffic_mode(BY_PROXY)
}

#[test]
fn absolute_mode_runs_from_the_login_behind_a_balancer() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let rig = rig(&mode("absolute"))?;
    let lab = &rig.lab;
    let mut raw = rig.raw(0, V2)?;
    raw.get(&url("drip?n=100&ms=50"), &lab.credentials(0, "alice")?)?;
    assert_eq!(raw.head()?.code, 200);
    let first = session(lab, 0)?;
    becomes_stale(lab, 0)?;
    assert_eq!(rig.status(0, V2), 407);
    assert!(!raw.ended_within(TIMEOUT / 4)?, "its connections are untouched");
    rig.login(0, "alice", V2)?;
    assert_eq!(session(lab, 0)?.id, first.id);
    Ok(())
}

#[test]
fn a_kick_out_and_a_logout_end_the_clients_own_and_no_other() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let rig = rig("")?;
    let lab = &rig.lab;
    let (mut alices, mut carols) = (rig.tunnel(0, "alice")?, rig.tunnel(1, "carol")?);
    let echo = |tunnel: &mut Raw| -> Result<bool> {
        tunnel.send("hello\r\n")?;
        Ok(tunnel.line()? == "hello")
    };
    rig.login(0, "bob", V2)?;
    assert!(alices.ended_within(SOON)?, "the previous user's tunnel is destroyed");
    until("the kick-out in the audit trail", SOON, || has_ended(lab, 0, "kicked").then_some(()))?;
    assert!(echo(&mut carols)?, "the other client's goes on");

    let mut bobs = rig.tunnel(0, "bob")?;
    lab.gateway.ask(&["logout", &lab.address(1)])?;
    assert!(carols.ended_within(SOON)?);
    assert!(echo(&mut bobs)?);
    assert_eq!((rig.status(0, V2), rig.status(1, V2)), (200, 407));
    Ok(())
}

/// Headers of both versions that name this client.
fn forged(client: Ipv4Addr) -> [Vec<u8>; 2] {
    let binary =
        [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", &client.octets()[..], &[10, 77, 0, 1, 4, 0, 12, 56]].concat();
    [format!("PROXY TCP4 {client} {GATEWAY_V4} 1024 3128\r\n").into_bytes(), binary]
}

#[test]
fn a_header_from_elsewhere_is_refused_and_so_is_a_balancer_without_one() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let rig = rig("")?;
    let lab = &rig.lab;
    rig.login(0, "alice", V2)?;
    let request = format!("GET {ORIGIN} HTTP/1.1\r\nHost: origin.example.test\r\n\r\n");
    for header in forged(lab.net.clients[0].v4) {
        // To the gateway itself, and within what the balancer says of it.
        for to in [SocketAddr::from((GATEWAY_V4, PROXY_PORT)), SocketAddr::from((BALANCER_V4, V2))] {
            let mut raw = Raw::connect(&lab.net.clients[1].ns, to)?;
            raw.send([&header, request.as_bytes()].concat())?;
            assert_eq!(raw.answer()?.0.code, 400);
            assert!(raw.ended_within(SOON)?);
        }
        for to in [SocketAddr::from((GATEWAY_V4, GATEWAY_TLS)), SocketAddr::from((BALANCER_V4, TLS))] {
            let mut raw = Raw::connect(&lab.net.clients[1].ns, to)?;
            raw.send(&header)?;
            assert!(raw.ended_within(SOON)?, "that is no TLS");
        }
    }
    assert_eq!(rig.headers("untrusted")?, 4.0);
    assert_eq!(rig.status(1, V2), 407, "the other client is nobody");
    assert!(rig.warnings()?.contains("put its address on the list"), "{}", rig.warnings()?);

    let before = rig.headers("missing")?;
    assert_eq!((rig.status(0, NONE), rig.status(1, NONE)), (0, 0), "not even a challenge");
    assert!(rig.headers("missing")? >= before + 2.0);
    // Nor is the balancer's own host served.
    let mut own = Raw::connect(&lab.net.clients[BALANCER].ns, SocketAddr::from((GATEWAY_V4, PROXY_PORT)))?;
    own.get(ORIGIN, &lab.credentials(BALANCER, "alice")?)?;
    assert!(own.ended_within(SOON)?);
    assert!(rig.warnings()?.contains("have the balancer send one"), "{}", rig.warnings()?);
    Ok(())
}

#[test]
fn health_checks_are_green_and_nothing_to_tell() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let rig = rig("")?;
    let begun = rig.headers("local")?;
    until("many checks", SOON * 2, || (rig.headers("local").ok()? >= begun + 20.0).then_some(()))?;
    for way in ["v2", "v1", "tls"] {
        assert_eq!(rig.haproxy.health(way)?, ("L4OK".to_owned(), 0), "{way}");
    }
    let warnings = rig.warnings()?;
    assert!(!warnings.contains("proxy-protocol"), "{warnings}");
    assert_eq!(rig.lab.gateway.sessions()?, []);
    Ok(())
}

#[test]
fn tls_goes_through_the_balancer_untouched() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let rig = rig(&mode("traffic"))?;
    let lab = &rig.lab;
    let proxy = format!("https://{NAME}:{TLS}");
    let curl = |client: usize| rig.curl(client, &proxy).arg("--proxy-insecure");
    assert_eq!(curl(0).get(ORIGIN)?.code, 407);
    for (client, user) in [(0, "alice"), (1, "bob")] {
        let reply = curl(client).tickets(&lab.tickets(user)?).get(ORIGIN)?;
        assert_eq!(reply.code, 200, "{reply:?}\n{}", lab.gateway.log());
        assert!(session(lab, client)?.is_of(user));
    }
    assert_eq!(curl(0).get(ORIGIN)?.code, 200);
    becomes_stale(lab, 0)?;
    assert_eq!(curl(0).get(ORIGIN)?.code, 407);
    Ok(())
}

/// What was not watched is judged as a gap that began at the last thing that is known: the proof.
#[test]
fn after_a_crash_nobody_is_taken_for_another() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    for timed in ["session", "traffic"] {
        let mut rig = rig(&mode(timed))?;
        let mut held = rig.raw(0, V2)?;
        held.get(&url("drip?n=200&ms=100"), &rig.lab.credentials(0, "alice")?)?;
        assert_eq!(held.head()?.code, 200);
        let first = session(&rig.lab, 0)?;
        throughout("the download holds the session", PAST_TIMEOUT, || {
            session(&rig.lab, 0).is_ok_and(|one| one.is_active())
        })?;
        rig.crash()?;
        assert_eq!(rig.status(0, V2), 407, "{timed}: since the proof, nothing is known any more");
        assert_eq!(status_without_credentials(&rig.lab, 0), 407, "{timed}: nor is it without the balancer");
        rig.login(0, "alice", V2)?;
        assert_eq!(session(&rig.lab, 0)?.id, first.id, "the session was not lost");
    }
    let mut rig = rig("[timeouts]\nproxy-auth-timeout = \"60s\"\n")?;
    rig.login(0, "alice", V2)?;
    rig.crash()?;
    assert_eq!(rig.status(0, V2), 200, "inside the timeout");
    Ok(())
}

/// Everything that came through the balancer was closed with the daemon: whoever comes next has to prove themselves.
#[test]
fn after_a_crash_everything_has_reopened() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut rig = rig("[timeouts]\nrevalidate = \"on-reopen\"\ndevice-change = \"ignore\"\n")?;
    for directly in [false, true] {
        let held = rig.idle(0, "alice")?;
        assert_eq!(rig.status(0, V2), 200, "one is open");
        rig.crash()?;
        let status = if directly { status_without_credentials(&rig.lab, 0) } else { rig.status(0, V2) };
        assert_eq!(status, 407, "directly: {directly}");
        drop(held);
    }
    // And without a crash.
    drop(rig.idle(0, "alice")?);
    until("the next one to be asked", SOON, || (rig.status(0, V2) == 407).then_some(()))
}

/// The hardware address behind the client's is the balancer's, or somebody else's on a link of ours.
#[test]
fn no_device_is_known_behind_a_balancer() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let rig = rig("")?;
    rig.lab.login(0, "alice")?;
    let direct = session(&rig.lab, 0)?;
    assert_eq!(direct.device.len(), 17, "{direct:?}");
    assert_eq!(rig.status(0, V2), 407, "nobody knows whether it is the same device");
    rig.login(0, "alice", V2)?;
    let relayed = session(&rig.lab, 0)?;
    assert_eq!(relayed.id, direct.id);
    assert_ne!(relayed.device, direct.device);
    assert_eq!(rig.status(0, V2), 200);
    // Another machine shows up at the address on the gateway's link: it decides nothing on what comes through the balancer.
    let held = rig.tunnel(0, "alice")?;
    let other = rig.lab.net.device(1)?;
    let v4 = rig.lab.net.clients[0].v4;
    rig.lab.net.claim(1, &[v4.into()], &other)?;
    assert_eq!(session(&rig.lab, 0)?.id, relayed.id);
    assert!(session(&rig.lab, 0)?.is_active(), "{}", rig.lab.gateway.log());
    drop(held);
    Ok(())
}
