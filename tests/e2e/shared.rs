//! Shared hosts: many users behind one address, each connection with a session of its own.

use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::Lab;
use lab::answers::{Session, list};
use lab::origin::{DRIP_PORT, ECHO_PORT, SILENT_PORT};
use lab::raw::Raw;
use lab::wait::{Stopwatch, silence, until};
use serde_json::Value;

use crate::common::{ORIGIN, PAST_TIMEOUT, SOON, TIMEOUT, status_without_credentials};

/// The lab's first client is one.
fn listed(more: &str) -> String {
    format!("[timeouts]\nshared-hosts = [\"10.77.0.11/32\"]\n{more}")
}

/// What an ended connection holds a session for.
const HALF_CLOSED: Duration = Duration::from_secs(5);

/// A connection on which a user has proved themselves.
fn proved(lab: &Lab, user: &str) -> Result<Raw> {
    let mut raw = lab.raw(0)?;
    raw.get(ORIGIN, &lab.credentials(0, user)?)?;
    assert_eq!(raw.answer()?.0.code, 200, "{}", lab.gateway.log());
    Ok(raw)
}

/// A tunnel of a user's.
fn tunnel(lab: &Lab, user: &str) -> Result<Raw> {
    let mut raw = lab.raw(0)?;
    let head = raw.tunnel(&format!("origin.example.test:{ECHO_PORT}"), &lab.credentials(0, user)?)?;
    assert_eq!(head.code, 200, "{head:?}");
    Ok(raw)
}

fn works(raw: &mut Raw) -> Result<()> {
    raw.send("ok")?;
    assert_eq!(raw.exactly(2)?, b"ok");
    Ok(())
}

/// The status of a request without credentials on this connection.
fn status(raw: &mut Raw) -> Result<u16> {
    raw.get(ORIGIN, "")?;
    Ok(raw.answer()?.0.code)
}

/// The users of the sessions there are, in order.
fn users(lab: &Lab) -> Result<Vec<String>> {
    let mut users: Vec<String> = lab.gateway.sessions()?.into_iter().map(|session| session.user).collect();
    users.sort();
    Ok(users)
}

/// Waits until these users have a session each, and nobody else.
fn has_sessions_of(lab: &Lab, wanted: &[&str]) -> Result<()> {
    until(&format!("sessions of {wanted:?}"), SOON, || {
        users(lab).ok().filter(|users| users.iter().map(String::as_str).eq(wanted.iter().copied())).map(drop)
    })
    .with_context(|| format!("{:#?}", lab.gateway.sessions()))
}

/// The reasons that sessions of a user ended for, by the audit trail.
fn ends(lab: &Lab, user: &str) -> Result<Vec<String>> {
    let events = lab.gateway.events()?.into_iter();
    Ok(events.filter(|event| event.kind == "ended" && event.user == user).map(|event| event.reason).collect())
}

#[test]
fn a_logout_ends_one_users_connections_and_all_ends_everybodys() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(&listed(""))?;
    let (mut alices, mut alices_tunnel) = (proved(&lab, "alice")?, tunnel(&lab, "alice")?);
    let (mut bobs, mut bobs_tunnel) = (proved(&lab, "bob")?, tunnel(&lab, "bob")?);
    assert_eq!(users(&lab)?, ["alice", "alice", "bob", "bob"]);
    assert_eq!(status_without_credentials(&lab, 0), 407, "another connection proves itself");

    let ended = lab.gateway.ask(&["logout", "--user", "alice"])?;
    assert_eq!(list(&ended, "ended").len(), 2, "{ended}");
    assert!(alices.ended_within(SOON)? && alices_tunnel.ended_within(SOON)?);
    works(&mut bobs_tunnel)?;
    assert_eq!(status(&mut bobs)?, 200);
    has_sessions_of(&lab, &["bob", "bob"])?;
    until("alice's second end", SOON, || (ends(&lab, "alice").ok()? == ["admin", "admin"]).then_some(()))?;

    let ended = lab.gateway.ask(&["logout", "--all"])?;
    assert_eq!(list(&ended, "ended").len(), 2, "{ended}");
    assert!(bobs.ended_within(SOON)? && bobs_tunnel.ended_within(SOON)?);
    has_sessions_of(&lab, &[])?;

    // By the address: everybody there.
    let (mut alices, mut bobs) = (proved(&lab, "alice")?, tunnel(&lab, "bob")?);
    let ended = lab.gateway.ask(&["logout", &lab.address(0)])?;
    assert_eq!(list(&ended, "ended").len(), 2, "{ended}");
    assert!(alices.ended_within(SOON)? && bobs.ended_within(SOON)?);
    assert_ne!(lab.gateway.ctl(&["logout", &lab.address(0)])?.exit, 0, "nobody is there any more");
    Ok(())
}

