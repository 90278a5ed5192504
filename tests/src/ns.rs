//! One host of the lab: a network namespace with its own `/etc/hosts`.
//!
//! It is held by a small process (`cat`, waiting for the end of its input), not by a name below `/run/netns`: it
//! disappears with the process that made it, even if that is killed. `nsenter --target PID --net --mount` enters it and
//! still sees this machine's `/sys`, so bpffs and the cgroups are where they always are.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6};

use crate::scratch::{Process, Scratch};

/// Makes the namespaces its first two arguments' files private, then holds them until the end of input. Addresses are good
/// at once: looking whether they are taken ends a second later, which browsers take for another network.
const HOLD: &str = r#"for which in all default; do echo 0 >/proc/sys/net/ipv6/conf/$which/accept_dad; done
mount --bind "$1" /etc/hosts
if [ -e /etc/resolv.conf ]; then mount --bind "$2" /etc/resolv.conf; fi
ip link set lo up && echo ready && exec cat"#;

/// A network namespace with a private `/etc/hosts` and no name server. Clones are the same; the last one ends it.
#[derive(Clone, Debug)]
pub struct Ns {
    name: String,
    holder: Arc<Process>,
}

impl Ns {
    /// Makes the namespace `name`; `hosts` and `resolv` replace the files of that name below `/etc` in it.
    ///
    /// # Errors
    /// Without root, or where `unshare` and `ip` are missing.
    pub fn new(scratch: &Scratch, name: &str, hosts: &Path, resolv: &Path) -> Result<Self> {
        let mut holder = scratch.spawn(
            Command::new("unshare")
                .args(["--net", "--mount", "--propagation", "private", "sh", "-ec", HOLD, "sh"])
                .args([hosts, resolv])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::inherit()),
        )?;
        let output = holder.child().and_then(|child| child.stdout.take()).context("no pipe")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(line.trim() == "ready", "the network namespace {name} could not be made");
        Ok(Self { name: name.to_owned(), holder: Arc::new(holder) })
    }

    /// Its name, for messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process that holds it, as `ip link ... netns PID` wants it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.holder.pid()
    }

    /// A command that runs in it. Its process number is the program's own.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid().to_string(), "--net", "--mount", "--"]).arg(program);
        command
    }

    /// A command that runs in it together with every process that it starts: when it ends or is killed, all of them end.
    pub fn family(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.command("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"]).arg(program);
        command
    }

    /// What a person types to run something in it.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("nsenter --target {} --net --mount --", self.pid())
    }

    /// Runs a command in it and returns what it printed.
    ///
    /// # Errors
    /// With its error output when it fails.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let (program, arguments) = words.split_first().context("no command")?;
        finish(self.command(program).args(arguments), &[])
    }

    /// Runs `ip -batch` in it with these lines.
    ///
    /// # Errors
    /// When one of them fails.
    pub fn ip(&self, lines: &str) -> Result<()> {
        finish(self.command("ip").args(["-batch", "-"]), lines.as_bytes())
            .map(drop)
            .with_context(|| format!("ip in {}:\n{lines}", self.name))
    }

    /// Calls `work` on a thread that is inside the network namespace; sockets made there stay there.
    ///
    /// # Panics
    /// When the namespace is gone, or `work` panics.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/proc/{}/ns/net", self.pid());
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(&path).expect("the network namespace exists");
                work()
            });
            match thread.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Starts a thread that stays inside the network namespace.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn thread(
        &self,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<std::thread::JoinHandle<()>> {
        let path = format!("/proc/{}/ns/net", self.pid());
        Ok(std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            enter(&path).expect("the network namespace exists");
            work();
        })?)
    }

    /// Connects from inside.
    ///
    /// # Errors
    /// When nobody answers within five seconds.
    pub fn connect(&self, to: SocketAddr) -> Result<TcpStream> {
        let stream = self
            .inside(|| TcpStream::connect_timeout(&to, Duration::from_secs(5)))
            .with_context(|| format!("{} cannot connect to {to}", self.name))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Connects from inside, from one of several addresses of this host.
    ///
    /// # Errors
    /// When the address is not this host's, or nobody answers.
    pub fn connect_from(&self, from: Ipv6Addr, to: SocketAddrV6) -> Result<TcpStream> {
        let connected = self.inside(|| -> Result<TcpStream> {
            let socket =
                socket::socket(AddressFamily::Inet6, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
            let from = SocketAddrV6::new(from, 0, 0, 0);
            socket::bind(socket.as_raw_fd(), &SockaddrIn6::from(from))?;
            socket::connect(socket.as_raw_fd(), &SockaddrIn6::from(to))?;
            Ok(TcpStream::from(socket))
        });
        connected.with_context(|| format!("{} cannot connect from {from} to {to}", self.name))
    }

    /// Listens inside.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn listen(&self, on: SocketAddr) -> Result<TcpListener> {
        self.inside(|| TcpListener::bind(on)).with_context(|| format!("{} cannot listen on {on}", self.name))
    }
}

/// Connects from one of several IPv4 addresses of the host that the calling thread is in.
///
/// # Errors
/// When the address is not this host's, or nobody answers.
pub fn connect_from_here(from: Ipv4Addr, to: SocketAddrV4) -> Result<TcpStream> {
    let socket = socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    socket::bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(from, 0)))?;
    socket::connect(socket.as_raw_fd(), &SockaddrIn::from(to))
        .with_context(|| format!("cannot connect from {from} to {to}"))?;
    Ok(TcpStream::from(socket))
}

/// Moves the calling thread into a network namespace.
fn enter(path: &str) -> Result<()> {
    Ok(setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?)
}

/// Runs a command with this input to its end and returns its output.
pub(crate) fn finish(command: &mut Command, input: &[u8]) -> Result<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends without reading its input says why in its exit status.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("{command:?}: {}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(text)
}
