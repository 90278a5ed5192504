//! A balancer before the gateway: Debian's haproxy, on a host of the lab.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::ns::Ns;
use crate::scratch::{Process, Scratch};
use crate::wait;

/// How long it may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A port of the balancer, and where it leads.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// The name by which its health is asked for.
    pub name: &'a str,
    /// Where the balancer listens.
    pub bind: &'a str,
    /// The gateway's address and port, and how it is spoken to: `10.77.0.1:3128 send-proxy-v2 check`.
    pub server: &'a str,
}

/// It runs until this is dropped.
#[derive(Debug)]
pub struct Haproxy {
    socket: PathBuf,
    _process: Process,
}

impl Haproxy {
    /// Starts it on a host: it hands on what comes as it is, and looks at each server's health five times a second.
    ///
    /// # Errors
    /// Where it is not installed, or does not listen.
    pub fn start(scratch: &Scratch, ns: &Ns, ways: &[Way<'_>]) -> Result<Self> {
        let socket = scratch.unused("haproxy");
        let mut config = format!(
            "global\n  stats socket {} level admin\ndefaults\n  mode tcp\n  default-server inter 200ms rise 1 fall 1\n  \
             timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n",
            socket.display()
        );
        for Way { name, bind, server } in ways {
            write!(config, "listen {name}\n  bind {bind}\n  server gateway {server}\n")?;
        }
        let file = scratch.unused("haproxy.cfg");
        std::fs::write(&file, config)?;
        let log = std::fs::File::options().create(true).append(true).open(scratch.join("haproxy.log"))?;
        let mut command = ns.command("haproxy");
        command.args(["-db", "-f"]).arg(&file);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = scratch.spawn(&mut command).context("is haproxy installed?")?;
        let haproxy = Self { socket, _process: process };
        wait::until("haproxy to run", PATIENCE, || haproxy.ask("show info").ok())
            .with_context(|| std::fs::read_to_string(scratch.join("haproxy.log")).unwrap_or_default())?;
        Ok(haproxy)
    }

    /// What its socket answers.
    ///
    /// # Errors
    /// When it does not run.
    pub fn ask(&self, command: &str) -> Result<String> {
        let mut socket = UnixStream::connect(&self.socket)?;
        writeln!(socket, "{command}")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// What its last look at the gateway found by one way, `L4OK`; and how often it has failed.
    ///
    /// # Errors
    /// When it does not run.
    pub fn health(&self, way: &str) -> Result<(String, u64)> {
        let stat = self.ask("show stat")?;
        let mut lines = stat.lines().map(|line| line.trim_start_matches("# ").split(',').collect::<Vec<_>>());
        let names = lines.next().context("no names")?;
        let row = lines.find(|row| row.starts_with(&[way, "gateway"])).context("no such way")?;
        let field = |name: &str| {
            let place = names.iter().position(|one| *one == name);
            place.and_then(|place| row.get(place)).copied().unwrap_or_default()
        };
        Ok((field("check_status").to_owned(), field("chkfail").parse().unwrap_or(0)))
    }
}