#[test]
fn what_a_shared_hosts_sessions_are_is_shown_everywhere() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(&(listed("") + "[licences]\nmax-users = 2\ndevices-per-user = 1\n"))?;
    let alices = [proved(&lab, "alice")?, proved(&lab, "alice")?];
    let _bobs = tunnel(&lab, "bob")?;
    lab.curl_as(1, "carol")?.get(ORIGIN)?;
    let address = lab.address(0);

    // Two connections of one user are one device, and carol is one too many.
    let status = lab.gateway.ask(&["status"])?;
    assert_eq!((&status["licences"]["used"], &status["users"]), (&2.into(), &2.into()), "{status:#}");
    assert_eq!(status["sessions"]["active"], 3, "{status:#}");
    let mut carols = lab.raw(0)?;
    carols.get(ORIGIN, &lab.credentials(0, "carol")?)?;
    assert_eq!(carols.answer()?.0.code, 403, "there is no licence for her");

    let sessions = lab.gateway.ask(&["sessions"])?;
    let sessions = list(&sessions, "sessions");
    assert_eq!(sessions.len(), 3);
    let mut ports = Vec::new();
    for session in &sessions {
        for field in Session::FIELDS {
            assert!(session.get(field).is_some(), "{field} is missing in {session}");
        }
        assert_eq!((&session["client"], &session["open_connections"]), (&address.as_str().into(), &1.into()));
        assert!(
            session["bytes_received"].as_u64() > Some(0) && !session["last_traffic"].is_null(),
            "{session}"
        );
        ports.push(session["port"].as_u64().unwrap_or_default());
    }
    for raw in &alices {
        assert!(ports.contains(&raw.local()?.port().into()), "{ports:?}");
    }
    let detail = lab.gateway.ask(&["session", &address])?;
    assert_eq!(
        (list(&detail["sessions"], "").len(), detail["user"].as_str()),
        (3, Some("bob")),
        "{detail:#}"
    );
    assert!(lab.gateway.shown(&["session", &address])?.contains("each connection has a session of its own"));

    let all = lab.gateway.ask(&["users"])?;
    let alice = list(&all, "users").into_iter().find(|user| user["user"] == "alice").context("alice")?;
    assert_eq!(alice["clients"], Value::from(vec![address.clone()]), "{alice}");
    assert_eq!((&alice["licences"], &alice["open_connections"]), (&1.into(), &2.into()), "{alice}");
    let hosts = lab.gateway.ask(&["hosts"])?;
    let host =
        list(&hosts, "hosts").into_iter().find(|host| host["client"] == address.as_str()).context("host")?;
    assert_eq!(
        (host["users"].as_array().map(Vec::len), &host["state"]),
        (Some(2), &"active".into()),
        "{host}"
    );

    let explained = lab.gateway.ask(&["explain", &address])?;
    assert_eq!((&explained["decision"], &explained["shared"]), (&"challenge".into(), &true.into()));
    assert_eq!(explained["sessions"].as_array().map(Vec::len), Some(3), "{explained:#}");
    let history = lab.gateway.ask(&["history", "--client", &address])?;
    let tenures = list(&history, "history");
    assert!(tenures.len() == 3 && tenures.iter().all(|tenure| tenure["state"] == "active"), "{history:#}");

    // Who closes the connection has left.
    drop(alices);
    has_sessions_of(&lab, &["bob"])?;
    assert_eq!(ends(&lab, "alice")?, ["closed-timeout", "closed-timeout"]);
    proved(&lab, "carol")?;
    let history = lab.gateway.ask(&["history", "--client", &address, "--user", "alice"])?;
    let reasons = list(&history, "history").iter().all(|tenure| tenure["reason"] == "closed-timeout");
    assert!(reasons, "{history:#}");
    Ok(())
}

