//! Everything at once, for minutes: requests and tunnels as fast as they go, logins, logouts, kicks, reloads. Afterwards
//! nothing may be left of it: no memory, no file descriptors, no open connection, and no error that the load did not cause.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv6Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use lab::answers;
use lab::origin::ECHO_PORT;
use lab::raw::Raw;
use lab::wait::{Stopwatch, silence, until};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::Outcome;
use super::negotiate::Crowd;
use super::rig::gateways::Tracker;
use super::rig::report::Table;
use super::rig::usage::resident;
use super::rig::{FAR_END, Rig, Subject};
use super::tunnel::{self, Job};
use crate::sh;

/// How long.
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds at full load.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
}

/// One cycle of everything takes about this many seconds.
const CYCLE: f64 = 10.0;
/// So many of them come between two quiet moments.
const CYCLES: usize = 6;
/// Kept connections of the requests.
const CONNECTIONS: usize = 64;
/// Logins in one crowd, and how many a second. The same addresses come again and again.
const CROWD: u64 = 200;
const RATE: u64 = 200;
/// Connections to origins that nobody uses are closed by then, and freed memory has been given back.
const SETTLES: Duration = Duration::from_secs(5);
/// Memory may grow by so much in the second half: part, and bytes. In the first, what is bounded fills: the database's
/// cache of pages (8 MiB), the last 10,000 events.
const GROWTH: f64 = 0.10;
const GROWTH_FLOOR: u64 = 2 << 20;
/// That takes so long,
const FULL_AFTER: Duration = Duration::from_secs(400);
/// and so many bytes: all that a shorter run can tell.
const FILLS: u64 = 16 << 20;
/// File descriptors may.
const DESCRIPTORS: usize = 8;
/// The load causes these: users take turns on an address, which is what a kick-out is; clients vanish.
const EXPECTED: [&str; 1] = ["take turns"];
/// Requests that were answered with an error of ours.
const FAILED: &str = "tracker_proxy_requests_total{class=\"5xx\"}";
/// Metrics that should stay 0.
const ZERO: [&str; 4] = [
    "tracker_records_repaired_total",
    "tracker_record_read_errors_total",
    "tracker_observer_blind",
    "tracker_observer_errors_total",
];

/// What was done.
#[derive(Debug, Default)]
struct Done {
    requests: f64,
    gigabytes: f64,
    logins: u64,
    logouts: u64,
    kicks: u64,
    reloads: u64,
}

/// The daemon at a quiet moment.
#[derive(Clone, Copy, Debug)]
struct Quiet {
    resident: u64,
    descriptors: usize,
}

/// Runs it, and fails if anything is left.
pub(crate) fn run(options: &Options, bin: &Path) -> Result<Outcome> {
    let rig = Rig::new(bin)?;
    let subject = rig.everything_on(0)?;
    let tracker = subject.tracker()?;
    let first = Crowd::new(&rig)?.take(usize::try_from(CROWD)?);
    let watch = Stopwatch::start();
    let mut done = Done::default();
    let mut quiet = Vec::new();
    let end = Duration::from_secs(options.seconds);
    // The first cycle fills pools and caches of connections.
    let mut cycles = 1;
    while quiet.is_empty() || watch.elapsed() < end {
        for _ in 0..cycles {
            cycle(&rig, &subject, first, &mut done)?;
        }
        cycles = CYCLES.min((end.saturating_sub(watch.elapsed()).as_secs_f64() / CYCLE) as usize).max(1);
        let now = settle(&rig, tracker)?;
        eprintln!(
            "    after {:.0} s: {:.1} MiB, {} descriptors, {done:?}",
            watch.elapsed().as_secs_f64(),
            now.resident as f64 / 1_048_576.0,
            now.descriptors
        );
        quiet.push(now);
    }
    let (Some(start), Some(end)) = (quiet.first().copied(), quiet.last().copied()) else { bail!("no time") };
    let mut faults = faults(&rig, tracker)?;
    let middle = quiet.get(quiet.len() / 2).copied().unwrap_or(start);
    let (from, allowed) = if watch.elapsed() > FULL_AFTER {
        (middle.resident, GROWTH_FLOOR.max((middle.resident as f64 * GROWTH) as u64))
    } else {
        (start.resident, FILLS)
    };
    if end.resident > from + allowed {
        faults.push(format!("memory grew from {from} to {} bytes", end.resident));
    }
    if end.descriptors > start.descriptors + DESCRIPTORS {
        faults.push(format!("file descriptors grew from {} to {}", start.descriptors, end.descriptors));
    }
    let text = report(&done, &quiet, watch.elapsed(), &faults);
    ensure!(faults.is_empty(), "{text}");
    Ok(Outcome { text, aims: Vec::new() })
}

