//! Where a program runs while it is measured: on which core, and in which cgroup.
//!
//! Every proxy has a cgroup of its own. It accounts for the whole tree of its processes, those that have ended too, and
//! it keeps our kernel side, which is attached to the cgroup of its own daemon, away from the traffic of all others.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, anyhow};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::sh;

/// The proxy's core.
pub(crate) const PROXY_CORE: usize = 0;
/// The core of everything else: load, origin, KDC, and this program.
pub(crate) const LOAD_CORE: usize = 1;

const PREFIX: &str = "tracker-bench.";
/// Moves the shell into the cgroup `$0`, and makes it the program on that core.
const ENTER: &str = r#"echo $$ > "$0/cgroup.procs" && exec taskset -c "$@""#;

/// As long as it lives, this program and all that it starts stay on [`LOAD_CORE`], if they are not told otherwise, and
/// go before what else runs on this machine: a proxy that has to queue behind a compiler measures the compiler.
#[derive(Debug)]
pub(crate) struct Foreground {
    cores: CpuSet,
    autogroup: Option<String>,
}

/// The kernel shares cores out among sessions before it looks at the processes in them.
const AUTOGROUP: &str = "/proc/self/autogroup";
const NICE: &str = "-10";

impl Foreground {
    /// Moves there.
    pub(crate) fn enter() -> Result<Self> {
        let this = Pid::from_raw(0);
        let cores = sched_getaffinity(this)?;
        let mut core = CpuSet::new();
        core.set(LOAD_CORE)?;
        sched_setaffinity(this, &core).context("this needs two cores")?;
        // As in `/autogroup-176 nice 0`.
        let autogroup = fs::read_to_string(AUTOGROUP).ok();
        let autogroup = autogroup.and_then(|text| Some(text.trim().rsplit_once(' ')?.1.to_owned()));
        if autogroup.is_some() {
            fs::write(AUTOGROUP, NICE)?;
        }
        renice(NICE);
        Ok(Self { cores, autogroup })
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        // What does not work here costs others some speed until this program ends.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.cores);
        if let Some(before) = &self.autogroup {
            let _ = fs::write(AUTOGROUP, before);
        }
        renice("0");
    }
}

fn renice(nice: &str) {
    let pid = std::process::id().to_string();
    let _ = sh::ask("renice", &["-n", nice, "-p", &pid]);
}

/// The cgroups of one run, removed with the last handle.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups(Rc<Tree>);

#[derive(Debug)]
struct Tree {
    mount: PathBuf,
    name: String,
}

impl Cgroups {
    /// Makes the run's own, and removes what dead runs have left.
    pub(crate) fn new() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mount = fields.find_map(|line| match *line.as_slice() {
            [_, at, "cgroup2", ..] => Some(PathBuf::from(at)),
            _ => None,
        });
        let mount = mount.ok_or_else(|| anyhow!("no cgroup v2 is mounted: nothing can be accounted for"))?;
        for entry in fs::read_dir(&mount)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(pid) = name.strip_prefix(PREFIX) else { continue };
            if !Path::new("/proc").join(pid).exists() {
                remove(&entry.path());
            }
        }
        let name = format!("{PREFIX}{}", std::process::id());
        fs::create_dir_all(mount.join(&name)).context("cannot make a cgroup")?;
        Ok(Self(Rc::new(Tree { mount, name })))
    }

    /// One of them, made if it is not there.
    pub(crate) fn group(&self, name: &str) -> Result<Cgroup> {
        let name = format!("{}/{}", self.0.name, name.replace(|c: char| !c.is_ascii_alphanumeric(), "-"));
        let path = self.0.mount.join(&name);
        fs::create_dir_all(&path)?;
        Ok(Cgroup { path, name })
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        remove(&self.mount.join(&self.name));
    }
}

/// Removes a cgroup with those inside it, as far as they are empty.
fn remove(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

/// One cgroup.
#[derive(Clone, Debug)]
pub(crate) struct Cgroup {
    /// Its directory.
    pub(crate) path: PathBuf,
    /// Its path below the mount, as perf names it.
    pub(crate) name: String,
}

impl Cgroup {
    /// The words before a command that make it run here, on that core; its process number is the program's own.
    pub(crate) fn enter(&self, core: usize) -> Vec<OsString> {
        let words = ["sh".into(), "-c".into(), ENTER.into(), self.path.clone().into_os_string()];
        words.into_iter().chain([core.to_string().into()]).collect()
    }

    /// User and system time of all that ever ran here, in seconds.
    pub(crate) fn cpu(&self) -> Result<(f64, f64)> {
        let stat = fs::read_to_string(self.path.join("cpu.stat"))?;
        let field = |name: &str| -> Result<f64> {
            let line = stat.lines().find_map(|line| line.strip_prefix(name));
            Ok(line.with_context(|| format!("no {name}in cpu.stat"))?.parse::<f64>()? / 1e6)
        };
        Ok((field("user_usec ")?, field("system_usec ")?))
    }

    /// The processes in it now.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let list = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        list.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Memory of its processes in bytes: resident, and resident with shared pages divided among those that share them.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let of = |pid: &i32, field: &str| -> u64 {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            let line = rollup.lines().find_map(|line| line.strip_prefix(field)?.split_whitespace().next());
            line.and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        let all = self.processes();
        let sum = |field| all.iter().map(|pid| of(pid, field)).sum();
        (sum("Rss:"), sum("Pss:"))
    }
}
