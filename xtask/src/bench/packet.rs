//! What the kernel side costs: by the kernel's own statistics of its programs, and as what is lost with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use super::aims::Aim;
use super::rig::gateways::Variant;
use super::rig::load::Work;
use super::rig::place::Cgroup;
use super::rig::report::{Table, Unit, remarks, table};
use super::rig::series::{Rounds, Sample, Series};
use super::rig::{ORIGIN, Rig, Subject};
use super::tunnel::{self, Job};
use super::{Outcome, connect, find};
use crate::sh;

/// How long.
#[derive(Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) rounds: Rounds,
}

/// Where the kernel is told to keep statistics of BPF programs.
const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";
const CONNECTIONS: usize = 64;
const WITHOUT: &str = "trackerd, no kernel observer";

/// What goes through the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Requests,
    Connects,
    Download,
    Upload,
}

impl Load {
    const ALL: [Self; 4] = [Self::Requests, Self::Connects, Self::Download, Self::Upload];

    const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests on 64 connections",
            Self::Connects => "CONNECT, GET, end",
            Self::Download => "8 downloads",
            Self::Upload => "8 uploads",
        }
    }

    const fn unit(self) -> Unit {
        match self {
            Self::Requests => Unit::each("request", "requests/s"),
            Self::Connects => Unit::each("tunnel", "tunnels/s"),
            Self::Download | Self::Upload => Unit::GIGABYTE,
        }
    }

    /// Runs `measured` around the load's work, when everything is prepared.
    fn run<T>(
        self,
        rig: &Rig,
        subject: &Subject,
        seconds: f64,
        measured: impl FnOnce(&mut dyn FnMut() -> Result<Work>) -> Result<T>,
    ) -> Result<T> {
        let stream = |upload| tunnel::load(rig, subject, Job { tunnels: 8, upload }, seconds);
        let tool = match self {
            Self::Requests => None,
            Self::Connects => Some(connect::load(rig, subject, 32, seconds, 0)?),
            Self::Download => Some(stream(false)?),
            Self::Upload => Some(stream(true)?),
        };
        let mut tool = tool;
        let mut work = || match tool.take() {
            None => rig.wrk(subject, CONNECTIONS, seconds),
            Some(tool) if self == Self::Connects => tool.dialogues(),
            Some(tool) => tool.bytes(),
        };
        measured(&mut work)
    }
}

/// Measures.
pub(crate) fn run(options: &Options, bin: &Path) -> Result<Outcome> {
    let rig = Rig::new(bin)?;
    let with = rig.everything_on(0)?;
    let note = "observer.mode = \"proxy\"";
    let variant = Variant { settings: &["[observer]\nmode = \"proxy\"\n"], note, ..Variant::default() };
    let without = rig.tracker(WITHOUT, 1, &variant)?;
    without.tracker()?.login(&rig, 0, "alice")?;

    let Rounds { rounds, seconds } = options.rounds;
    let mut jobs: Vec<(&Subject, Load, Series)> = Load::ALL
        .iter()
        .flat_map(|load| [&with, &without].map(|subject| (subject, *load, Series::of(subject, load.name()))))
        .collect();
    rig.rounds(rounds, &mut jobs, |subject, load| {
        load.run(&rig, subject, seconds, |work| rig.measure(subject, work))
    })?;
    let mut text = format!(
        "With and without the kernel observer, interleaved, {rounds} rounds of {seconds} s; no statistics are kept meanwhile.\n"
    );
    let (mut aims, mut every) = (Vec::new(), Vec::new());
    for load in Load::ALL {
        let all: Vec<&Series> =
            jobs.iter().filter(|(_, asked, _)| *asked == load).map(|(_, _, series)| series).collect();
        text += &format!("\n{}:\n\n{}", load.name(), table(load.unit(), &all, &[WITHOUT]));
        let lost = 1.0 - find(&all, "trackerd")?.ratio(find(&all, WITHOUT)?, Sample::rate);
        aims.push(Aim::at_most(format!("packet: rate lost by observing, {}", load.name()), lost, 0.02, None));
        every.extend(all);
    }
    text += &remarks(&every);

    let (priced, reached) = prices(&rig, &with, seconds)?;
    aims.extend(reached);
    Ok(Outcome { text: text + &priced, aims })
}

