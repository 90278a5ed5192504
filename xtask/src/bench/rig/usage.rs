//! What the two cores did meanwhile, and how many instructions the proxy took.
//!
//! Time that the kernel spends in its own threads (softirq under load, workers) is in no process of the proxy; so a core's
//! whole busy time is looked at too, and what neither the proxy nor kernel threads explain was some other program.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use lab::scratch::{Process, Scratch};
use lab::wait::silence;
use nix::sys::signal::Signal;

use super::place::{Cgroup, LOAD_CORE, PROXY_CORE};

/// Ticks per second of the times in /proc.
const TICKS: f64 = 100.0;
/// perf needs so long to open its events.
const PERF_OPENS: Duration = Duration::from_millis(250);

/// Seconds of one core, since boot.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Core {
    /// Doing something, whoever it was.
    pub(crate) busy: f64,
    /// Doing nothing.
    pub(crate) idle: f64,
    /// Taken away by the host.
    pub(crate) steal: f64,
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident(pid: i32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    Ok(kib.context("no VmRSS")?.parse::<u64>()? * 1024)
}

impl Core {
    fn read(core: usize) -> Result<Self> {
        Self::parse(&fs::read_to_string("/proc/stat")?, core)
    }

    fn parse(stat: &str, core: usize) -> Result<Self> {
        let prefix = format!("cpu{core} ");
        let line = stat.lines().find_map(|line| line.strip_prefix(&prefix)).context("no such core")?;
        let fields: Vec<f64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
        let field = |at: usize| fields.get(at).copied().unwrap_or(0.0) / TICKS;
        // user nice system idle iowait irq softirq steal
        Ok(Self {
            busy: field(0) + field(1) + field(2) + field(5) + field(6),
            idle: field(3) + field(4),
            steal: field(7),
        })
    }

    fn since(self, before: Self) -> Self {
        Self {
            busy: self.busy - before.busy,
            idle: self.idle - before.idle,
            steal: self.steal - before.steal,
        }
    }
}

/// Everything at one moment.
#[derive(Debug)]
pub(crate) struct Moment {
    cpu: (f64, f64),
    cores: [Core; 2],
    threads: BTreeMap<u32, Thread>,
}

/// Everything over a span, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// The proxy's user time.
    pub(crate) user: f64,
    /// Its system time.
    pub(crate) system: f64,
    /// The proxy's core.
    pub(crate) proxy_core: Core,
    /// The load's core.
    pub(crate) load_core: Core,
    /// Kernel threads on the proxy's core.
    pub(crate) kernel: f64,
}

impl Moment {
    /// Now.
    pub(crate) fn now(group: Option<&Cgroup>) -> Result<Self> {
        let cpu = group.map(Cgroup::cpu).transpose()?.unwrap_or_default();
        Ok(Self { cpu, cores: [Core::read(PROXY_CORE)?, Core::read(LOAD_CORE)?], threads: kernel_threads() })
    }

    /// What was used since.
    pub(crate) fn since(&self, before: &Self) -> Usage {
        let threads = self.threads.iter().filter(|(_, thread)| thread.core == PROXY_CORE);
        let used = threads
            .map(|(id, thread)| thread.seconds - before.threads.get(id).map_or(0.0, |before| before.seconds));
        let [proxy, load] = self.cores;
        let [proxy_before, load_before] = before.cores;
        Usage {
            user: self.cpu.0 - before.cpu.0,
            system: self.cpu.1 - before.cpu.1,
            proxy_core: proxy.since(proxy_before),
            load_core: load.since(load_before),
            kernel: used.sum(),
        }
    }
}

impl Usage {
    /// Seconds that others than the proxy and the kernel's threads took of the proxy's core.
    pub(crate) fn others(&self) -> f64 {
        (self.proxy_core.busy - self.user - self.system - self.kernel).max(0.0)
    }
}

/// A thread of the kernel.
#[derive(Clone, Copy, Debug)]
struct Thread {
    /// Where it is now.
    core: usize,
    seconds: f64,
}

fn kernel_threads() -> BTreeMap<u32, Thread> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // What follows the name, which may hold anything, counts from field 3.
        let Some((_, fields)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<usize>().ok());
        let (Some(parent), Some(user), Some(system), Some(core)) =
            (field(4), field(14), field(15), field(39))
        else {
            continue;
        };
        // All of them are children of kthreadd.
        if parent == 2 {
            found.insert(id, Thread { core, seconds: (user + system) as f64 / TICKS });
        }
    }
    found
}

/// Instructions that a cgroup takes, user and kernel, while this lives. They hardly depend on how busy the machine is.
pub(crate) struct Instructions {
    perf: Process,
    output: PathBuf,
}

impl Instructions {
    /// Starts counting; `None` where perf or the counters are not to be had.
    pub(crate) fn count(scratch: &Scratch, group: &Cgroup) -> Option<Self> {
        let output = scratch.unused("perf");
        let mut command = Command::new("perf");
        command.args(["stat", "-a", "-x", ",", "-e", "instructions:u,instructions:k", "-G"]);
        command.arg(format!("{0},{0}", group.name)).arg("-o").arg(&output);
        let perf = scratch.spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
        silence(PERF_OPENS);
        Some(Self { perf: perf.ok()?, output })
    }

    /// User and kernel instructions so far.
    pub(crate) fn stop(mut self) -> Option<(f64, f64)> {
        self.perf.signal(Signal::SIGINT).ok()?;
        lab::wait::until("perf to end", Duration::from_secs(5), || self.perf.ended()).ok()?;
        let text = fs::read_to_string(&self.output).ok()?;
        let _ = fs::remove_file(&self.output);
        let of = |event: &str| {
            let line = text.lines().find(|line| line.split(',').nth(2) == Some(event))?;
            line.split(',').next()?.parse::<f64>().ok()
        };
        Some((of("instructions:u")?, of("instructions:k")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_busy_idle_or_taken_away() {
        let stat = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 100 200 300 4000 5000 600 700 800 0 0\n";
        let core = Core::parse(stat, 0).expect("the core is there");
        assert_eq!((core.busy, core.idle, core.steal), (19.0, 90.0, 8.0));
        assert!(Core::parse(stat, 1).is_err());
    }
}