#[test]
fn the_lifetime_ends_everybody_and_closes_their_connections() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lifetime = "proxy-auth-lifetime = \"enable\"\nproxy-auth-lifetime-timeout = \"2s\"\n";
    let lab = Lab::start(&listed(lifetime))?;
    let (mut alices, mut bobs) = (tunnel(&lab, "alice")?, proved(&lab, "bob")?);
    works(&mut alices)?;
    assert!(alices.ended_within(PAST_TIMEOUT + SOON)? && bobs.ended_within(SOON)?);
    has_sessions_of(&lab, &[])?;
    assert_eq!(
        (ends(&lab, "alice")?, ends(&lab, "bob")?),
        (vec!["lifetime".into()], vec!["lifetime".into()])
    );
    Ok(())
}

#[test]
fn a_timeout_asks_again_on_that_connection_and_another_user_is_a_kick_out_there() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let timeout = format!(
        "proxy-auth-timeout = \"{}s\"\nproxy-re-authentication-mode = \"traffic\"\n",
        TIMEOUT.as_secs()
    );
    let lab = Lab::start(&listed(&timeout))?;
    let (mut quiet, mut busy) = (proved(&lab, "alice")?, tunnel(&lab, "bob")?);
    let first =
        lab.gateway.sessions()?.into_iter().find(|session| session.is_of("alice")).context("alice")?;
    let mut waited = Duration::ZERO;
    while waited < PAST_TIMEOUT {
        works(&mut busy)?;
        silence(TIMEOUT / 4);
        waited += TIMEOUT / 4;
    }
    let state = |user: &str| -> Result<Vec<String>> {
        let of = lab.gateway.sessions()?.into_iter().filter(|session| session.is_of(user));
        Ok(of.map(|session| session.state).collect())
    };
    assert_eq!((state("alice")?, state("bob")?), (vec!["stale".into()], vec!["active".into()]));
    assert_eq!(status(&mut quiet)?, 407, "on that connection her time has run out");
    works(&mut busy)?;
    quiet.get(ORIGIN, &lab.credentials(0, "alice")?)?;
    assert_eq!(quiet.answer()?.0.code, 200);
    let renewed =
        lab.gateway.sessions()?.into_iter().find(|session| session.is_of("alice")).context("alice")?;
    assert_eq!((renewed.id, renewed.created), (first.id, first.created), "it goes on");
    assert_eq!(status(&mut quiet)?, 200);

    // Bob on alice's connection.
    quiet.get(ORIGIN, &lab.credentials(0, "bob")?)?;
    assert_eq!(quiet.answer()?.0.code, 200);
    has_sessions_of(&lab, &["bob", "bob"])?;
    assert_eq!((ends(&lab, "alice")?, ends(&lab, "bob")?), (vec!["kicked".to_owned()], Vec::new()));
    works(&mut busy)?;
    assert_eq!(status(&mut quiet)?, 200);
    let warnings = lab.gateway.ask(&["status"])?["warnings"].to_string();
    assert!(!warnings.contains("take turns"), "that is what a shared host is for: {warnings}");
    Ok(())
}

