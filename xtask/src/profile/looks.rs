//! Samples and system calls, by perf.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::wait::{silence, until};
use nix::sys::signal::Signal;

use super::Stage;
use crate::sh;

/// So many symbols are shown.
pub(super) const TOP: usize = 40;
/// perf needs so long to begin.
const BEGINS: Duration = Duration::from_millis(500);
/// ... and so long to write down what it has.
const ENDS: Duration = Duration::from_secs(60);
/// Samples a second; not in step with anything.
const FREQUENCY: &str = "4999";

/// Runs perf on the gateway's process around the load; returns the load's units.
fn under_perf(stage: &mut Stage, seconds: f64, arguments: &[&str], output: &Path) -> Result<f64> {
    let pid = stage.subject.tracker()?.gateway.pid().to_string();
    let scratch = stage.rig.lab.scratch.clone();
    let work = stage.load(seconds, |work| {
        let log = File::create(output)?;
        let mut command = Command::new("perf");
        command.args(arguments).args(["-p", &pid]);
        let mut perf = scratch.spawn(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log))?;
        silence(BEGINS);
        ensure!(perf.ended().is_none(), "perf: {}", fs::read_to_string(output)?);
        let work = work();
        perf.signal(Signal::SIGINT)?;
        until("perf to end", ENDS, || perf.ended())?;
        work
    })?;
    Ok(work.units)
}

/// Where the time goes, user and kernel: the symbols, then who calls them.
pub(super) fn samples(stage: &mut Stage, seconds: f64, dir: &Path) -> Result<String> {
    let data = dir.join("perf.data");
    let path = data.display().to_string();
    // Where the processor's own counters are not to be had, a timer takes the samples.
    let counters = sh::ask("perf", &["stat", "-x", ",", "-e", "cycles", "-o", "/dev/stdout", "true"]);
    let event = if counters.is_some_and(|said| !said.contains("<not")) { "cycles" } else { "cpu-clock" };
    let arguments = ["record", "-q", "-g", "-F", FREQUENCY, "-e", event, "-o", &path];
    let units = under_perf(stage, seconds, &arguments, &dir.join("perf.log"))?;
    let report = |more: &[&str]| {
        let common = ["report", "-i", &path, "--stdio", "--percent-limit", "0.3"];
        sh::ask("perf", &[&common[..], more].concat()).context("perf report")
    };
    let symbols = report(&["--no-children", "-g", "none", "--sort", "dso,symbol"])?;
    let top: String = lines(&symbols).take(TOP).map(|line| format!("{line}\n")).collect();
    let kinds = report(&["--no-children", "-g", "none", "--sort", "dso"])?;
    let kinds: String = lines(&kinds).take(8).map(|line| format!("{line}\n")).collect();
    let callers = report(&["--children", "-g", "caller,0.5,callee,function,percent", "--sort", "symbol"])?;
    let _ = fs::remove_file(&data);
    Ok(format!(
        "Samples ({event}, user and kernel), {units:.0} units in {seconds} s.\n\nBy binary:\n{kinds}\nBy symbol:\n{top}\n\
         With what they call (inclusive):\n{callers}"
    ))
}

/// perf's lines without its remarks, and without the columns that it leaves empty.
fn lines(report: &str) -> impl Iterator<Item = &str> {
    let lines = report.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.map(|line| line.trim_end_matches([' ', '-']))
}

/// System calls per unit of work.
pub(super) fn system_calls(stage: &mut Stage, seconds: f64) -> Result<String> {
    let unit = stage.scenario.unit();
    let output = stage.rig.lab.scratch.unused("trace");
    let units = under_perf(stage, seconds, &["trace", "-s"], &output)?;
    let found = summed(&fs::read_to_string(&output)?);
    let all: u64 = found.values().map(|call| call.count).sum();
    ensure!(all > 0, "perf trace saw no system call");
    let mut text = format!(
        "System calls, {units:.2} units ({unit}) in {seconds} s while each is traced: {:.2} per {unit}\n",
        all as f64 / units
    );
    let mut sorted: Vec<_> = found.into_iter().collect();
    sorted.sort_by_key(|(_, call)| std::cmp::Reverse(call.count));
    for (name, call) in sorted.iter().take(16) {
        let (each, errors) = (call.count as f64 / units, call.errors as f64 / units);
        let _ = writeln!(text, "{name:>18} {each:>10.3} per {unit}, {errors:.3} with an error");
    }
    Ok(text)
}

/// How often a system call was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Call {
    count: u64,
    errors: u64,
}

/// Adds up the threads' tables of `perf trace -s`: name, calls, errors, times.
fn summed(said: &str) -> BTreeMap<String, Call> {
    let mut sums: BTreeMap<String, Call> = BTreeMap::new();
    for line in said.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [name, count, errors, .., share] = fields.as_slice() else { continue };
        let (Ok(count), Ok(errors)) = (count.parse::<u64>(), errors.parse::<u64>()) else { continue };
        if share.ends_with('%') {
            let sum = sums.entry((*name).to_owned()).or_default();
            sum.count += count;
            sum.errors += errors;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_added_up() {
        let said = " tokio-rt (1), 12 events, 50.0%\n\n   syscall   calls  errors  total  min  avg  max  stddev\n\
                    ----------- ------ ---- --- --- --- ---\n   read   10   2   0.003   0.003   0.003   0.003   0.00%\n\
                    \n other (2), 3 events\n   read   5   0   0.003   0.003   0.003   0.003   1.00%\n";
        let sums = summed(said);
        assert_eq!(sums.get("read"), Some(&Call { count: 15, errors: 2 }));
        assert_eq!(sums.len(), 1);
    }
}
