//! The rig that all comparisons stand on: a lab, an origin, and the proxies, each alone on the first core while it is
//! measured. Load and origin share the second core.

pub(crate) mod gateways;
pub(crate) mod load;
pub(crate) mod peers;
pub(crate) mod place;
pub(crate) mod report;
pub(crate) mod series;
pub(crate) mod usage;

use std::ffi::OsStr;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use lab::Lab;
use lab::net::{GATEWAY_V4, GATEWAY_V6, Host, ORIGIN_V4};
use lab::ns::Ns;
use lab::scratch::Process;
use lab::wait::until;

use crate::{setup, sh};
use place::{Cgroups, Foreground, PROXY_CORE};

/// nginx on the origin's host: `/1k` is a kibibyte.
pub(crate) const ORIGIN: SocketAddr = SocketAddr::new(IpAddr::V4(ORIGIN_V4), 8080);
/// Where the load tool listens on the origin's host, for tunnels.
pub(crate) const FAR_END: SocketAddr = SocketAddr::new(IpAddr::V4(ORIGIN_V4), 9000);
/// What every scenario of the rig needs.
const PACKAGES: [&str; 6] = ["squid-openssl", "haproxy", "tinyproxy", "nginx-light", "wrk", "linux-perf"];
/// Proxies start and stop within this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// The rig. Dropped in this order: what runs goes before what it runs in.
pub(crate) struct Rig {
    _origin: Process,
    /// Network, realm, users; its own gateway does not run.
    pub(crate) lab: Lab,
    /// `trackerd` and `trackerctl`.
    pub(crate) bin: PathBuf,
    tool: PathBuf,
    cgroups: Cgroups,
    _foreground: Foreground,
}

impl Rig {
    /// Installs and builds what is missing, then sets everything up but the proxies.
    pub(crate) fn new(bin: &Path) -> Result<Self> {
        setup::install(&PACKAGES)?;
        let tool = load_tool(bin)?;
        let foreground = Foreground::enter()?;
        let cgroups = Cgroups::new()?;
        let lab = Lab::prepare(2, bin)?;
        // Connections come and go by the thousand a second, more than the usual range has ports.
        let hosts = lab.net.clients.iter().map(|host| &host.ns).chain([&lab.net.gateway]);
        for ns in hosts {
            ns.inside(|| -> Result<()> {
                fs::write("/proc/sys/net/ipv4/ip_local_port_range", "10000 65000")?;
                Ok(fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "1")?)
            })?;
        }
        let origin = origin(&lab)?;
        Ok(Self { _origin: origin, lab, bin: bin.to_path_buf(), tool, cgroups, _foreground: foreground })
    }

    /// The host that the load comes from.
    pub(crate) fn client(&self) -> Result<&Host> {
        self.lab.net.clients.first().context("the lab has a client")
    }

    /// The network namespace of the origin's host.
    pub(crate) fn origin_ns(&self) -> String {
        format!("/proc/{}/ns/net", self.lab.net.origin.pid())
    }

    /// A cgroup of this run.
    pub(crate) fn group(&self, name: &str) -> Result<place::Cgroup> {
        self.cgroups.group(name)
    }

    /// Starts a program on the gateway's host, on the proxies' core and in a cgroup of its own, and waits until `port`
    /// is open. `note` says what it is and how it is configured.
    pub(crate) fn start(
        &self,
        name: &str,
        port: u16,
        note: String,
        program: &str,
        arguments: &[&OsStr],
    ) -> Result<Subject> {
        let group = self.cgroups.group(name)?;
        let words = group.enter(PROXY_CORE);
        let (first, rest) = words.split_first().context("no words")?;
        let mut command = self.lab.net.gateway.command(first);
        command.args(rest).arg(program).args(arguments).envs(self.lab.realm.environment());
        command.env("KRB5_KTNAME", &self.lab.keytab);
        let log = fs::File::create(self.lab.scratch.unused("output"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = self.lab.scratch.spawn(&mut command)?;
        self.listens(port).with_context(|| format!("{name} does not start"))?;
        let (runs, group) = (Runs::Peer(process), Some(group));
        Ok(Subject { name: name.to_owned(), note, port, way: Way::Proxy, group, runs })
    }

    /// Waits until something listens on this port of the gateway's host.
    fn listens(&self, port: u16) -> Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let tried = || -> Option<TcpStream> { self.lab.net.gateway.connect(address).ok() };
        until(&format!("port {port}"), PATIENCE, tried).map(drop)
    }

    /// No proxy: the load asks the origin itself. It runs on the gateway's host, as clients have no way to the origin.
    pub(crate) fn direct(&self) -> Subject {
        let note = "the load without a proxy, on the gateway's host".to_owned();
        let (name, port) = ("direct".to_owned(), ORIGIN.port());
        Subject { name, note, port, way: Way::Direct, group: None, runs: Runs::Nothing }
    }

    /// Where the load for this one runs.
    fn load_ns(&self, subject: &Subject) -> Result<&Ns> {
        Ok(match subject.way {
            Way::Direct => &self.lab.net.gateway,
            Way::Proxy | Way::Plain => &self.client()?.ns,
        })
    }
}

