//! `trackerctl explain`: what was decided about real requests, and what would be about described ones.

use anyhow::{Context as _, Result};
use lab::{Lab, PROXY_NAME};
use serde_json::Value;

use crate::common::{ORIGIN, logged};

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

#[test]
fn the_last_decisions_are_there_without_anybody_having_asked_for_them() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    let address = lab.address(0);
    lab.curl(0).get(&format!("{ORIGIN}status/200?secret=1"))?;
    lab.curl(0).header("Proxy-Authorization: Negotiate Z2FyYmFnZQ==").get(ORIGIN)?;
    lab.login(0, "alice")?;
    let explained = lab.gateway.ask(&["explain", &address])?;
    assert_eq!(text(&explained, "decision"), "allow", "{explained}");
    let recent = explained["recent"].as_array().context("recent")?;
    let results: Vec<_> = recent.iter().map(|decision| text(decision, "result")).collect();
    assert_eq!(results, ["accepted", "refused", "challenged"], "the newest first: {explained}");

    let ticket = &recent[0]["ticket"];
    assert_eq!(text(ticket, "principal"), "alice@EXAMPLE.TEST");
    assert_eq!(text(ticket, "service"), format!("HTTP/{PROXY_NAME}@EXAMPLE.TEST"));
    assert!(text(ticket, "enctype").starts_with("aes256") && ticket["key_version"].as_u64() >= Some(1));
    assert!(
        text(ticket, "flags").contains("mutual") && ticket["token_bytes"].as_u64() > Some(300),
        "{ticket}"
    );
    assert_eq!(text(&recent[1], "cause"), "garbage");
    assert!(text(&recent[2], "url").ends_with("/status/200"), "no query is kept: {}", recent[2]);
    assert!(text(&recent[2], "user_agent").starts_with("curl/"));
    assert_eq!(recent[2]["steps"].as_array().map(Vec::len), Some(6), "{}", recent[2]);

    let shown = lab.gateway.shown(&["explain", &address])?;
    for words in [
        "the last decisions about real requests",
        "accepted: alice@EXAMPLE.TEST",
        "refused (garbage)",
        "passed over",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    println!("{shown}");
    Ok(())
}

#[test]
fn a_described_request_is_walked_through_the_conditions() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start(
        "[kerberos.conditions]\nspns = [\"proxy.example.test\"]\nurl-deny = [\"[?&]x=1\"]\nbrowsers = [\"Chrome/\", \"curl/\"]\n",
    )?;
    let address = lab.address(0);
    let chrome = "Mozilla/5.0 Chrome/156.0";
    for (words, decision, step) in [
        (vec!["--user-agent", chrome], "challenge", None),
        (vec!["--user-agent", "Firefox/1"], "deny", Some("browsers")),
        (vec!["--url", "http://a.test/?y=2&x=1", "--user-agent", chrome], "deny", Some("url-deny")),
        (vec!["--url", "a.test:443", "--user-agent", chrome], "challenge", None),
        (vec!["--host", "PROXY.example.test", "--user-agent", chrome], "challenge", None),
        (vec!["--host", "other.test", "--user-agent", chrome], "deny", Some("spns")),
        (vec!["--cookie", "PstarNoKerberos=1"], "deny", Some("opt-out-cookie")),
    ] {
        let explained = lab.gateway.ask(&[&["explain", &address], words.as_slice()].concat())?;
        assert_eq!(text(&explained, "decision"), decision, "{words:?}: {explained}");
        let steps = explained["walk"]["steps"].as_array().context("steps")?;
        let decided = steps.iter().find(|step| step["decides"] == true).map(|step| text(step, "step"));
        assert_eq!(decided, step, "{words:?}: {explained}");
    }
    // What is described decides nothing for whoever is logged in.
    let login = lab.curl_as(0, "alice")?.get(ORIGIN)?;
    assert_eq!(login.code, 200, "{login:?}");
    let explained = lab.gateway.ask(&["explain", &address, "--user-agent", "Firefox/1"])?;
    assert_eq!(text(&explained, "decision"), "allow", "{explained}");
    println!("{}", lab.gateway.shown(&["explain", &lab.address(1), "--user-agent", "Firefox/1"])?);
    Ok(())
}

#[test]
fn debugging_tells_everything_of_an_accepted_ticket() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("[kerberos.conditions]\ndebugging = true\n")?;
    lab.login(0, "alice")?;
    let line = logged(&lab, &["a ticket was accepted"])?;
    for words in [
        "principal=\"alice@EXAMPLE.TEST\"",
        "service=\"HTTP/proxy.example.test@EXAMPLE.TEST\"",
        "mechanism=SPNEGO with Kerberos",
        "token_bytes=",
        "answer_bytes=",
        "enctype=\"aes256-cts-hmac-sha1-96\"",
        "key_version=",
        "flags=\"mutual",
        "ticket_flags=\"renewable\"",
        "session_enctype=\"aes256",
        "session_key_bits=256",
        "authenticated=\"20",
        "starts=\"20",
        "ends=\"20",
        "renewable_until=",
    ] {
        assert!(line.contains(words), "{words}: {line}");
    }
    println!("{line}");
    Ok(())
}
