//! Plain requests through the proxy, side by side with what people run today.
//!
//! One kibibyte, 64 keep-alive connections. Every proxy is alone on the first core while it is measured; the load and the
//! origin (nginx) share the second. The rounds are interleaved, because the machine's speed drifts; figures are medians
//! over the rounds, and only ratios within one run mean anything. Ours has a session (logged in by Kerberos), the kernel
//! observer, the access log and the metrics on; the peers do nothing but forward.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use lab::Lab;
use lab::gateway::PROXY_PORT;
use lab::net::{GATEWAY_V4, ORIGIN_V4};
use lab::ns::Ns;
use lab::scratch::Process;
use lab::wait::until;
use serde_json::Value;

use crate::setup;

/// How long.
#[derive(Args)]
pub(crate) struct Options {
    /// Rounds; each measures every proxy once.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds for each proxy in each round.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Connections held by the load.
    #[arg(long, default_value_t = 64)]
    connections: usize,
}

/// What this scenario needs beyond the project's own packages.
const PACKAGES: [&str; 4] = ["squid", "haproxy", "nginx-light", "wrk"];
const ORIGIN_PORT: u16 = 8080;
const SQUID_PORT: u16 = 3129;
const HAPROXY_PORT: u16 = 3130;
const PROXY_CORE: &str = "0";
const LOAD_CORE: &str = "1";

/// Tells wrk to ask as one asks a proxy, and to say what it measured in JSON.
const SCRIPT: &str = r#"
done = function(summary, latency)
  io.write(string.format('JSON{"requests":%d,"microseconds":%d,"bad":%d,"p50":%d,"p99":%d}\n',
    summary.requests, summary.duration,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"#;

/// Measures and prints.
pub(crate) fn run(options: &Options, bin: &Path) -> Result<()> {
    setup::install(&PACKAGES)?;
    let mut lab = Lab::prepare(1, bin)?;
    lab.gateway.configure("")?;
    lab.gateway.start()?;
    lab.login(0, "alice")?;
    let _origin = origin(&lab)?;
    let mut squid = squid(&lab)?;
    let haproxy = haproxy(&lab)?;
    let mut contestants = [
        Contestant::new("direct", None, ORIGIN_PORT),
        Contestant::new("trackerd", Some(lab.gateway.pid()), PROXY_PORT),
        Contestant::new("haproxy", Some(haproxy.pid()), HAPROXY_PORT),
        Contestant::new("squid", Some(squid.pid()), SQUID_PORT),
    ];
    for contestant in &contestants {
        if let Some(pid) = contestant.pid {
            pin(pid, PROXY_CORE)?;
        }
    }
    let script = lab.scratch.write("wrk.lua", SCRIPT)?;
    for round in 1..=options.rounds {
        eprintln!("round {round} of {}", options.rounds);
        for contestant in &mut contestants {
            contestant.measure(&lab, options, &script)?;
        }
    }
    report(&contestants);
    // Killed, it would leave its shared memory behind.
    squid.stop(Duration::from_secs(5)).map(drop)
}

struct Contestant {
    name: &'static str,
    pid: Option<i32>,
    port: u16,
    rounds: Vec<Round>,
}

struct Round {
    per_second: f64,
    /// Microseconds of CPU per request, user and system.
    cpu: f64,
    p50: f64,
    p99: f64,
}

impl Contestant {
    const fn new(name: &'static str, pid: Option<i32>, port: u16) -> Self {
        Self { name, pid, port, rounds: Vec::new() }
    }

    fn measure(&mut self, lab: &Lab, options: &Options, script: &Path) -> Result<()> {
        let client = lab.net.clients.first().context("the lab has a client")?;
        // Clients have no way to the origin but through a proxy; without one, the load is on the gateway's host.
        let (ns, address, target) = match self.pid {
            None => (&lab.net.gateway, ORIGIN_V4, "/1k".to_owned()),
            Some(_) => (&client.ns, GATEWAY_V4, format!("http://{ORIGIN_V4}:{ORIGIN_PORT}/1k")),
        };
        // haproxy refuses a Host that differs from the target's.
        let host = format!("{ORIGIN_V4}:{ORIGIN_PORT}");
        let path = format!(
            "wrk.path = \"{target}\"\nwrk.headers[\"Host\"] = \"{host}\"\n{}",
            fs::read_to_string(script)?
        );
        let script = lab.scratch.write("wrk-now.lua", &path)?;
        let before = self.pid.map(cpu_ticks).transpose()?;
        let mut wrk = ns.command("taskset");
        wrk.args(["-c", LOAD_CORE, "wrk", "-t1", "--latency"])
            .args(["-c", &options.connections.to_string(), "-d", &format!("{}s", options.seconds), "-s"])
            .arg(&script)
            .arg(format!("http://{address}:{}/", self.port));
        let output = wrk.output()?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix("JSON")).with_context(|| text.clone())?;
        let said: Value = serde_json::from_str(line)?;
        let get = |name: &str| said.get(name).and_then(Value::as_f64).unwrap_or(0.0);
        ensure!(get("bad") == 0.0, "{}: {} requests failed\n{text}", self.name, get("bad"));
        let ticks = match (before, self.pid.map(cpu_ticks).transpose()?) {
            (Some(before), Some(after)) => after - before,
            _ => 0.0,
        };
        self.rounds.push(Round {
            per_second: get("requests") / get("microseconds") * 1e6,
            cpu: ticks * 1e6 / get("requests"),
            p50: get("p50") / 1e3,
            p99: get("p99") / 1e3,
        });
        Ok(())
    }

    fn median(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        let mut all: Vec<f64> = self.rounds.iter().map(figure).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    }

    /// From the smallest to the largest, in parts of the median.
    fn spread(&self, figure: impl Fn(&Round) -> f64) -> f64 {
        let all = || self.rounds.iter().map(&figure);
        (all().fold(0.0, f64::max) - all().fold(f64::INFINITY, f64::min)) / self.median(&figure)
    }
}

fn report(contestants: &[Contestant]) {
    let cpu_of =
        |name: &str| contestants.iter().find(|c| c.name == name).map_or(0.0, |c| c.median(|round| round.cpu));
    let (haproxy, squid) = (cpu_of("haproxy"), cpu_of("squid"));
    println!(
        "| proxy | requests/s (spread) | p50 ms | p99 ms | CPU µs/request (spread) | of haproxy | of squid |"
    );
    println!("|---|---|---|---|---|---|---|");
    for contestant in contestants {
        let cpu = contestant.median(|round| round.cpu);
        let ratio = |other: f64| if cpu > 0.0 { format!("{:.2}", cpu / other) } else { String::new() };
        println!(
            "| {} | {:.0} ({:.0} %) | {:.2} | {:.2} | {} | {} | {} |",
            contestant.name,
            contestant.median(|round| round.per_second),
            contestant.spread(|round| round.per_second) * 100.0,
            contestant.median(|round| round.p50),
            contestant.median(|round| round.p99),
            if cpu > 0.0 {
                format!("{cpu:.1} ({:.0} %)", contestant.spread(|round| round.cpu) * 100.0)
            } else {
                String::new()
            },
            ratio(haproxy),
            ratio(squid)
        );
    }
}

/// Seconds of CPU that the process has used, all threads, user and system.
fn cpu_ticks(pid: i32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name may contain anything, in parentheses; fields 14 and 15 follow.
    let (_, fields) = stat.rsplit_once(')').context("no stat")?;
    let ticks =
        fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>();
    Ok(ticks / 100.0)
}

fn pin(pid: i32, core: &str) -> Result<()> {
    let done = Command::new("taskset")
        .args(["-a", "-c", "-p", core, &pid.to_string()])
        .stdout(Stdio::null())
        .status()?;
    ensure!(done.success(), "taskset failed");
    Ok(())
}

/// Waits until something listens on `port` inside the namespace.
fn listens(port: u16, inside: &Ns) -> Result<()> {
    let address = ([127, 0, 0, 1], port).into();
    until(&format!("port {port}"), Duration::from_secs(20), || inside.connect(address).ok()).map(drop)
}

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
             events {{ worker_connections 4096; }}\nhttp {{\n access_log off; keepalive_requests 100000000; \
             sendfile on; tcp_nodelay on; open_file_cache max=10;\n client_body_temp_path {root}/1; \
             proxy_temp_path {root}/2; fastcgi_temp_path {root}/3; uwsgi_temp_path {root}/4; scgi_temp_path {root}/5;\n \
             server {{ listen {ORIGIN_PORT} backlog=4096; root {root}; }}\n}}\n",
            logs = logs.display()
        ),
    )?;
    let ns = &lab.net.origin;
    let mut command = ns.command("taskset");
    command.args(["-c", LOAD_CORE, "nginx", "-c"]).arg(conf).arg("-e").arg(logs);
    let process = lab.scratch.spawn(command.stdout(Stdio::null()))?;
    listens(ORIGIN_PORT, ns)?;
    Ok(process)
}