/// How the load reaches the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Without a proxy.
    Direct,
    /// Through an explicit proxy.
    Proxy,
    /// Through something that passes every connection on to one place, without being asked.
    Plain,
}

/// One of those that are compared.
pub(crate) struct Subject {
    /// As the tables name it.
    pub(crate) name: String,
    /// Version and configuration.
    pub(crate) note: String,
    /// Where it listens.
    pub(crate) port: u16,
    /// How it is asked.
    pub(crate) way: Way,
    /// Where its processes are accounted for.
    pub(crate) group: Option<place::Cgroup>,
    /// What runs.
    pub(crate) runs: Runs,
}

/// What keeps a subject going.
pub(crate) enum Runs {
    Nothing,
    Peer(Process),
    Tracker(Box<gateways::Tracker>),
}

impl Subject {
    /// Where the load goes, by IPv4.
    pub(crate) fn v4(&self) -> SocketAddr {
        let host = if self.way == Way::Direct { ORIGIN_V4 } else { GATEWAY_V4 };
        SocketAddr::from((host, self.port))
    }

    /// Where it goes by IPv6, for crowds of clients.
    pub(crate) fn v6(&self) -> SocketAddr {
        SocketAddr::from((GATEWAY_V6, self.port))
    }

    /// As something that passes every connection on.
    pub(crate) fn plain(mut self) -> Self {
        self.way = Way::Plain;
        self
    }

    /// The gateway that it is.
    pub(crate) fn tracker(&self) -> Result<&gateways::Tracker> {
        match &self.runs {
            Runs::Tracker(tracker) => Ok(tracker),
            Runs::Nothing | Runs::Peer(_) => anyhow::bail!("{} is no gateway of ours", self.name),
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        if let Runs::Peer(process) = &mut self.runs {
            // Killed, squid would leave its shared memory behind.
            let _ = process.stop(Duration::from_secs(5));
        }
    }
}

/// nginx with one kibibyte, on the load's core.
fn origin(lab: &Lab) -> Result<Process> {
    let root = lab.scratch.join("www");
    fs::create_dir_all(&root)?;
    fs::write(root.join("1k"), [b'x'; 1024])?;
    let root = root.display();
    let logs = lab.scratch.join("nginx.err");
    let conf = lab.scratch.write(
        "nginx.conf",
        format!(
            "daemon off;\nmaster_process off;\nworker_processes 1;\nerror_log {logs};\npid {root}/pid;\n\
             events {{ worker_connections 16384; }}\nhttp {{\n access_log off; keepalive_requests 100000000; \
             keepalive_timeout 600s; sendfile on; tcp_nodelay on; open_file_cache max=10;\n \
             client_body_temp_path {root}/1; proxy_temp_path {root}/2; fastcgi_temp_path {root}/3; \
             uwsgi_temp_path {root}/4; scgi_temp_path {root}/5;\n \
             server {{ listen {port} backlog=4096; root {root}; }}\n}}\n",
            logs = logs.display(),
            port = ORIGIN.port()
        ),
    )?;
    let ns = &lab.net.origin;
    let mut command: Command = ns.command("nginx");
    command.arg("-c").arg(conf).arg("-e").arg(logs);
    let process = lab.scratch.spawn(command.stdout(Stdio::null()))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ORIGIN.port()));
    until("nginx", PATIENCE, || ns.connect(address).ok())?;
    Ok(process)
}

/// Builds the load tool, which lies beside `trackerd`.
pub(crate) fn load_tool(bin: &Path) -> Result<PathBuf> {
    let mut cargo = sh::cargo();
    cargo.args(["build", "--release", "--package", "tracker-user", "--example", "load"]);
    sh::step("building the load generator", &mut cargo)?;
    Ok(bin.join("examples").join("load"))
}
