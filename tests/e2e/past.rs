//! Who had this address when, and why a client is served or asked.

use anyhow::{Context as _, Result};
use lab::Lab;
use lab::answers::{list, same_user};
use lab::wait::{silence, until};
use serde_json::Value;

use crate::common::{
    ORIGIN, PAST_TIMEOUT, SOON, becomes_stale, has_ended, is_let_through, mode, session,
    status_without_credentials, url,
};

/// The users in a history, in its order.
fn users(history: &Value) -> Vec<String> {
    list(history, "history")
        .iter()
        .map(|row| row["user"].as_str().unwrap_or_default().to_lowercase())
        .collect()
}

fn people(lab: &Lab, arguments: &[&str]) -> Result<String> {
    let output = lab.gateway.trackerctl().args(arguments).output()?;
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn history_tells_who_had_the_address_when() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start(&mode("traffic"))?;
    let address = lab.address(0);
    lab.login(0, "alice")?;
    becomes_stale(&lab, 0)?;
    lab.login(0, "alice")?;
    silence(PAST_TIMEOUT / 2);
    lab.login(0, "bob")?;
    lab.login(1, "carol")?;

    let all = lab.gateway.ask(&["history"])?;
    assert_eq!(users(&all), ["carol", "bob", "alice"], "{all:#}");
    let alice = list(&all, "history")[2].clone();
    assert_eq!((&alice["reason"], &alice["state"]), (&"kicked".into(), &"ended".into()), "{alice:#}");
    assert!(same_user(alice["by"].as_str().unwrap_or_default(), "bob"), "{alice:#}");
    assert_eq!(alice["stale"][0]["reason"], "traffic-timeout", "{alice:#}");
    assert!(alice["stale"][0]["until"].is_string(), "{alice:#}");
    let bob = list(&all, "history")[1].clone();
    assert_eq!(bob["until"], Value::Null, "{bob:#}");
    assert_eq!(bob["session"].as_str(), Some(session(&lab, 0)?.id.as_str()));

    assert_eq!(users(&lab.gateway.ask(&["history", "--client", &address])?), ["bob", "alice"]);
    assert_eq!(users(&lab.gateway.ask(&["history", "--user", "ALICE"])?), ["alice"]);
    let then = alice["from"].as_str().unwrap_or_default();
    let asked = lab.gateway.ask(&["history", "--client", &address, "--at", then])?;
    assert_eq!(users(&asked), ["alice"], "{asked:#}");
    assert_eq!(users(&lab.gateway.ask(&["history", "--at", "1h"])?), [""; 0]);
    assert_eq!(users(&lab.gateway.ask(&["history", "--at", "0s"])?), ["carol", "bob"]);
    assert_eq!(users(&lab.gateway.ask(&["history", "--limit", "1"])?), ["carol"]);
    assert_eq!(lab.gateway.ctl(&["history", "--at", "whenever"])?.exit, 64);

    // It is the store's word: it outlives the daemon.
    lab.gateway.kill();
    lab.gateway.start()?;
    assert_eq!(users(&lab.gateway.ask(&["history"])?), ["carol", "bob", "alice"]);
    let kept = lab.gateway.ask(&["history", "--client", &address, "--at", then])?;
    assert_eq!(list(&kept, "history")[0]["stale"], alice["stale"]);
    let text = people(&lab, &["history"])?;
    // Whether the others are stale by now depends on how fast this machine is.
    assert!(text.contains("kicked (bob") && text.contains("still ("), "{text}");

    // So does the audit trail, whose memory begins anew.
    let remembered = lab.gateway.events()?;
    assert!(!remembered.iter().any(|event| event.kind == "login"), "{remembered:?}");
    let all = lab::answers::events(&lab.gateway.ask(&["events", "--since", "1h"])?);
    let logins = all.iter().filter(|event| event.kind == "login").count();
    assert_eq!(logins, 3, "{all:?}");
    let none = lab.gateway.ask(&["events", "--since", "2100-01-01T00:00:00Z"])?;
    assert_eq!(list(&none, "events").len(), 0);
    Ok(())
}

fn rule(explained: &Value) -> &str {
    let findings = list(&explained["findings"], "findings");
    let deciding = findings.iter().find(|finding| finding["decides"] == true);
    deciding.and_then(|finding| finding["rule"].as_str()).unwrap_or_default()
}

#[test]
fn explain_says_what_is_decided_and_why() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("[timeouts]\nproxy-auth-timeout = \"2s\"\nproxy-auth-lifetime = \"enable\"\n")?;
    let explain = |client: usize| lab.gateway.ask(&["explain", &lab.address(client)]);
    let agrees = |client: usize| -> Result<Value> {
        let explained = explain(client)?;
        let allowed = explained["decision"] == "allow";
        assert_eq!(is_let_through(&lab, client), allowed, "{explained:#}");
        Ok(explained)
    };
    assert_eq!(rule(&agrees(0)?), "session", "nobody is logged in");
    lab.login(0, "alice")?;
    let open = lab.raw(0)?;
    until("the connection to be seen", SOON, || {
        (explain(0).ok()?["record"]["open_connections"] == 1).then_some(())
    })?;
    silence(PAST_TIMEOUT);
    let explained = agrees(0)?;
    assert_eq!((rule(&explained), &explained["state"]), ("timeout", &"active".into()), "{explained:#}");
    assert!(explained["expires"].is_string(), "the lifetime is a deadline: {explained:#}");
    drop(open);
    becomes_stale(&lab, 0)?;
    let explained = agrees(0)?;
    assert_eq!((rule(&explained), &explained["state"]), ("state", &"stale".into()), "{explained:#}");
    let text = people(&lab, &["explain", &lab.address(0)])?;
    assert!(text.contains("asked to authenticate (407)") && text.contains("closed-timeout"), "{text}");

    lab.login(0, "alice")?;
    lab.gateway.ask(&["set", "revalidate", "on-reopen"])?;
    until("everything to be closed", SOON, || {
        (explain(0).ok()?["record"]["open_connections"] == 0).then_some(())
    })?;
    let explained = explain(0)?;
    assert_eq!(
        (rule(&explained), &explained["decision"]),
        ("revalidate", &"challenge".into()),
        "{explained:#}"
    );
    assert_eq!(status_without_credentials(&lab, 0), 407);

    lab.gateway.ask(&["set", "shared-hosts", &lab.address(1)])?;
    let explained = explain(1)?;
    assert_eq!((rule(&explained), &explained["shared"]), ("shared-host", &true.into()), "{explained:#}");
    assert!(!has_ended(&lab, 0, "kicked"));
    Ok(())
}

