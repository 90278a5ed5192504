//! What the audit trail tells: every kind of refusal, whose order it was, and no more of either than there is room for.

use anyhow::{Context as _, Result};
use lab::Lab;
use lab::wait::until;
use serde_json::Value;

use crate::common::{ORIGIN, SOON, is_for_people};

fn events(lab: &Lab) -> Result<Vec<Value>> {
    Ok(lab.gateway.ask(&["events"])?.as_array().cloned().unwrap_or_default())
}

/// The newest event of a kind for which this holds.
fn event(lab: &Lab, kind: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
    let find = || events(lab).ok()?.into_iter().rev().find(|event| event["event"] == kind && fits(event));
    until(&format!("an event {kind}"), SOON, find).with_context(|| format!("{:#?}", events(lab)))
}

#[test]
fn every_refusal_has_its_cause() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("[licences]\nmax-users = 1\n")?;
    lab.login(0, "alice")?;
    let reply = lab.curl_as(1, "bob")?.get(ORIGIN)?;
    assert_eq!(reply.code, 403, "{reply:?}");
    assert!(reply.text().contains("as many users are logged in as this proxy has licences for"), "{reply:?}");
    is_for_people(&lab, &reply.text())?;
    let licences = event(&lab, "refused", |event| event["cause"] == "licences")?;
    assert_eq!(
        (&licences["client"], &licences["user"]),
        (&lab.address(1).into(), &"bob".into()),
        "{licences}"
    );
    assert!(licences["reason"].as_str().unwrap_or_default().contains("licences.max-users"), "{licences}");

    lab.gateway.ctl(&["set", "kerberos.conditions.ip-deny", &lab.address(1)])?;
    let reply = lab.curl(1).get(ORIGIN)?;
    assert_eq!(reply.code, 403, "{reply:?}");
    is_for_people(&lab, &reply.text())?;
    let conditions = event(&lab, "refused", |event| event["cause"] == "conditions")?;
    assert_eq!(conditions["client"], lab.address(1).as_str(), "{conditions}");
    assert!(conditions["reason"].as_str().unwrap_or_default().contains("ip-deny"), "{conditions}");

    let mut raw = lab.raw(0)?;
    raw.get(
        ORIGIN,
        "Proxy-Authorization: Negotiate TlRMTVNTUAABAAAAt4II4gAAAAAAAAAAAAAAAAAAAAAKAO5CAAAADw==\r\n",
    )?;
    raw.answer()?;
    let ntlm = event(&lab, "refused", |event| event["cause"] == "ntlm")?;
    assert!(ntlm["method"].is_null(), "it is no Kerberos: {ntlm}");
    Ok(())
}

#[test]
fn one_client_cannot_fill_the_trail() -> Result<()> {
    const REQUESTS: usize = 200;
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("[kerberos.conditions]\ndisabled = true\n")?;
    let mut raw = lab.raw(0)?;
    for _ in 0..REQUESTS {
        raw.get(ORIGIN, "")?;
        assert_eq!(raw.answer()?.0.code, 403);
    }
    let told = events(&lab)?.into_iter().filter(|event| event["cause"] == "conditions").count();
    assert!((1..=10).contains(&told), "{told} lines for {REQUESTS} refusals");
    let counted = lab.gateway.metrics()?;
    let line = format!("tracker_audit_events_total{{event=\"refused\",reason=\"conditions\"}} {REQUESTS}");
    assert!(counted.contains(&line), "none is lost: {counted}");
    lab.gateway.stop()?;
    let log = lab.gateway.log();
    let rest = format!("count={}", REQUESTS - told);
    assert!(log.lines().any(|line| line.contains("audit") && line.contains(&rest)), "no {rest} in\n{log}");
    Ok(())
}

#[test]
fn orders_say_whose_they_were() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("[timeouts]\nproxy-auth-timeout = \"7m\"\n")?;
    let is_root = |event: &Value| {
        let actor = &event["actor"];
        actor["user"] == "root" && actor["uid"] == 0 && actor["via"] == "socket" && actor["pid"].is_number()
    };
    let of_timeout = |event: &Value| {
        event["setting"].as_str().is_some_and(|setting| setting.starts_with("timeouts.proxy-auth-timeout = "))
    };
    lab.login(0, "alice")?;
    assert_eq!(lab.gateway.ctl(&["set", "proxy-auth-timeout", "5m"])?.exit, 0);
    let set = event(&lab, "setting", of_timeout)?;
    assert!(is_root(&set), "{set}");
    assert_eq!(set["setting"], "timeouts.proxy-auth-timeout = 5m");
    assert_eq!((&set["before"], &set["reason"]), (&"7m".into(), &"set".into()), "{set}");

    assert_eq!(lab.gateway.ctl(&["unset", "proxy-auth-timeout"])?.exit, 0);
    let unset = event(&lab, "setting", |event| event["reason"] == "unset")?;
    assert!(is_root(&unset) && unset["before"] == "5m", "{unset}");

    lab.gateway.configure("[timeouts]\nproxy-auth-timeout = \"8m\"\n")?;
    let reread = event(&lab, "setting", |event| event["reason"] == "file" && of_timeout(event))?;
    assert_eq!((&reread["before"], &reread["actor"]["via"]), (&"7m".into(), &"file".into()), "{reread}");

    assert_eq!(lab.gateway.ctl(&["logout", &lab.address(0)])?.exit, 0);
    let ended = event(&lab, "ended", |event| event["reason"] == "admin")?;
    assert!(is_root(&ended) && ended["user"] == "alice", "{ended}");
    // For people, in the log, and beyond a restart.
    let shown = lab.gateway.shown(&["events"])?;
    assert!(shown.contains("(was 7m)  ordered by root (uid 0) by the admin socket"), "{shown}");
    assert!(
        lab.gateway.log().contains("actor=root (uid 0)")
            || lab.gateway.log().contains("actor=\"root (uid 0)")
    );
    // What an order did and whose it was are on disk when it is answered.
    assert_eq!(lab.gateway.ctl(&["set", "max-users", "7"])?.exit, 0);
    lab.gateway.kill();
    lab.gateway.start()?;
    let past = lab.gateway.ask(&["events", "--since", "1h"])?;
    let past = past.as_array().context("no list")?;
    for setting in ["timeouts.proxy-auth-timeout = 5m", "licences.max-users = 7"] {
        let times = past.iter().filter(|event| event["setting"] == setting).count();
        assert_eq!(times, 1, "{setting}: {past:#?}");
    }
    for kind in ["ended", "setting"] {
        assert!(past.iter().any(|event| event["event"] == kind && is_root(event)), "{kind}: {past:#?}");
    }
    Ok(())
}
