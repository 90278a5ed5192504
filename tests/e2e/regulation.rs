//! Wrong passwords: who is banned, and what an operator sees and does of it.

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lab::Lab;
use lab::answers::{list, setting};
use lab::client::Reply;
use lab::gateway::PROXY_PORT;
use lab::wait::until;
use serde_json::{Value, json};

use crate::common::{ORIGIN, SOON, is_let_through, lasting};

#[test]
fn where_nobody_is_banned_there_is_nothing_to_show_or_lift() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.login(0, "alice")?;
    assert_eq!(lab.gateway.ask(&["bans"])?, json!([]));
    assert_eq!(lab.gateway.shown(&["bans"])?.trim(), "nobody is banned");
    for of in [lab.address(0).as_str(), "alice", "EXAMPLE.TEST\\alice", "2001:db8::/64", "no such name"] {
        let answer = lab.gateway.ctl(&["bans", "lift", of])?;
        assert_eq!(answer.exit, 1, "{of}: {answer:?}");
        assert!(answer.stderr.contains("no ban names"), "{answer:?}");
    }
    assert_eq!(lab.gateway.ctl(&["bans", "lift"])?.exit, 64);
    assert_eq!(lab.gateway.ask(&["status"])?["bans"], 0);
    for metric in ["tracker_regulation_bans_active", "tracker_regulation_bans_total"] {
        assert_eq!(lab.gateway.metric(metric)?, Some(0.0), "{metric}");
    }
    assert_eq!(lab.gateway.metric("tracker_regulation_refused_total")?, Some(0.0));
    Ok(())
}

#[test]
fn regulation_is_tuned_live_and_warned_of_where_it_does_not_protect_the_directory() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("[regulation]\nban-time = \"90s\"\n")?;
    let warned =
        |status: &Value| list(status, "warnings").iter().any(|one| one.to_string().contains("regulation."));
    assert!(!warned(&lab.gateway.ask(&["status"])?));
    for (key, value) in [("max-retries", "4"), ("find-time", "45m")] {
        assert_eq!(lab.gateway.ctl(&["set", &format!("regulation.{key}"), value])?.exit, 0, "{key}");
    }
    assert!(warned(&lab.gateway.ask(&["status"])?), "5 wrong passwords would reach the directory");
    for (key, value) in [("max-retries", "101"), ("find-time", "0"), ("ban-time", "25h")] {
        assert_eq!(lab.gateway.ctl(&["set", &format!("regulation.{key}"), value])?.exit, 64, "{key} {value}");
    }
    lab.gateway.restart()?;
    for (key, value) in [("max-retries", "4"), ("find-time", "45m"), ("ban-time", "90s")] {
        let shown =
            setting(&lab.gateway.ask(&["get", &format!("regulation.{key}")])?, &format!("regulation.{key}"));
        assert_eq!(shown, value, "{key}");
    }
    assert_eq!(lab.gateway.ctl(&["unset", "regulation.max-retries"])?.exit, 0);
    assert!(!warned(&lab.gateway.ask(&["status"])?));
    Ok(())
}

/// Everybody is asked for passwords, also in the clear.
const BASIC: &str = "[proxy]\nbasic = \"always\"\n";

/// A request of a client with a name and a password.
fn with_password(lab: &Lab, client: usize, user: &str, password: &str) -> Result<Reply> {
    lab.curl(client).arg("--proxy-basic").arg("--proxy-user").arg(&format!("{user}:{password}")).get(ORIGIN)
}

/// So many wrong passwords, each of which is refused.
fn wrong(lab: &Lab, client: usize, user: &str, times: usize) -> Result<Reply> {
    let mut last = Reply::default();
    for number in 0..times {
        last = with_password(lab, client, user, &format!("wrong{number}"))?;
        assert_eq!(last.code, 407, "{number}: {last:?}\n{}", lab.gateway.log());
    }
    Ok(last)
}

/// The bans: what each stands on, its address, its user.
fn bans(lab: &Lab) -> Result<Vec<(String, Value, Value)>> {
    let bans = lab.gateway.ask(&["bans"])?;
    let mut bans: Vec<(String, Value, Value)> = list(&bans, "bans")
        .iter()
        .map(|ban| (ban["scope"].as_str().unwrap().to_owned(), ban["client"].clone(), ban["user"].clone()))
        .collect();
    bans.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(bans)
}