/// So much is downloaded at once: more than anything else that a session moves.
const DOWNLOAD: u64 = 300_000;

/// What moved during the newest session of a client, received and sent, after that has ended: the trail and the history must
/// say the same.
fn moved(lab: &Lab, client: usize) -> Result<Option<(u64, u64)>> {
    let history = lab.gateway.ask(&["history", "--client", &lab.address(client)])?;
    let sessions = list(&history, "history");
    let last = sessions.iter().find(|past| past["state"] == "ended").context("a session that has ended")?;
    let events = lab.gateway.ask(&["events", "--since", "1h"])?;
    let of_it = |event: &&Value| event["event"] == "ended" && event["session"] == last["session"];
    let ended = list(&events, "events").into_iter().find(of_it).context("its end")?;
    assert_eq!((&ended["rx"], &ended["tx"]), (&last["rx"], &last["tx"]), "{ended:#} {last:#}");
    Ok(ended["rx"].as_u64().zip(ended["tx"].as_u64()))
}

/// Plausible for so many downloads and a few requests.
fn is_about(moved: Option<(u64, u64)>, downloads: u64) -> bool {
    let most = downloads * DOWNLOAD + DOWNLOAD / 4;
    moved.is_some_and(|(rx, tx)| (50..50_000).contains(&rx) && (downloads * DOWNLOAD..most).contains(&tx))
}

#[test]
fn an_end_says_how_much_moved_during_the_session() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    for (observer, goes_on) in [("", true), ("[observer]\nmode = \"proxy\"\n", false)] {
        let mut lab = Lab::start(&format!("[timeouts]\nproxy-auth-timeout = \"10m\"\n{observer}"))?;
        let download = |lab: &Lab| -> Result<()> {
            assert_eq!(lab.curl(0).get(&url(&format!("bytes/{DOWNLOAD}")))?.code, 200);
            Ok(())
        };
        let address = lab.address(0);
        lab.login(0, "alice")?;
        download(&lab)?;
        download(&lab)?;
        lab.login(0, "bob")?;
        let alices = moved(&lab, 0)?;
        assert!(is_about(alices, 2), "{observer:?}: {alices:?}");

        // Whoever comes next counts from their own login; and over a restart as far as the counters go on.
        download(&lab)?;
        lab.gateway.kill();
        lab.gateway.start()?;
        lab.gateway.ask(&["logout", &address])?;
        let bobs = moved(&lab, 0)?;
        assert!(if goes_on { is_about(bobs, 1) } else { bobs.is_none() }, "{observer:?}: {bobs:?}");
        let text = people(&lab, &["history", "--client", &address])?;
        assert!(text.contains("SENT") && (!goes_on || text.contains(" KiB")), "{text}");
    }
    Ok(())
}

/// The kernel side that a restart adopts may be a younger one than the session: here one that a daemon with another state
/// directory has attached in between.
#[test]
fn counters_that_are_younger_than_the_session_say_nothing_of_it() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("[timeouts]\nproxy-auth-timeout = \"10m\"\n")?;
    lab.login(0, "alice")?;
    let own = lab.scratch.join("state").display().to_string();
    lab.gateway.stop()?;
    let config = lab.gateway.config().display().to_string();
    assert_eq!(lab.gateway.ctl(&["detach", "--config", &config])?.exit, 0);
    lab.gateway.configure(&format!("state-dir = \"{own}-of-another\"\n"))?;
    lab.gateway.start()?;
    lab.login(0, "bob")?;
    assert_eq!(lab.curl(0).get(&url(&format!("bytes/{DOWNLOAD}")))?.code, 200);
    lab.gateway.stop()?;

    lab.gateway.configure(&format!("state-dir = \"{own}\"\n"))?;
    lab.gateway.start()?;
    assert_eq!(session(&lab, 0)?.user, "alice");
    lab.gateway.ask(&["logout", &lab.address(0)])?;
    assert_eq!(moved(&lab, 0)?, None, "bob moved that");
    Ok(())
}

#[test]
fn a_connection_of_a_shared_host_has_its_own_count() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("[timeouts]\nshared-hosts = [\"10.77.0.0/24\"]\n")?;
    let mut raw = lab.raw(0)?;
    raw.get(ORIGIN, &lab.credentials(0, "alice")?)?;
    assert_eq!(raw.answer()?.0.code, 200);
    raw.get(&url(&format!("bytes/{DOWNLOAD}")), "")?;
    assert_eq!(raw.answer()?.0.code, 200);
    drop(raw);
    until("the session's end", SOON, || has_ended(&lab, 0, "closed-timeout").then_some(()))?;
    let counted = moved(&lab, 0)?;
    assert!(is_about(counted, 1), "{counted:?}");
    Ok(())
}
