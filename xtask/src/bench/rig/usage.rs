//! What the two cores did meanwhile, and how many instructions the proxy took.
//!
//! Time that the kernel spends in its own threads (softirq under load, workers) is in no process of the proxy; so a core's
//! whole busy time is looked at too, and what neither the proxy nor kernel threads explain was some other program.

use std::fs;
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

/// Everything at one moment, or over a span.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// The proxy's user time in seconds.
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

impl Usage {
    /// Now.
    pub(crate) fn read(group: Option<&Cgroup>) -> Result<Self> {
        let (user, system) = group.map(Cgroup::cpu).transpose()?.unwrap_or_default();
        Ok(Self {
            user,
            system,
            proxy_core: Core::read(PROXY_CORE)?,
            load_core: Core::read(LOAD_CORE)?,
            kernel: kernel_threads(PROXY_CORE),
        })
    }

    /// What was used since.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            user: self.user - before.user,
            system: self.system - before.system,
            proxy_core: self.proxy_core.since(before.proxy_core),
            load_core: self.load_core.since(before.load_core),
            kernel: self.kernel - before.kernel,
        }
    }

    /// Seconds that others than the proxy and the kernel's threads took of the proxy's core.
    pub(crate) fn others(&self) -> f64 {
        (self.proxy_core.busy - self.user - self.system - self.kernel).max(0.0)
    }
}

/// Seconds that kernel threads have used which are on this core now.
fn kernel_threads(core: usize) -> f64 {
    let mut ticks = 0.0;
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((_, fields)) = stat.rsplit_once(')') else { continue };
        let fields: Vec<f64> = fields.split_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
        let field = |at: usize| fields.get(at).copied().unwrap_or(-1.0);
        // Children of kthreadd; user and system time are fields 14 and 15, the core is 39, and these count from field 4.
        if field(0) == 2.0 && field(35) == core as f64 {
            ticks += field(10) + field(11);
        }
    }
    ticks / TICKS
}

/// Instructions that a cgroup takes, user and kernel, while this lives. They hardly depend on how busy the machine is.
pub(crate) struct Instructions {
    perf: Process,
    output: std::path::PathBuf,
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
