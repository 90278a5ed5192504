//! The gateway under test: the real `trackerd` and `trackerctl`, in the gateway's namespace.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use toml::Table;

use crate::answers::{self, Event, Host, Session};
use crate::ns::Ns;
use crate::origin::{DRIP_PORT, ECHO_PORT, RESET_PORT, SILENT_PORT, SINK_PORT};
use crate::raw::Raw;
use crate::realm::Realm;
use crate::scratch::{Process, Scratch, remove_pins};
use crate::wait;

/// The proxy's port.
pub const PROXY_PORT: u16 = 3128;
/// The proxy's port under TLS,
pub const PROXY_TLS_PORT: u16 = 3130;
/// and the settings that open it.
pub const PROXY_TLS: &str = "[tls]\nproxy-listen = [\"0.0.0.0:3130\"]\n";
/// The ports of the web pages: without TLS,
pub const PORTAL_PORT: u16 = 4080;
/// and under TLS.
pub const PORTAL_TLS_PORT: u16 = 4081;
/// The port of /metrics, /live and /ready on the gateway's loopback.
pub const METRICS_PORT: u16 = 9477;
/// How long it may take to get ready, or to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway, running or not. It is stopped on drop, and its pins are removed.
#[derive(Debug)]
pub struct Gateway {
    ns: Ns,
    scratch: Scratch,
    environment: Vec<(&'static str, PathBuf)>,
    bin: PathBuf,
    under: Vec<OsString>,
    settings: Table,
    process: Option<Process>,
}

/// What `trackerctl` answered.
#[derive(Debug)]
pub struct Answer {
    /// Its exit code.
    pub exit: i32,
    /// The JSON document; null if it printed none.
    pub json: Value,
    /// All it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Gateway {
    /// A gateway that does not run yet, with the lab's settings.
    ///
    /// # Errors
    /// When its directories cannot be made.
    pub fn new(scratch: &Scratch, ns: &Ns, realm: &Realm, keytab: &Path, bin: &Path) -> Result<Self> {
        let dir = scratch.path().display();
        let ports = [ECHO_PORT, SINK_PORT, DRIP_PORT, RESET_PORT, SILENT_PORT, 443, 80];
        let base = format!(
            "state-dir = \"{dir}/state\"
run-dir = \"{dir}/run\"
[proxy]
listen = [\"0.0.0.0:{PROXY_PORT}\", \"[fd77::1]:{PROXY_PORT}\"]
connect-ports = {ports:?}
[observer]
pin-dir = \"{pins}\"
[kerberos]
keytab = \"{keytab}\"
[portal]
host = \"proxy.example.test\"
[metrics]
listen = \"127.0.0.1:{METRICS_PORT}\"
",
            pins = scratch.pin_dir().display(),
            keytab = keytab.display(),
        );
        for part in ["state", "run"] {
            std::fs::create_dir_all(scratch.join(part))?;
        }
        Ok(Self {
            ns: ns.clone(),
            scratch: scratch.clone(),
            environment: realm.environment(),
            bin: bin.to_path_buf(),
            under: Vec::new(),
            settings: base.parse()?,
            process: None,
        })
    }

    /// Lays more settings over those there are, and writes the file. A running gateway rereads it.
    ///
    /// # Errors
    /// When `settings` is no TOML.
    pub fn configure(&mut self, settings: &str) -> Result<()> {
        merge(&mut self.settings, settings.parse().context("the lab's settings")?);
        self.write(&self.settings.to_string())
    }

    /// Writes the configuration file as it is given here, good or bad. As an editor saves: aside, then renamed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, content: &str) -> Result<()> {
        let aside = self.scratch.write("tracker.toml.new", content)?;
        Ok(std::fs::rename(aside, self.config())?)
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.scratch.join("tracker.toml")
    }

    /// The admin socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.scratch.join("run").join("admin.sock")
    }

    /// The proxy as clients name it in their settings.
    #[must_use]
    pub fn proxy_url() -> String {
        format!("http://proxy.example.test:{PROXY_PORT}")
    }

