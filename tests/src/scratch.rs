//! The lab's directory, and the processes it started: both go away with it, and what a killed run left behind is
//! removed by the next one.
//!
//! A process is remembered by its number *and* its start time, so that a reused number is never taken for ours.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

/// Every lab directory begins with this, then come the process number of the run and a counter.
const PREFIX: &str = "tracker-lab.";
/// Where the gateways of labs pin their kernel side: one directory each, named like the lab.
const PINS: &str = "/sys/fs/bpf";
/// Lists the processes of one lab: number and start time, a line each.
const PROCESSES: &str = "processes";

/// A directory of this run, removed on drop (kept if `TRACKER_KEEP` is set). Cheap to clone; the last one cleans up.
#[derive(Clone, Debug)]
pub struct Scratch(Arc<Dir>);

#[derive(Debug)]
struct Dir {
    path: PathBuf,
    name: String,
}

impl Scratch {
    /// A fresh directory. The first of a process sweeps up what dead runs left.
    ///
    /// # Errors
    /// When the temporary directory is not writable.
    pub fn new() -> Result<Self> {
        static SWEPT: Once = Once::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        SWEPT.call_once(sweep);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}.{count}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(Arc::new(Dir { path, name })))
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Its last component, unique on this machine while it exists.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// A path inside it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.path.join(name)
    }

    /// Where a gateway of this lab may pin its kernel side.
    #[must_use]
    pub fn pin_dir(&self) -> PathBuf {
        Path::new(PINS).join(self.0.name.replace('.', "-"))
    }

    /// Writes a file in it and returns its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<PathBuf> {
        let path = self.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// A path that nothing in this lab has used yet.
    #[must_use]
    pub fn unused(&self, stem: &str) -> PathBuf {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        self.join(&format!("{stem}.{}", COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    /// Starts a process that ends with this lab at the latest.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Process> {
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let process = Process { child: Some(child) };
        let pid = process.pid();
        let mut list = OpenOptions::new().create(true).append(true).open(self.join(PROCESSES))?;
        writeln!(list, "{pid} {}", start_time(pid).unwrap_or_default())?;
        Ok(process)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if std::env::var_os("TRACKER_KEEP").is_none() {
            remove(&self.path, &self.name);
        }
    }
}

/// A process of the lab, killed on drop.
#[derive(Debug)]
pub struct Process {
    child: Option<Child>,
}

impl Process {
    /// Its number; 0 once it was waited for.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok()).unwrap_or(0)
    }

    /// The child, to reach its pipes.
    pub fn child(&mut self) -> Option<&mut Child> {
        self.child.as_mut()
    }

    /// Its exit status if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        Some(status)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid();
        anyhow::ensure!(pid > 0, "the process has ended");
        kill(Pid::from_raw(pid), signal).context("cannot send the signal")
    }

    /// Asks it to end, and kills it if it has not done so within `patience`.
    ///
    /// # Errors
    /// When it had to be killed.
    pub fn stop(&mut self, patience: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let ended = wait::until("the process to end after SIGTERM", patience, || self.ended());
        if ended.is_err() {
            self.kill();
        }
        ended
    }

    /// Kills it at once, as a power cut would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Gone already is as good as killed.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// When a process was started, in clock ticks since boot, as the kernel prints it.
fn start_time(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the command in parentheses and may hold spaces; the start time is the 22nd.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19).map(str::to_owned)
}

/// Ends the processes and removes the directories of runs whose process is gone.
fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(owner) = name.strip_prefix(PREFIX).and_then(|rest| rest.split('.').next()) else { continue };
        let dead = owner.parse::<i32>().is_ok_and(|pid| !Path::new(&format!("/proc/{pid}")).exists());
        if dead {
            remove(&entry.path(), &name);
        }
    }
}

/// Ends what still runs of one lab, then removes its directory and its pins.
fn remove(path: &Path, name: &str) {
    for line in fs::read_to_string(path.join(PROCESSES)).unwrap_or_default().lines() {
        let Some((pid, started)) = line.split_once(' ') else { continue };
        let Ok(pid) = pid.parse::<i32>() else { continue };
        if !started.is_empty() && start_time(pid).as_deref() == Some(started) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    let _ = fs::remove_dir_all(path);
    remove_pins(&Path::new(PINS).join(name.replace('.', "-")));
}

/// Removes a directory of bpffs, deepest first; unlinking the pins detaches the programs.
pub(crate) fn remove_pins(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_pins(&entry.path());
        } else {
            let _ = fs::remove_file(entry.path());
        }
    }
    let _ = fs::remove_dir(dir);
}
