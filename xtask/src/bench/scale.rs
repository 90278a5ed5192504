//! One million client records and 200,000 sessions: what they cost, how long a new daemon needs to take them over, and
//! how late deadlines are while logins go on.
//!
//! The clients are addresses of one IPv6 /64 behind one network namespace; records come from real connections, sessions
//! from real Kerberos logins (`tracker-user/examples/load.rs`).

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use lab::Lab;
use lab::gateway::PROXY_PORT;
use lab::net::GATEWAY_V6;
use lab::wait::{Stopwatch, silence};
use serde_json::Value;

use super::Outcome;
use super::aims::Aim;
use super::figures::Buckets;
use super::rig::load_tool;
use super::rig::usage::resident;

/// How many.
#[derive(Args)]
pub(crate) struct Options {
    /// Client records.
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// Sessions among them.
    #[arg(long, default_value_t = 200_000)]
    sessions: u64,
    /// Logins per second while deadlines fire.
    #[arg(long, default_value_t = 2_000)]
    rate: u64,
}

/// Longer than the whole measurement.
const AT_FIRST: &str = "6h";

/// Measures, and tells as it goes: it takes minutes.
pub(crate) fn run(options: &Options, bin: &Path) -> Result<Outcome> {
    let load = load_tool(bin)?;
    let mut text = String::from("\n");
    let mut tell = |line: String| {
        println!("{line}");
        text += &format!("- {line}\n");
    };
    let mut lab = Lab::prepare(1, bin)?;
    let room = options.records + options.records / 4 + 1_000;
    lab.gateway.configure(&format!(
        "[observer]\nmax-records = {room}\n[timeouts]\nproxy-auth-timeout = \"{AT_FIRST}\"\n"
    ))?;
    lab.gateway.start()?;
    let [a, b, c, d] = lab.net.many_addresses(0)?;
    let crowd = Crowd { load, tickets: lab.tickets("alice")?, first: Ipv6Addr::new(a, b, c, d, 1, 0, 0, 0) };
    let empty = Memory::of(&lab)?;
    tell(format!("empty: {empty}"));

    let touched = crowd.run(&lab, "touch", options.sessions, options.records - options.sessions, 0)?;
    tell(format!("records: {touched}"));
    let watch = Stopwatch::start();
    let logged_in = crowd.run(&lab, "login", 0, options.sessions, 0)?;
    let logins_took = watch.elapsed();
    tell(format!("logins: {logged_in}"));
    ensure!(count(&lab)? == options.sessions, "not every login left a session");
    let full = Memory::of(&lab)?;
    tell(format!("full: {full}"));
    let user = (full.daemon.saturating_sub(empty.daemon)) / options.sessions.max(1);
    let kernel = full.kernel / room;
    tell(format!(
        "per session: {user} bytes in the daemon; per record: {kernel} bytes in the kernel (room for {room})"
    ));

    lab.gateway.kill();
    let watch = Stopwatch::start();
    lab.gateway.start()?;
    tell(format!("a new daemon after kill -9: ready in {:.2} s", watch.elapsed().as_secs_f64()));
    ensure!(count(&lab)? == options.sessions, "the new daemon does not have every session");
    tell(format!("memory of the new daemon: {}", Memory::of(&lab)?));

    let late = deadlines(&lab, &crowd, options, logins_took, &mut tell)?;
    let resync = Buckets::read(&lab, "tracker_resync_seconds")?;
    tell(format!("resync: {}", resync.within("s", 1.0)));
    let aims = vec![
        Aim::at_most("scale: bytes per session, kernel and user", (user + kernel) as f64, 512.0, None),
        Aim::at_most("scale: lateness of deadlines at p99 in ms", late * 1e3, 10.0, None),
    ];
    Ok(Outcome { text, aims })
}

/// Lets the deadlines of all sessions come up over as long as the logins took, while others log in. Returns how late
/// they were at p99, in seconds.
fn deadlines(
    lab: &Lab,
    crowd: &Crowd,
    options: &Options,
    spread: Duration,
    tell: &mut impl FnMut(String),
) -> Result<f64> {
    let before = Buckets::read(lab, "tracker_deadline_late_seconds")?;
    // The first session closed this long ago; its deadline is to be a little ahead.
    let oldest = lab.gateway.ask(&["sessions"])?;
    let oldest =
        oldest.as_array().and_then(|all| all.last()).and_then(|s| s.get("closed")).and_then(Value::as_str);
    let oldest: jiff::Timestamp = oldest.context("the oldest session has closed")?.parse()?;
    let age = jiff::Timestamp::now().duration_since(oldest).as_secs();
    lab.gateway.ask(&["set", "proxy-auth-timeout", &format!("{}s", age + 10)])?;
    silence(Duration::from_secs(8));
    let count = (spread.as_secs() + 10) * options.rate;
    let logins = crowd.run(lab, "login", options.records, count, options.rate)?;
    tell(format!("logins while deadlines fired: {logins}"));
    let late = Buckets::read(lab, "tracker_deadline_late_seconds")?.since(&before);
    tell(format!("lateness of deadlines: {}", late.within("ms", 1e3)));
    Ok(late.at(0.99))
}

struct Crowd {
    load: PathBuf,
    tickets: PathBuf,
    first: Ipv6Addr,
}

impl Crowd {
    fn run(&self, lab: &Lab, deed: &str, skip: u64, count: u64, rate: u64) -> Result<String> {
        let host = lab.net.clients.first().context("the lab has a client")?;
        let from = Ipv6Addr::from(u128::from(self.first) + u128::from(skip));
        let mut command: Command = host.ns.command(&self.load);
        command
            .arg(deed)
            .args(["--proxy", &format!("[{GATEWAY_V6}]:{PROXY_PORT}")])
            .args(["--from", &from.to_string(), "--count", &count.to_string(), "--rate", &rate.to_string()])
            .env("KRB5_CONFIG", lab.realm.krb5_conf())
            .env("KRB5CCNAME", &self.tickets);
        let output = command.output()?;
        ensure!(
            output.status.success(),
            "{}\n{}",
            String::from_utf8_lossy(&output.stderr),
            lab.gateway.log()
        );
        Ok(String::from_utf8(output.stdout)?.trim().to_owned())
    }
}

struct Memory {
    daemon: u64,
    kernel: u64,
}

impl Memory {
    /// Resident memory of the daemon, and what the kernel says its maps take.
    fn of(lab: &Lab) -> Result<Self> {
        // What was freed a moment ago may still be counted.
        thread::sleep(Duration::from_millis(200));
        let pid = lab.gateway.pid();
        let daemon = resident(pid)?;
        // A map that is open more than once is one map.
        let mut maps = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))?.flatten() {
            let Ok(info) = fs::read_to_string(entry.path()) else { continue };
            if info.contains("map_type:") {
                let field =
                    |name: &str| info.lines().find_map(|line| line.strip_prefix(name)).and_then(number);
                maps.insert(field("map_id:"), field("memlock:").unwrap_or(0));
            }
        }
        Ok(Self { daemon, kernel: maps.values().sum() })
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
        write!(f, "daemon {:.1} MiB resident, kernel maps {:.1} MiB", mib(self.daemon), mib(self.kernel))
    }
}

fn number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

fn count(lab: &Lab) -> Result<u64> {
    let status = lab.gateway.ask(&["status"])?;
    status.pointer("/sessions/active").and_then(Value::as_u64).context("no count of sessions")
}