    /// Starts it under another program from now on, which must become it: `taskset`, `env`, `valgrind`.
    pub fn run_under(&mut self, words: impl IntoIterator<Item = impl Into<OsString>>) {
        self.under = words.into_iter().map(Into::into).collect();
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// With its log, when it ends or does not get ready.
    pub fn start(&mut self) -> Result<()> {
        self.start_unready()?;
        wait::until("trackerd to be ready", PATIENCE, || {
            let ended = self.process.as_mut().and_then(Process::ended);
            if let Some(status) = ended {
                return Some(Err(anyhow::anyhow!("trackerd ended with {status}")));
            }
            matches!(self.http("/ready"), Ok((200, _))).then_some(Ok(()))
        })
        .flatten()
        .with_context(|| format!("log of trackerd:\n{}", self.log()))
    }

    /// Starts it without waiting.
    ///
    /// # Errors
    /// When the program is missing.
    pub fn start_unready(&mut self) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log_file())?;
        self.spawn(log.try_clone()?.into(), log.into())
    }

    /// Starts it with a pipe for its log, and hands out the end to read from, or not to.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start_into_pipe(&mut self) -> Result<File> {
        let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let log = File::options().create(true).append(true).open(self.log_file())?;
        self.spawn(write.into(), log.into())?;
        wait::until("trackerd to be ready", PATIENCE, || {
            matches!(self.http("/ready"), Ok((200, _))).then_some(())
        })?;
        Ok(read.into())
    }

    fn spawn(&mut self, stdout: Stdio, stderr: Stdio) -> Result<()> {
        ensure!(self.process.is_none(), "trackerd runs already");
        if !self.config().exists() {
            self.configure("")?;
        }
        let mut command = self.trackerd();
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        self.process = Some(self.scratch.spawn(&mut command)?);
        Ok(())
    }

    /// Changes a soft limit of the running process: `nofile`, `fsize`, as `prlimit` names them.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn limit(&self, what: &str, soft: &str) -> Result<()> {
        let output = Command::new("prlimit")
            .arg(format!("--pid={}", self.pid()))
            .arg(format!("--{what}={soft}:"))
            .output()?;
        ensure!(output.status.success(), "{what} {soft}: {output:?}");
        Ok(())
    }

    /// How many descriptors it has open.
    ///
    /// # Errors
    /// When it does not run.
    pub fn descriptors(&self) -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.pid()))?.count())
    }

    /// `trackerd --config FILE` in its namespace and realm, to be started with more arguments.
    #[must_use]
    pub fn trackerd(&self) -> Command {
        let program = self.bin.join("trackerd").into_os_string();
        let mut words = self.under.iter().cloned().chain([program]);
        let mut command = self.ns.command(words.next().unwrap_or_default());
        command.args(words).arg("--config").arg(self.config()).envs(self.environment.iter().cloned());
        command
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let mut process = self.process.take().context("trackerd does not run")?;
        wait::until("trackerd to end by itself", PATIENCE, || process.ended())
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.process.as_ref().map_or(0, Process::pid)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.as_ref().context("trackerd does not run")?.signal(signal)
    }

    /// Asks it to stop and waits for that.
    ///
    /// # Errors
    /// When it had to be killed.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.take().context("trackerd does not run")?.stop(PATIENCE)
    }

    /// Kills it as a crash would; its kernel side stays.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Stops and starts it.
    ///
    /// # Errors
    /// When either fails.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.start()
    }

    /// All it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The file of the log.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.scratch.join("trackerd.log")
    }

    /// `trackerctl --socket SOCKET`, to be started with more arguments.
    #[must_use]
    pub fn trackerctl(&self) -> Command {
        let mut command = self.ns.command(self.bin.join("trackerctl"));
        command.arg("--socket").arg(self.socket()).envs(self.environment.iter().cloned());
        command
    }

    /// What `trackerctl` with these arguments shows to people.
    ///
    /// # Errors
    /// When it does not run.
    pub fn shown(&self, arguments: &[&str]) -> Result<String> {
        let output = self.trackerctl().args(arguments).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `trackerctl --json` with these arguments.
    ///
    /// # Errors
    /// Only when it cannot be started; its refusal is an [`Answer`].
    pub fn ctl(&self, arguments: &[&str]) -> Result<Answer> {
        let output = self.trackerctl().arg("--json").args(arguments).output()?;
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(Answer {
            exit: output.status.code().unwrap_or(-1),
            json: serde_json::from_str(&stdout).unwrap_or(Value::Null),
            stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs it and insists on exit code 0 and a document.
    ///
    /// # Errors
    /// When it refuses.
    pub fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let answer = self.ctl(arguments)?;
        if answer.exit != 0 || answer.json.is_null() {
            bail!("trackerctl {}: {answer:?}\nlog of trackerd:\n{}", arguments.join(" "), self.log());
        }
        Ok(answer.json)
    }

    /// The running sessions.
    ///
    /// # Errors
    /// When `trackerctl` fails.
    pub fn sessions(&self) -> Result<Vec<Session>> {
        Ok(answers::sessions(&self.ask(&["sessions"])?))
    }

    /// The session of a client, if it has one.
    ///
    /// # Errors
    /// When `trackerctl` fails.
    pub fn session(&self, client: &str) -> Result<Option<Session>> {
        Ok(self.sessions()?.into_iter().find(|session| session.client == client))
    }

    /// What is recorded of a client address, if anything.
    ///
    /// # Errors
    /// When `trackerctl` fails.
    pub fn host(&self, client: &str) -> Result<Option<Host>> {
        Ok(answers::hosts(&self.ask(&["hosts"])?).into_iter().find(|host| host.client == client))
    }

    /// The audit trail.
    ///
    /// # Errors
    /// When `trackerctl` fails.
    pub fn events(&self) -> Result<Vec<Event>> {
        Ok(answers::events(&self.ask(&["events"])?))
    }

    /// Asks its metrics port, from the gateway itself.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn http(&self, path: &str) -> Result<(u16, String)> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, METRICS_PORT));
        let mut raw = Raw::connect(&self.ns, address)?;
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))?;
        let (head, body) = raw.answer()?;
        Ok((head.code, String::from_utf8_lossy(&body).into_owned()))
    }

    /// All metrics as text.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn metrics(&self) -> Result<String> {
        let (code, text) = self.http("/metrics")?;
        ensure!(code == 200, "/metrics answered {code}");
        Ok(text)
    }

    /// The sum of a metric over all its labels; `None` if there is none of that name.
    ///
    /// # Errors
    /// When the metrics cannot be read.
    pub fn metric(&self, name: &str) -> Result<Option<f64>> {
        let metrics = self.metrics()?;
        let values = metrics.lines().filter_map(|line| {
            let (key, value) = line.rsplit_once(' ')?;
            (key.split('{').next() == Some(name)).then(|| value.parse::<f64>().ok()).flatten()
        });
        Ok(values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value)))
    }

    /// How many sockets on the proxy's port the kernel has for each client, by its own dump.
    ///
    /// # Errors
    /// When `ss` fails.
    pub fn sockets(&self) -> Result<BTreeMap<String, u64>> {
        let filter = format!("( sport = :{PROXY_PORT} )");
        let listed = self.ns.run(&["ss", "-Htn", "state", "connected", &filter])?;
        let mut counts = BTreeMap::new();
        // TIME-WAIT is a memory of a closed connection; SYN-RECV is not one yet.
        for line in listed.lines().filter(|line| !line.starts_with("TIME-WAIT") && !line.starts_with("SYN-"))
        {
            let peer = line.split_whitespace().nth(4).context("ss shows no peer")?;
            let peer: SocketAddr = peer.parse().with_context(|| line.to_owned())?;
            *counts.entry(peer.ip().to_canonical().to_string()).or_default() += 1;
        }
        Ok(counts)
    }

    /// Runs `trackerd --check-config`; returns its exit code and all it said.
    ///
    /// # Errors
    /// When it does not come to an end.
    pub fn check_config(&self) -> Result<(Option<i32>, String)> {
        let path = self.scratch.unused("check-config");
        let file = std::fs::File::create(&path)?;
        let mut command = self.trackerd();
        command.arg("--check-config").stdout(file.try_clone()?).stderr(file);
        let mut process = self.scratch.spawn(&mut command)?;
        let status = wait::until("trackerd --check-config to end", PATIENCE, || process.ended())?;
        Ok((status.code(), std::fs::read_to_string(path)?))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may be the very thing that is broken.
            let _ = process.stop(Duration::from_secs(5));
        }
        if std::thread::panicking() {
            eprintln!("--- log of trackerd ---\n{}--- end of the log ---", self.log());
        }
        remove_pins(&self.scratch.pin_dir());
    }
}