fn squid(lab: &Lab) -> Result<Process> {
    let conf = lab.scratch.write(
        "squid.conf",
        format!(
            "http_port {SQUID_PORT}\nhttp_access allow all\ncache deny all\naccess_log none\ncache_log /dev/null\n\
             pid_filename none\ncoredump_dir /tmp\nworkers 1\nvia off\nforwarded_for delete\n\
             server_persistent_connections on\nclient_persistent_connections on\nshutdown_lifetime 0 seconds\n\
             cache_effective_user proxy\nhost_verify_strict off\n"
        ),
    )?;
    let ns = &lab.net.gateway;
    let mut command = ns.command("squid");
    // A name of its own, or it stumbles over the shared memory of one that was killed.
    command.args(["-N", "-n", &format!("tracker{}", std::process::id()), "-f"]).arg(conf);
    let process = lab.scratch.spawn(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
    listens(SQUID_PORT, ns)?;
    Ok(process)
}

fn haproxy(lab: &Lab) -> Result<Process> {
    let conf = lab.scratch.write(
        "haproxy.cfg",
        format!(
            "global\n nbthread 1\n maxconn 4000\ndefaults\n mode http\n timeout connect 5s\n timeout client 60s\n \
             timeout server 60s\n http-reuse always\nfrontend p\n bind :{HAPROXY_PORT}\n \
             http-request set-uri %[path]\n default_backend o\nbackend o\n server o {ORIGIN_V4}:{ORIGIN_PORT}\n"
        ),
    )?;
    let ns = &lab.net.gateway;
    let mut command = ns.command("haproxy");
    command.args(["-db", "-f"]).arg(conf);
    let process = lab.scratch.spawn(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
    listens(HAPROXY_PORT, ns)?;
    Ok(process)
}