#[test]
fn a_connection_that_its_client_has_ended_does_not_hold_its_session() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let timeout = format!("proxy-auth-timeout = \"{}s\"\n", TIMEOUT.as_secs());
    let lab = Lab::start(&listed(&timeout))?;
    let held = |user: &str, port: u16| -> Result<Raw> {
        let mut raw = lab.raw(0)?;
        let target = format!("origin.example.test:{port}");
        assert_eq!(raw.tunnel(&target, &lab.credentials(0, user)?)?.code, 200);
        Ok(raw)
    };
    let _bobs = held("bob", SILENT_PORT)?;
    let mut carols = held("carol", DRIP_PORT)?;
    carols.half_close()?;
    let alices = held("alice", SILENT_PORT)?;
    let watch = Stopwatch::start();
    drop(alices);
    let state = |user: &str| {
        let found = lab.gateway.sessions().ok()?.into_iter().find(|session| session.is_of(user));
        found.map(|session| session.state)
    };
    until("alice's session to be stale", HALF_CLOSED + TIMEOUT + SOON, || {
        (state("alice")? == "stale").then_some(())
    })?;
    assert!(watch.elapsed() > HALF_CLOSED + TIMEOUT, "{:?}", watch.elapsed());
    assert_eq!(state("bob").as_deref(), Some("active"), "he has not left");
    assert_eq!(state("carol").as_deref(), Some("active"), "something is delivered to her");
    Ok(())
}

#[test]
fn absolute_counts_on_each_connection_from_its_login() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let timeout = format!(
        "proxy-auth-timeout = \"{}s\"\nproxy-re-authentication-mode = \"absolute\"\n",
        TIMEOUT.as_secs()
    );
    let lab = Lab::start(&(listed(&timeout) + "on-timeout = \"close\"\n"))?;
    let mut alices = tunnel(&lab, "alice")?;
    silence(TIMEOUT / 2);
    let mut bobs = proved(&lab, "bob")?;
    assert!(alices.ended_within(PAST_TIMEOUT)?, "on-timeout closes her tunnel");
    assert_eq!(status(&mut bobs)?, 200, "his time has not run out");
    assert!(bobs.ended_within(PAST_TIMEOUT)?);
    has_sessions_of(&lab, &[])
}

#[test]
fn listing_an_address_and_taking_it_off_the_list_end_what_is_there() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    let address = lab.address(0);
    let mut alices = tunnel(&lab, "alice")?;
    lab.login(1, "carol")?;
    lab.gateway.ask(&["set", "shared-hosts", &address])?;
    assert!(alices.ended_within(SOON)?);
    has_sessions_of(&lab, &["carol"])?;
    // It is told when it is on disk.
    until("alice's end", SOON, || (ends(&lab, "alice").ok()? == ["admin"]).then_some(()))?;
    assert_eq!(status_without_credentials(&lab, 0), 407);

    let (mut alices, mut bobs) = (proved(&lab, "alice")?, tunnel(&lab, "bob")?);
    has_sessions_of(&lab, &["alice", "bob", "carol"])?;
    lab.gateway.ask(&["set", "shared-hosts", ""])?;
    assert!(alices.ended_within(SOON)? && bobs.ended_within(SOON)?);
    has_sessions_of(&lab, &["carol"])?;
    until("alice's second end", SOON, || (ends(&lab, "alice").ok()? == ["admin", "admin"]).then_some(()))?;
    assert_eq!(status_without_credentials(&lab, 0), 407, "nobody is revived");
    lab.login(0, "bob")?;

    // The same over a restart: what the file says then is what counts.
    lab.gateway.stop()?;
    lab.gateway.configure(&listed(""))?;
    lab.gateway.start()?;
    has_sessions_of(&lab, &["carol"])?;
    let _alices = proved(&lab, "alice")?;
    lab.gateway.kill();
    lab.gateway.start()?;
    has_sessions_of(&lab, &["carol"])?;
    let history = lab.gateway.ask(&["history", "--client", &address])?;
    assert!(list(&history, "history").iter().all(|tenure| tenure["state"] == "ended"), "{history:#}");
    Ok(())
}

#[test]
fn it_is_the_same_without_the_kernel_side() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let timeout = format!(
        "proxy-auth-timeout = \"{}s\"\nproxy-re-authentication-mode = \"traffic\"\n",
        TIMEOUT.as_secs()
    );
    let lab = Lab::start(&(listed(&timeout) + "[observer]\nmode = \"proxy\"\n"))?;
    let (mut alices, bobs) = (proved(&lab, "alice")?, proved(&lab, "bob")?);
    silence(PAST_TIMEOUT);
    assert_eq!(status(&mut alices)?, 407);
    drop(bobs);
    has_sessions_of(&lab, &["alice"])
}
