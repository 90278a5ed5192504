//! A crowd of clients for `cargo xtask bench`: many addresses that connect, or log in with real Kerberos tickets.
//!
//! Every client is an address of its own in one IPv6 /64 that is routed to this host; the namespace must allow binding
//! to it (`ip_nonlocal_bind`). Tickets come from the credentials cache (KRB5CCNAME); each login is a fresh token.

#![expect(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a tool for measurements, not part of the gateway"
)]

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddrV6, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use clap::{Parser, ValueEnum};
use libgssapi::context::{ClientCtx, CtxFlags};
use libgssapi::credential::{Cred, CredUsage};
use libgssapi::name::Name;
use libgssapi::oid::{GSS_MECH_SPNEGO, GSS_NT_HOSTBASED_SERVICE};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn6, sockopt};

/// What each client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Deed {
    /// Connects and resets: leaves a record.
    Touch,
    /// Logs in: leaves a session.
    Login,
}

#[derive(Debug, Parser)]
struct Args {
    deed: Deed,
    /// The proxy.
    #[arg(long)]
    proxy: SocketAddrV6,
    /// The first client; the following ones count up from it.
    #[arg(long)]
    from: Ipv6Addr,
    /// How many clients.
    #[arg(long)]
    count: u64,
    /// So many a second at most, all threads together; 0 is as many as there can be.
    #[arg(long, default_value_t = 0)]
    rate: u64,
    #[arg(long, default_value_t = 2)]
    threads: u64,
    /// The proxy's Kerberos service.
    #[arg(long, default_value = "HTTP@proxy.example.test")]
    service: String,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let next = AtomicU64::new(0);
    let started = Instant::now();
    let mut times: Vec<Duration> = std::thread::scope(|scope| -> Result<Vec<Duration>> {
        let work = || -> Result<Vec<Duration>> {
            let kerberos = (args.deed == Deed::Login).then(|| Kerberos::new(&args.service)).transpose()?;
            let mut times = Vec::new();
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number >= args.count {
                    return Ok(times);
                }
                if let Some(due) = (number * 1_000_000).checked_div(args.rate).map(Duration::from_micros) {
                    std::thread::sleep(due.saturating_sub(started.elapsed()));
                }
                let client = Ipv6Addr::from(u128::from(args.from) + u128::from(number));
                let token = kerberos.as_ref().map(Kerberos::token).transpose()?;
                let begun = Instant::now();
                visit(client, args.proxy, token).with_context(|| format!("{client}"))?;
                times.push(begun.elapsed());
            }
        };
        let threads: Vec<_> = (0..args.threads).map(|_| scope.spawn(work)).collect();
        let mut times = Vec::new();
        for thread in threads {
            times.extend(thread.join().expect("the thread does not panic")?);
        }
        Ok(times)
    })?;
    let seconds = started.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |share: f64| {
        let rank = (times.len() as f64 * share) as usize;
        times.get(rank.min(times.len().saturating_sub(1))).map_or(0, Duration::as_micros)
    };
    println!(
        r#"{{"done":{},"seconds":{seconds:.3},"per_second":{:.0},"p50_us":{},"p99_us":{},"max_us":{}}}"#,
        times.len(),
        times.len() as f64 / seconds,
        at(0.5),
        at(0.99),
        at(1.0)
    );
    Ok(())
}

/// Tickets for one service.
struct Kerberos {
    cred: Cred,
    service: Name,
}

impl Kerberos {
    fn new(service: &str) -> Result<Self> {
        let cred = Cred::acquire(None, None, CredUsage::Initiate, None)?;
        Ok(Self { cred, service: Name::new(service.as_bytes(), Some(GSS_NT_HOSTBASED_SERVICE))? })
    }

    fn token(&self) -> Result<String> {
        let service = self.service.duplicate()?;
        let mut context =
            ClientCtx::new(Some(self.cred.clone()), service, CtxFlags::empty(), Some(GSS_MECH_SPNEGO));
        let token = context.step(None, None)?.context("no token")?;
        Ok(BASE64_STANDARD.encode(&*token))
    }
}

/// One connection; with a token, one request whose destination the gateway refuses, so that no origin takes part.
fn visit(client: Ipv6Addr, proxy: SocketAddrV6, token: Option<String>) -> Result<()> {
    let socket = socket::socket(AddressFamily::Inet6, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    socket::bind(socket.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(client, 0, 0, 0)))?;
    socket::connect(socket.as_raw_fd(), &SockaddrIn6::from(proxy))?;
    let mut stream = TcpStream::from(socket);
    // A reset leaves nothing in TIME_WAIT.
    socket::setsockopt(&stream, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
    let Some(token) = token else { return Ok(()) };
    stream.set_nodelay(true)?;
    let request = format!(
        "GET http://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1\r\nProxy-Authorization: Negotiate {token}\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    ensure!(&head == b"HTTP/1.1 403", "not logged in: {}", String::from_utf8_lossy(&head));
    Ok(())
}
