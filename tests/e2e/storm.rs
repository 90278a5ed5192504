//! Many bad tokens at once: whoever has a session does not notice.

use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use lab::Lab;
use lab::gateway::PROXY_PORT;
use lab::net::{GATEWAY_V4, Net};
use lab::raw::{Raw, credentials};

use crate::common::ORIGIN;

/// Bad tokens in all, over so many connections at a time.
const BAD: usize = 200;
const CONNECTIONS: usize = 4;
/// Requests on each valid session.
const REQUESTS: usize = 200;

/// [`Lab::raw`] for several threads.
fn connect(net: &Net, client: usize) -> Result<Raw> {
    Raw::connect(&net.clients[client].ns, (GATEWAY_V4, PROXY_PORT).into())
}

/// Submits every one of these in turn until so many of them all have been submitted; how many were refused.
fn submit_bad(net: &Net, client: usize, bad: &[String], submitted: &AtomicUsize) -> Result<usize> {
    let mut refused = 0;
    let mut raw = connect(net, client)?;
    loop {
        let number = submitted.fetch_add(1, Ordering::Relaxed);
        if number >= BAD {
            return Ok(refused);
        }
        raw.get(ORIGIN, &bad[number % bad.len()])?;
        let (head, _) = raw.answer()?;
        refused += usize::from([407, 403].contains(&head.code));
        if head.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            raw = connect(net, client)?;
        }
    }
}

/// Sends requests on a valid session; how many were served.
fn browse(net: &Net, client: usize) -> Result<usize> {
    let mut raw = connect(net, client)?;
    let mut served = 0;
    for _ in 0..REQUESTS {
        raw.get(ORIGIN, "")?;
        served += usize::from(raw.answer()?.0.code == 200);
    }
    Ok(served)
}

#[test]
fn bad_tokens_in_numbers_and_a_dead_kdc_keep_nobody_from_being_served() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start_with(4, "")?;
    lab.login(0, "alice")?;
    lab.login(1, "bob")?;
    // Tokens that take the whole way, to the replay cache; one with a hole in its ticket; and garbage.
    let used = lab.many_credentials(3, "alice", 3)?;
    for token in &used {
        let mut raw = lab.raw(3)?;
        raw.get(ORIGIN, token)?;
        assert_eq!(raw.answer()?.0.code, 200);
    }
    assert_eq!(lab.gateway.ctl(&["logout", &lab.address(3)])?.exit, 0);
    let mut damaged = lab.credentials(3, "bob")?;
    let middle = damaged.len() / 2;
    damaged.replace_range(middle..middle + 4, "AAAA");
    let garbage = ["Z2FyYmFnZQ==", "YIIBAAYGKwYBBQUC", "TlRMTVNTUAABAAAA"].map(credentials);
    let bad: Vec<String> = used.into_iter().chain([damaged]).chain(garbage).collect();
    let carol = lab.credentials(2, "carol")?;
    lab.realm.stop_kdc();

    let before = lab.origin.requests();
    let submitted = &AtomicUsize::new(0);
    let (net, bad) = (&lab.net, &bad);
    let counts = std::thread::scope(|scope| {
        let storm: Vec<_> =
            (0..CONNECTIONS).map(|_| scope.spawn(move || submit_bad(net, 3, bad, submitted))).collect();
        let people: Vec<_> = [0, 1].map(|client| scope.spawn(move || browse(net, client))).into();
        // And somebody who has a ticket, but no session yet.
        let login = scope.spawn(move || -> Result<u16> {
            let mut raw = connect(net, 2)?;
            raw.get(ORIGIN, &carol)?;
            Ok(raw.answer()?.0.code)
        });
        let sum = |threads: Vec<std::thread::ScopedJoinHandle<'_, Result<usize>>>| -> Result<usize> {
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        };
        Ok::<_, anyhow::Error>((sum(storm)?, sum(people)?, login.join().unwrap()?))
    })
    .context("a connection broke")?;
    assert_eq!(counts, (BAD, 2 * REQUESTS, 200), "refused, served, and the login");
    assert_eq!(lab.origin.requests() - before, 2 * REQUESTS as u64 + 1);
    assert_eq!(lab.gateway.sessions()?.len(), 3);
    Ok(())
}