/// What the programs cost by the kernel's own count.
fn prices(rig: &Rig, with: &Subject, seconds: f64) -> Result<(String, Vec<Aim>)> {
    let group = with.group.as_ref().context("a gateway has a cgroup")?;
    let _counting = Statistics::on()?;
    // Packets of sockets in the gateway's cgroup that are no client's: what a run costs that has nothing to do.
    let before = programs(group)?;
    let direct = rig.direct();
    let words =
        ["get".to_owned(), format!("--proxy={ORIGIN}"), format!("--origin={ORIGIN}"), "--direct".to_owned()];
    let words = [&words[..], &[format!("--seconds={seconds}")]].concat();
    rig.tool_in(&direct, Some(group), &words)?.dialogues()?;
    let idle = of_packets(&since(&programs(group)?, &before));
    let idle = idle.ns / idle.runs;

    let headings = ["", "program", "runs", "ns per run", "ns per unit"];
    let mut table = Table::new(&headings.map(str::to_owned));
    let mut aims = Vec::new();
    let mut sums = Table::new(
        &["", "client packets", "ns each", "of that, more than for an unobserved packet"].map(str::to_owned),
    );
    for load in Load::ALL {
        let (before, packets) = (programs(group)?, packets(rig)?);
        let work = load.run(rig, with, seconds, |work| work())?;
        let (found, packets) = (since(&programs(group)?, &before), self::packets(rig)? - packets);
        for (name, ran) in &found {
            let (each, per_unit) = (ran.ns / ran.runs, ran.ns / work.units);
            let cells = [format!("{:.0}", ran.runs), format!("{each:.1}"), format!("{per_unit:.0}")];
            table.row(&[&[load.name().to_owned(), name.clone()], &cells[..]].concat());
        }
        let all = of_packets(&found);
        let observed = (all.ns - idle * (all.runs - packets).max(0.0)) / packets;
        let more = format!("{:.0}", observed - idle);
        sums.row(&[load.name().to_owned(), format!("{packets:.0}"), format!("{observed:.0}"), more]);
        aims.push(Aim::at_most(
            format!("packet: ns per observed packet, {}", load.name()),
            observed,
            100.0,
            None,
        ));
    }
    let text = format!(
        "\nBy the kernel's statistics (`kernel.bpf_stats_enabled`), which add the reading of a clock to each run. For a \
         packet that is no client's a run takes {idle:.0} ns:\n\n{}\nClient packets are those on the client's cable; \
         one may be as large as 64 KiB here:\n\n{}",
        table.text(),
        sums.text()
    );
    Ok((text, aims))
}

/// How often programs ran, and for how long.
#[derive(Clone, Copy, Debug, Default)]
struct Ran {
    runs: f64,
    ns: f64,
}

fn since(after: &BTreeMap<String, Ran>, before: &BTreeMap<String, Ran>) -> BTreeMap<String, Ran> {
    let ran = |(name, ran): (&String, &Ran)| {
        let earlier = before.get(name).copied().unwrap_or_default();
        (name.clone(), Ran { runs: ran.runs - earlier.runs, ns: ran.ns - earlier.ns })
    };
    after.iter().map(ran).collect()
}

/// Those that run for every packet; the other one runs when a connection changes its state.
fn of_packets(programs: &BTreeMap<String, Ran>) -> Ran {
    let of_packets = programs.iter().filter(|(name, _)| *name != "watch");
    of_packets.fold(Ran::default(), |sum, (_, ran)| Ran { runs: sum.runs + ran.runs, ns: sum.ns + ran.ns })
}

/// As long as it lives, the kernel keeps statistics.
struct Statistics(String);

impl Statistics {
    fn on() -> Result<Self> {
        let before = fs::read_to_string(STATISTICS)?;
        fs::write(STATISTICS, "1")?;
        Ok(Self(before))
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        let _ = fs::write(STATISTICS, &self.0);
    }
}

/// Runs and nanoseconds of the programs attached to a cgroup.
fn programs(group: &Cgroup) -> Result<BTreeMap<String, Ran>> {
    let path = group.path.display().to_string();
    let asked = |arguments: &[&str]| -> Result<Value> {
        let said = sh::ask("bpftool", arguments).context("bpftool does not answer")?;
        Ok(serde_json::from_str(&said)?)
    };
    let mut found = BTreeMap::new();
    for attached in asked(&["-j", "cgroup", "show", &path])?.as_array().into_iter().flatten() {
        let id = attached.get("id").and_then(Value::as_u64).context("a program without a number")?;
        let program = asked(&["-j", "prog", "show", "id", &id.to_string()])?;
        let number = |name: &str| program.get(name).and_then(Value::as_f64).unwrap_or(0.0);
        let name = program.get("name").and_then(Value::as_str).context("a program without a name")?;
        found.insert(name.to_owned(), Ran { runs: number("run_cnt"), ns: number("run_time_ns") });
    }
    ensure!(!found.is_empty(), "no programs are attached: does the kernel observer run?");
    Ok(found)
}

/// Packets that went over the cable of the first client, both ways.
fn packets(rig: &Rig) -> Result<f64> {
    let said = rig.client()?.ns.run(&["ip", "-j", "-s", "link", "show", "eth0"])?;
    let said: Value = serde_json::from_str(&said)?;
    let of = |way: &str| said.pointer(&format!("/0/stats64/{way}/packets")).and_then(Value::as_f64);
    let (Some(rx), Some(tx)) = (of("rx"), of("tx")) else { bail!("ip shows no packets") };
    Ok(rx + tx)
}
