//! How long after a client's FIN or RST does its session's clock run, and when does the daemon know?
//!
//! The client reads the clock, closes its only connection, and asks the daemon for the session until it says that the
//! connection closed. What the daemon says is the kernel's own stamp of the transition to CLOSE; client and gateway
//! are namespaces of one machine and read one clock. How long the daemon then took to act is its own histogram.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use jiff::Timestamp;
use lab::Lab;
use lab::gateway::PROXY_PORT;
use lab::net::GATEWAY_V4;
use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt::Linger};
use serde_json::Value;

use super::Outcome;
use super::aims::Aim;
use super::figures::{Buckets, Distribution};

/// How often.
#[derive(Args)]
pub(crate) struct Options {
    /// Closures of each kind.
    #[arg(long, default_value_t = 1_000)]
    count: usize,
}

/// The connection is open for so long before it is closed.
const OPEN_FOR: Duration = Duration::from_millis(2);
/// The daemon is asked at most so often for one closure.
const PATIENCE: usize = 2_000;

/// The daemon's histogram from the kernel's stamp to the session judged.
const NOTICED: &str = "tracker_closure_to_clock_seconds";

/// Measures.
pub(crate) fn run(options: &Options, bin: &Path) -> Result<Outcome> {
    let mut lab = Lab::prepare(1, bin)?;
    lab.gateway.configure("[timeouts]\nproxy-auth-timeout = \"10m\"\n")?;
    lab.gateway.start()?;
    lab.login(0, "alice")?;
    let mut text =
        "\n| from the client's close to the clock's start, µs | n | min | p50 | p90 | p99 | max |\n\
                    |---|---|---|---|---|---|---|\n"
            .to_owned();
    let (mut remarks, mut aims) = (String::new(), Vec::new());
    for (name, reset) in [("FIN", false), ("RST", true)] {
        let before = Buckets::read(&lab, NOTICED)?;
        let times = measure(&lab, reset, options.count)?;
        text += &format!("| {name} {}\n", Distribution::of(times).row());
        let noticed = Buckets::read(&lab, NOTICED)?.since(&before);
        remarks += &format!(
            "\n{name}: after the kernel's stamp the daemon had judged {}\n",
            noticed.within("µs", 1e6)
        );
        aims.push(Aim::at_most(
            format!("closure by {name} to judgement, median in ms"),
            noticed.at(0.5) * 1e3,
            1.0,
            None,
        ));
    }
    Ok(Outcome { text: text + &remarks, aims })
}

fn measure(lab: &Lab, reset: bool, count: usize) -> Result<Vec<Duration>> {
    let address = lab.address(0);
    let socket = lab.gateway.socket();
    let host = lab.net.clients.first().context("the lab has a client")?;
    host.ns.inside(|| (0..count).map(|_| closure(&socket, &address, reset)).collect())
}

fn closure(socket: &Path, client: &str, reset: bool) -> Result<Duration> {
    let stream = TcpStream::connect(SocketAddr::from((GATEWAY_V4, PROXY_PORT)))?;
    if reset {
        setsockopt(&stream, Linger, &linger { l_onoff: 1, l_linger: 0 })?;
    }
    std::thread::sleep(OPEN_FOR);
    ensure!(open(&session(socket, client)?) == Some(1), "the connection is not counted");
    let before = Timestamp::now();
    drop(stream);
    for _ in 0..PATIENCE {
        let session = session(socket, client)?;
        if open(&session) == Some(0) {
            ensure!(moment(&session, "expires")?.is_some(), "closed, but no clock runs");
            let closed = moment(&session, "closed")?.context("no closing time")?;
            return Ok(Duration::try_from(closed.duration_since(before)).unwrap_or_default());
        }
    }
    bail!("the closure was never noticed")
}

fn open(session: &Value) -> Option<u64> {
    session.get("open_connections")?.as_u64()
}

fn moment(session: &Value, field: &str) -> Result<Option<Timestamp>> {
    Ok(session.get(field).and_then(Value::as_str).map(str::parse).transpose()?)
}

/// One question to the daemon, without a client library: HTTP/1.0 ends the answer by closing.
fn session(socket: &Path, client: &str) -> Result<Value> {
    let mut stream = UnixStream::connect(socket)?;
    write!(stream, "GET /v1/sessions/{client} HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no answer")?;
    Ok(serde_json::from_str(body)?)
}
