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

/// The proxy's core.
pub(crate) const PROXY_CORE: usize = 0;
/// The core of everything else: load, origin, KDC, and this program.
pub(crate) const LOAD_CORE: usize = 1;

const PREFIX: &str = "tracker-bench.";
/// Moves the shell into the cgroup `$0`, and makes it the program on that core.
const ENTER: &str = r#"echo $$ > "$0/cgroup.procs" && exec taskset -c "$@""#;

/// As long as it lives, this program and all that it starts stay on [`LOAD_CORE`], if they are not told otherwise.
#[derive(Debug)]
pub(crate) struct OnLoadCore(CpuSet);

impl OnLoadCore {
    /// Moves there.
    pub(crate) fn enter() -> Result<Self> {
        let this = Pid::from_raw(0);
        let before = sched_getaffinity(this)?;
        let mut core = CpuSet::new();
        core.set(LOAD_CORE)?;
        sched_setaffinity(this, &core).context("this needs two cores")?;
        Ok(Self(before))
    }
}

impl Drop for OnLoadCore {
    fn drop(&mut self) {
        // The other cores are a matter of speed only.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.0);
    }
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
