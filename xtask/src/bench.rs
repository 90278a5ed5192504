//! `cargo xtask bench SCENARIO`: what is claimed of speed, measured. Figures go to docs/BENCHMARKS.md with their method.

mod aims;
mod closure;
pub(crate) mod connect;
mod figures;
mod forward;
mod idle;
pub(crate) mod negotiate;
mod packet;
mod portal;
pub(crate) mod rig;
mod scale;
mod soak;
mod tls;
pub(crate) mod tunnel;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::{Args, FromArgMatches as _, Subcommand};

use crate::{build, sh};
use aims::Aim;
use rig::report;
use rig::series::Series;

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// Plain requests: haproxy, squid; ours with everything on and without each thing.
    Forward(forward::Options),
    /// CONNECT, one request, the end: tinyproxy, squid.
    Connect(connect::Options),
    /// Bytes through one and eight tunnels, both ways: squid, haproxy.
    Tunnel(tunnel::Options),
    /// Logins by Kerberos: squid, apache, the bare library.
    Negotiate(negotiate::Options),
    /// Under TLS: handshakes, tunnels, requests, memory; haproxy, squid. And what a remembered password costs.
    Tls(tls::Options),
    /// From a client's FIN or RST to its session's clock running.
    Closure(closure::Options),
    /// A million records and 200,000 sessions: memory, taking over, deadlines. Takes some minutes and 2 GiB.
    Scale(scale::Options),
    /// What the kernel side costs: by the kernel's own count, and as a loss of speed.
    Packet(packet::Options),
    /// The pages, with 5,000 sessions: a page, live viewers, logouts, memory; and requests meanwhile.
    Portal(portal::Options),
    /// Memory of connections that do nothing: haproxy, squid, tinyproxy.
    Idle(idle::Options),
    /// Ten minutes of everything at once; afterwards nothing may be left.
    Soak(soak::Options),
    /// Every scenario with its defaults, and a summary.
    All(All),
}

/// Which of the long ones.
#[derive(Args)]
struct All {
    #[command(flatten)]
    rounds: rig::series::Rounds,
    /// Also the million records.
    #[arg(long)]
    scale: bool,
    /// Also the ten minutes of everything.
    #[arg(long)]
    soak: bool,
}

/// What a scenario found.
pub(crate) struct Outcome {
    /// As Markdown.
    text: String,
    aims: Vec<Aim>,
}

/// Builds the optimised programs and measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(sh::is_root(), "this needs root: it makes network namespaces");
    let bin = build::run(&build::Options::default())?;
    match &options.scenario {
        Scenario::All(options) => all(options, &bin),
        scenario => one(scenario, &bin).map(drop),
    }
}

/// One scenario; its text is printed and written.
fn one(scenario: &Scenario, bin: &Path) -> Result<Vec<Aim>> {
    let (name, outcome) = match scenario {
        Scenario::Forward(options) => ("forward", forward::run(options, bin)?),
        Scenario::Connect(options) => ("connect", connect::run(options, bin)?),
        Scenario::Tunnel(options) => ("tunnel", tunnel::run(options, bin)?),
        Scenario::Negotiate(options) => ("negotiate", negotiate::run(options, bin)?),
        Scenario::Tls(options) => ("tls", tls::run(options, bin)?),
        Scenario::Closure(options) => ("closure", closure::run(options, bin)?),
        Scenario::Scale(options) => ("scale", scale::run(options, bin)?),
        Scenario::Packet(options) => ("packet", packet::run(options, bin)?),
        Scenario::Portal(options) => ("portal", portal::run(options, bin)?),
        Scenario::Idle(options) => ("idle", idle::run(options, bin)?),
        Scenario::Soak(options) => ("soak", soak::run(options, bin)?),
        Scenario::All(_) => return Ok(Vec::new()),
    };
    let Outcome { text, aims } = outcome;
    let text = format!("`cargo xtask bench {name}`, {}\n{text}{}", report::machine(), aims::table(&aims));
    report::publish(name, &text)?;
    Ok(aims)
}

/// All of them; one that fails does not keep the others from being measured.
fn all(options: &All, bin: &Path) -> Result<()> {
    let given =
        [format!("--rounds={}", options.rounds.rounds), format!("--seconds={}", options.rounds.seconds)];
    let mut scenarios = Vec::new();
    for name in ["forward", "connect", "tunnel", "tls", "negotiate", "packet", "portal"] {
        scenarios.push(scenario(name, &given)?);
    }
    let others = [("closure", true), ("idle", true), ("scale", options.scale), ("soak", options.soak)];
    for (name, _) in others.iter().filter(|(_, wanted)| *wanted) {
        scenarios.push(scenario(name, &[])?);
    }
    let (mut aims, mut failed) = (Vec::new(), Vec::new());
    for scenario in &scenarios {
        match one(scenario, bin) {
            Ok(reached) => aims.extend(reached),
            Err(error) => failed.push(format!("- {error:#}\n")),
        }
    }
    let text = format!("`cargo xtask bench all`, {}{}", report::machine(), aims::table(&aims));
    let failures =
        if failed.is_empty() { String::new() } else { format!("\nFailed:\n\n{}", failed.concat()) };
    report::publish("summary", &format!("{text}{failures}"))?;
    ensure!(failed.is_empty(), "{} of {} scenarios failed", failed.len(), scenarios.len());
    Ok(())
}

/// A scenario as if it had been typed.
fn scenario(name: &str, arguments: &[String]) -> Result<Scenario> {
    let words = ["bench", name].into_iter().chain(arguments.iter().map(String::as_str));
    let typed = Scenario::augment_subcommands(clap::Command::new("bench")).try_get_matches_from(words)?;
    Ok(Scenario::from_arg_matches(&typed)?)
}

/// The series of this name.
fn find<'a>(all: &[&'a Series], name: &str) -> Result<&'a Series> {
    all.iter().copied().find(|series| series.name == name).with_context(|| format!("no series {name}"))
}