/// Everything once.
fn cycle(rig: &Rig, subject: &Subject, first: Ipv6Addr, done: &mut Done) -> Result<()> {
    let tracker = subject.tracker()?;
    // wrk first, then tunnels down and up, each half as long: the far end has one port.
    let requests = rig.wrk_begins(subject, CONNECTIONS, CYCLE)?;
    for upload in [false, true] {
        let mut stream = tunnel::load(rig, subject, Job { tunnels: 4, upload }, CYCLE / 2.0)?;
        stream.begin()?;
        others(rig, subject, first, done)?;
        let said = stream.end()?;
        done.gigabytes += said.get("bytes").and_then(Value::as_f64).unwrap_or(0.0) / 1e9;
    }
    done.requests += requests.end()?.units;
    tracker.gateway.ask(&["logout", "--user", "carol"])?;
    done.logouts += 1;
    Ok(())
}

/// Logins, kicks, logouts and reloads, one after the other, while the others work.
fn others(rig: &Rig, subject: &Subject, first: Ipv6Addr, done: &mut Done) -> Result<()> {
    let tracker = subject.tracker()?;
    rig.crowd(subject, "carol", first, CROWD, RATE)?;
    done.logins += CROWD;
    for user in ["alice", "bob"] {
        tracker.login(rig, 1, user)?;
        done.logins += 1;
        // The next one finds this tunnel open, and ends it.
        let mut tunnel =
            Raw::connect(&rig.lab.net.clients.get(1).context("no second client")?.ns, subject.v4())?;
        let head = tunnel.tunnel(&format!("{}:{ECHO_PORT}", FAR_END.ip()), "")?;
        ensure!(head.code == 200, "{user} gets no tunnel: {}", head.text);
        let other = if user == "alice" { "bob" } else { "alice" };
        tracker.login(rig, 1, other)?;
        done.logins += 1;
        ensure!(tunnel.ended_within(Duration::from_secs(5))?, "{user}'s tunnel outlives the kick-out");
        done.kicks += 1;
    }
    tracker.gateway.ask(&["logout", &rig.lab.address(1)])?;
    done.logouts += 1;
    reload(tracker, done)
}

/// Another timeout, once by saving the file and once more by SIGHUP.
fn reload(tracker: &Tracker, done: &mut Done) -> Result<()> {
    let gateway = &tracker.gateway;
    let old = fs::read_to_string(gateway.config())?;
    let (from, to) = if old.contains("\"8h\"") { ("\"8h\"", "\"7h\"") } else { ("\"7h\"", "\"8h\"") };
    gateway.write(&old.replace(from, to))?;
    gateway.signal(Signal::SIGHUP)?;
    done.reloads += 1;
    let wanted = if to == "\"8h\"" { "8h" } else { "7h" };
    until("the new timeout", Duration::from_secs(10), || {
        let said = gateway.ask(&["get", "proxy-auth-timeout"]).ok()?;
        (answers::setting(&said, "proxy-auth-timeout") == wanted).then_some(())
    })
}