/// Where `trackerd` lies: `TRACKER_BIN_DIR`, else the directory that this program was built in.
///
/// # Errors
/// When it was not built.
pub fn bin_dir() -> Result<PathBuf> {
    let exe = std::env::current_exe()?;
    let given = std::env::var_os("TRACKER_BIN_DIR").map(PathBuf::from);
    let dirs = given.into_iter().chain(exe.ancestors().skip(1).take(2).map(Path::to_path_buf));
    let mut found = dirs.filter(|dir| dir.join("trackerd").is_file() && dir.join("trackerctl").is_file());
    found.next().context("trackerd is not built: `cargo xtask test` builds it; or set TRACKER_BIN_DIR")
}

/// Lays one table over another, deeply.
fn merge(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(value)) => merge(inner, value),
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_laid_over_deeply() {
        let mut base: Table = "[proxy]\nlisten = [\"a\"]\nbasic = \"never\"\n".parse().unwrap();
        merge(&mut base, "[proxy]\nbasic = \"always\"\n[timeouts]\nx = 1\n".parse().unwrap());
        assert_eq!(base["proxy"]["basic"].as_str(), Some("always"));
        assert_eq!(base["proxy"]["listen"].as_array().map(Vec::len), Some(1));
        assert_eq!(base["timeouts"]["x"].as_integer(), Some(1));
    }
}
