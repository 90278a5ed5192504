//! Standard output that nobody reads, or that takes nothing: who wants to log in or to be served does not notice.

use std::io::Read as _;

use anyhow::Result;
use lab::wait::until;
use lab::{Lab, gateway};

use crate::common::{ORIGIN, SOON, is_let_through};

/// So many lines of the access log are more than a pipe holds, many times.
const REQUESTS: usize = 3_000;

#[test]
fn a_reader_of_the_log_that_stalls_stops_nobody() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(3, &gateway::bin_dir()?)?;
    let mut unread = lab.gateway.start_into_pipe()?;
    lab.login(0, "alice")?;
    let mut raw = lab.raw(0)?;
    let path = "p".repeat(500);
    for _ in 0..REQUESTS {
        raw.get(&format!("{ORIGIN}{path}"), "")?;
        raw.answer()?;
    }
    // New users, refusals, ends: all that the audit trail has a line for.
    lab.login(1, "bob")?;
    assert_eq!(lab.gateway.ctl(&["logout", &lab.address(1)])?.exit, 0);
    lab.login(1, "carol")?;
    assert!(is_let_through(&lab, 0) && is_let_through(&lab, 1));
    let mut bad = lab.raw(2)?;
    bad.get(ORIGIN, "Proxy-Authorization: Negotiate AAAA\r\n")?;
    assert_eq!(bad.answer()?.0.code, 407);

    let told = |text: &str| text.contains("standard output has not been read").then_some(());
    until("/ready to say so", SOON, || {
        lab.gateway.http("/ready").ok().filter(|ready| ready.0 == 200).and_then(|ready| told(&ready.1))
    })?;
    told(&lab.gateway.ask(&["status"])?["warnings"].to_string()).expect("status says so");
    let events = lab.gateway.events()?;
    for (user, kind) in
        [("alice", "login"), ("bob", "login"), ("bob", "ended"), ("carol", "login"), ("", "refused")]
    {
        assert!(
            events.iter().any(|event| event.user == user && event.kind == kind),
            "{user} {kind}: {events:#?}"
        );
    }

    // Nothing of it is lost with the process: the store has the trail, refusals included.
    let since = lab.gateway.ask(&["status"])?["started"].as_str().unwrap_or_default().to_owned();
    lab.gateway.kill();
    lab.gateway.start()?;
    let kept = lab.gateway.ask(&["events", "--since", &since])?;
    for words in [["alice", "login"], ["carol", "login"], [&lab.address(2), "refused"]] {
        let has = |event: &serde_json::Value| words.iter().all(|word| event.to_string().contains(word));
        assert!(kept.as_array().is_some_and(|events| events.iter().any(has)), "{words:?}: {kept:#}");
    }
    let mut read = vec![0; 4096];
    assert!(unread.read(&mut read)? > 0, "it was there to be read");
    Ok(())
}

#[test]
fn a_reader_that_comes_back_is_told_what_is_missing() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::prepare(2, &gateway::bin_dir()?)?;
    // Every step of the conditions has its line: there are soon too many to be kept.
    lab.gateway.configure("[kerberos.conditions]\ndebugging = true\n")?;
    let mut unread = lab.gateway.start_into_pipe()?;
    lab.login(0, "alice")?;
    let lost =
        || lab.gateway.metric("tracker_log_lines_lost_total").ok().flatten().filter(|lost| *lost > 0.0);
    until("lines to be lost", SOON * 12, || {
        let mut raw = lab.raw(1).ok()?;
        for _ in 0..200 {
            raw.get(ORIGIN, &format!("User-Agent: {}\r\n", "u".repeat(250))).ok()?;
            assert_eq!(raw.answer().ok()?.0.code, 407);
        }
        lost()
    })?;
    let reading = std::thread::spawn(move || {
        let (mut all, mut part) = (Vec::new(), vec![0; 1 << 16]);
        while !String::from_utf8_lossy(&all).contains("standard output is written again") {
            match unread.read(&mut part) {
                Ok(count @ 1..) => {
                    let keep = all.len().saturating_sub(256);
                    all.drain(..keep);
                    all.extend_from_slice(&part[..count]);
                }
                _ => return false,
            }
        }
        // The rest has to be read for as long as the daemon runs.
        std::thread::spawn(move || while unread.read(&mut part).is_ok_and(|count| count > 0) {});
        true
    });
    assert!(reading.join().expect("it reads"), "the log goes on, and says what is missing");
    until("status to be quiet again", SOON, || {
        let status = lab.gateway.ask(&["status"]).ok()?;
        (!status["warnings"].to_string().contains("standard output")).then_some(())
    })
}