/// Waits until every client's connections are closed, and for the daemon to come to rest.
fn settle(rig: &Rig, tracker: &Tracker) -> Result<Quiet> {
    let mut open = Vec::new();
    let closed = until("every client's connections to be closed", Duration::from_secs(20), || {
        let hosts = answers::hosts(&tracker.gateway.ask(&["hosts"]).ok()?);
        open = hosts.into_iter().filter(|host| host.open_connections != 0).collect();
        open.is_empty().then_some(())
    });
    closed.with_context(|| format!("still open: {open:?}"))?;
    silence(SETTLES);
    let metrics = values(&tracker.metrics(rig).context("metrics are on")?.read()?);
    for name in ["tracker_proxy_connections_open", "tracker_proxy_tunnels_open"] {
        ensure!(metrics.get(name) == Some(&0.0), "{name} is {:?}", metrics.get(name));
    }
    let pid = tracker.gateway.pid();
    Ok(Quiet { resident: resident(pid)?, descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count() })
}

/// Sums of metrics over their labels.
fn values(metrics: &str) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let Some((key, value)) = line.rsplit_once(' ') else { continue };
        let name = key.split('{').next().unwrap_or_default().to_owned();
        *sums.entry(name).or_insert(0.0) += value.parse().unwrap_or(0.0);
    }
    sums
}

/// What went wrong: warnings that the load did not cause, metrics that should be 0.
fn faults(rig: &Rig, tracker: &Tracker) -> Result<Vec<String>> {
    let text = tracker.metrics(rig).context("metrics are on")?.read()?;
    let metrics = values(&text);
    let mut faults: Vec<String> = ZERO
        .iter()
        .filter_map(|name| {
            metrics.get(*name).filter(|value| **value != 0.0).map(|v| format!("{name} is {v}"))
        })
        .collect();
    let failed =
        text.lines().find_map(|line| line.strip_prefix(FAILED)?.trim().parse::<f64>().ok()).unwrap_or(0.0);
    if failed != 0.0 {
        faults.push(format!("{failed} requests were answered with 5xx"));
    }
    // The log has gigabytes of access lines.
    let log = tracker.gateway.log_file().display().to_string();
    let said = sh::ask("grep", &["-aE", " (WARN|ERROR) ", &log]).unwrap_or_default();
    let mut complaints: BTreeMap<&str, u64> = BTreeMap::new();
    for line in said.lines().filter(|line| !EXPECTED.iter().any(|expected| line.contains(expected))) {
        let said = line.split_once("Z ").map_or(line, |(_, said)| said).trim();
        *complaints.entry(said).or_default() += 1;
    }
    faults.extend(complaints.into_iter().map(|(said, count)| format!("{count} times: {said}")));
    Ok(faults)
}

fn report(done: &Done, quiet: &[Quiet], took: Duration, faults: &[String]) -> String {
    let mut table = Table::new(&["quiet moment".into(), "RSS MiB".into(), "descriptors".into()]);
    let last = quiet.len();
    // The first, the last, and some between.
    let step = last.div_ceil(8).max(1);
    for (at, one) in quiet.iter().enumerate().filter(|(at, _)| at % step == 0 || at + 1 == last) {
        let resident = one.resident as f64 / 1_048_576.0;
        table.row(&[format!("{}", at + 1), format!("{resident:.1}"), one.descriptors.to_string()]);
    }
    let faults = if faults.is_empty() {
        "Nothing was left, and nothing went wrong.\n".to_owned()
    } else {
        faults.iter().map(|fault| format!("- FAULT: {fault}\n")).collect()
    };
    format!(
        "{:.0} s: {:.0} requests, {:.1} GB through tunnels, {} logins, {} logouts, {} kick-outs of users with an open \
         tunnel, {} reloads. Every {} cycles of {CYCLE} s and at the end, every client's `open` was 0 again.\n\n{}\n{faults}",
        took.as_secs_f64(),
        done.requests,
        done.gigabytes,
        done.logins,
        done.logouts,
        done.kicks,
        done.reloads,
        CYCLES,
        table.text()
    )
}