#[test]
fn three_wrong_passwords_ban_a_user_from_one_address_and_one_more_from_everywhere() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start_with(3, BASIC)?;
    let refused = wrong(&lab, 0, "alice", 3)?;
    let banned = with_password(&lab, 0, "alice", "alice-pw")?;
    let (shown, usual) = (lasting(&banned.text()), lasting(&refused.text()));
    assert_eq!((banned.code, shown), (407, usual), "the same page as for a wrong one");
    let pair = ("pair".to_owned(), Value::from(lab.address(0)), Value::from("alice"));
    assert_eq!(bans(&lab)?, std::slice::from_ref(&pair));
    // The person at another address is not concerned, nor is another user here.
    assert_eq!(with_password(&lab, 1, "alice", "alice-pw")?.code, 200);
    assert_eq!(with_password(&lab, 0, "bob", "bob-pw")?.code, 200);
    // Until the budget of the user is used up as well.
    wrong(&lab, 2, "alice", 1)?;
    assert_eq!(bans(&lab)?, [pair, ("user".to_owned(), Value::Null, Value::from("alice"))]);
    assert_eq!(with_password(&lab, 2, "alice", "alice-pw")?.code, 407);
    let explained = lab.gateway.ask(&["explain", &lab.address(0)])?;
    assert_eq!(explained["bans"][0]["user"], "alice", "{explained:#}");
    // The session that was proved before stands.
    assert!(is_let_through(&lab, 1));

    let lifted = lab.gateway.ctl(&["bans", "lift", "alice"])?;
    assert_eq!((lifted.exit, list(&lifted.json["lifted"], "lifted").len()), (0, 2), "{lifted:?}");
    assert_eq!(with_password(&lab, 2, "alice", "alice-pw")?.code, 200);
    let events = lab.gateway.events()?;
    let count = |kind: &str| events.iter().filter(|event| event.kind == kind).count();
    assert_eq!((count("banned"), count("lifted")), (2, 2));
    Ok(())
}

#[test]
fn a_ban_stands_after_kill_9() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start(BASIC)?;
    wrong(&lab, 0, "alice", 3)?;
    wrong(&lab, 1, "no-such-name", 3)?;
    let before = lab.gateway.ask(&["bans"])?;
    assert_eq!(list(&before, "bans").len(), 2, "{before:#}");
    lab.gateway.kill();
    lab.gateway.start()?;
    assert_eq!(with_password(&lab, 0, "alice", "alice-pw")?.code, 407);
    let after = lab.gateway.ask(&["bans"])?;
    for (before, after) in list(&before, "bans").into_iter().zip(list(&after, "bans")) {
        for field in ["scope", "client", "user", "since", "until", "tries"] {
            assert_eq!(before[field], after[field], "{field}");
        }
    }
    // What nobody is called stands nowhere.
    assert!(!after.to_string().contains("no-such-name"), "{after:#}");
    assert_eq!(lab.gateway.ctl(&["bans", "lift", &lab.address(0)])?.exit, 0);
    lab.gateway.kill();
    lab.gateway.start()?;
    assert_eq!(with_password(&lab, 0, "alice", "alice-pw")?.code, 200);
    Ok(())
}

#[test]
fn nobody_is_banned_because_the_kdc_does_not_answer_or_nothing_was_sent() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start(BASIC)?;
    for _ in 0..6 {
        assert_eq!(with_password(&lab, 0, "alice", "")?.code, 407);
    }
    lab.realm.stop_kdc();
    for _ in 0..4 {
        assert_eq!(with_password(&lab, 0, "alice", "wrong")?.code, 503);
    }
    lab.realm.start_kdc(&lab.net.gateway)?;
    assert_eq!(lab.gateway.ask(&["bans"])?, json!([]));
    // A KDC that did not answer is left alone for some seconds.
    until("alice's password to be looked at again", SOON * 4, || {
        with_password(&lab, 0, "alice", "alice-pw").ok().filter(|reply| reply.code == 200).map(drop)
    })
}

#[test]
fn an_address_is_banned_for_everybody_unless_many_share_it() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(2, &lab::gateway::bin_dir()?)?;
    lab.gateway.configure(&format!("{BASIC}[timeouts]\nshared-hosts = [\"{}\"]\n", lab.address(0)))?;
    lab.gateway.start()?;
    for client in [0, 1] {
        for number in 0..15 {
            wrong(&lab, client, &format!("nobody{client}{number}"), 1)?;
        }
    }
    assert_eq!(bans(&lab)?, [("address".to_owned(), Value::from(lab.address(1)), Value::Null)]);
    assert_eq!(with_password(&lab, 0, "bob", "bob-pw")?.code, 200);
    assert_eq!(with_password(&lab, 1, "bob", "bob-pw")?.code, 407);
    assert_eq!(lab.curl_as(1, "bob")?.get(ORIGIN)?.code, 200, "Kerberos is not concerned");
    Ok(())
}

#[test]
fn behind_a_balancer_the_clients_are_counted_and_never_the_balancer() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(1, &lab::gateway::bin_dir()?)?;
    let balancer = lab.address(0);
    lab.gateway.configure(&format!("[proxy]\nbasic = \"always\"\nproxy-protocol = [\"{balancer}\"]\n"))?;
    lab.gateway.start()?;
    let ask = |client: &str, user: &str, password: &str| -> Result<u16> {
        let mut raw = lab.raw(0)?;
        let credentials = STANDARD.encode(format!("{user}:{password}"));
        raw.send(format!("PROXY TCP4 {client} 10.77.0.1 4000 {PROXY_PORT}\r\n"))?;
        raw.get(ORIGIN, &format!("Proxy-Authorization: Basic {credentials}\r\n"))?;
        Ok(raw.answer()?.0.code)
    };
    for number in 0..15 {
        assert_eq!(ask("203.0.113.5", &format!("nobody{number}"), "wrong")?, 407);
    }
    assert_eq!(bans(&lab)?, [("address".to_owned(), Value::from("203.0.113.5"), Value::Null)]);
    assert_eq!(ask("203.0.113.5", "alice", "alice-pw")?, 407);
    assert_eq!(ask("203.0.113.6", "alice", "alice-pw")?, 200);
    Ok(())
}
