//! Messages from other projects' test suites, played through the real gateway: requests to an origin that records them,
//! answers from one that says them, each followed by a marked second request on the same client connection, whole, in
//! pieces and byte by byte. `cargo xtask prove http` plays all of them, every `cargo xtask test` a part.
//!
//! Nothing here uses the gateway's parser, nor the library that it uses: see [`wire`].

mod client;
mod judge;
mod messages;
mod origin;
mod plan;
mod report;
mod rules;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::Lab;
use lab::wait::{Stopwatch, until};

use plan::Board;
use report::Report;

/// How many of the messages that their authors gave no verdict on are played with every test: one of so many.
const SAMPLE: usize = 24;
/// What the gateway may have more of after a run than before: descriptors, and memory in KiB.
const MORE_DESCRIPTORS: usize = 16;
const MORE_MEMORY: u64 = 96 * 1024;

/// How many connections to origins wait for another request.
const IDLE_ORIGINS: &str = "tracker_proxy_origin_connections_idle";

/// The gateway's descriptors, and its memory in KiB.
fn held(lab: &Lab) -> Result<(usize, u64)> {
    let pid = lab.gateway.pid();
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).context("the gateway has died")?.count();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
    Ok((descriptors, memory.context("no memory in the status")?.trim().parse()?))
}

#[test]
fn messages_of_other_projects_mean_one_thing() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let all = std::env::var_os("TRACKER_CORPUS_ALL").is_some();
    let messages = messages::load(if all { 1 } else { SAMPLE })?;
    let lab = Lab::start_with(1, "")?;
    lab.login(0, "alice")?;
    // Thousands of short connections from one address: their numbers may be used again at once.
    lab.net.clients[0].ns.inside(|| std::fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "1"))?;
    let before = held(&lab)?;

    let board = Arc::new(Board::new(messages));
    let watch = Stopwatch::start();
    let origin = origin::Origin::start(&lab.net.origin, &board)?;
    client::play(&lab.net.clients[0].ns, &board)?;
    drop(origin);
    let hung: Vec<_> = board.hung().iter().map(|number| &board.message(*number).id).collect();
    let all_played = board.exchanges.iter().all(|exchange| exchange.heard.get().is_some());
    ensure!(all_played, "the gateway hangs with these, and the rest was not played: {hung:?}");
    let took = watch.elapsed();

    assert_eq!(lab.curl(0).get(crate::common::ORIGIN)?.code, 200, "the gateway still serves");
    let log = lab.gateway.log();
    assert!(
        !log.contains("panicked"),
        "{}",
        log.lines().find(|line| line.contains("panicked")).unwrap_or_default()
    );
    // Idle connections to origins are looked through every 15 s: a part does not wait for it.
    let after = until("the gateway to let go of what it held", Duration::from_secs(60), || {
        let idle = if all { 0.0 } else { lab.gateway.metric(IDLE_ORIGINS).ok()?? };
        held(&lab).ok().filter(|after| after.0 <= before.0 + MORE_DESCRIPTORS + idle as usize)
    });
    let after = after.with_context(|| format!("{before:?} -> {:?}", held(&lab)))?;

    let report = Report::of(&board);
    println!("{report}");
    println!(
        "{} exchanges in {} s; descriptors {} before and {} after, memory {} and {} MiB",
        board.exchanges.len(),
        took.as_secs(),
        before.0,
        after.0,
        before.1 / 1024,
        after.1 / 1024
    );
    assert!(after.1 <= before.1 + MORE_MEMORY, "memory: {before:?} -> {after:?}");
    report.check()
}
