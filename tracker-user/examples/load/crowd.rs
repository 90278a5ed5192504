//! A crowd of clients: many addresses that connect, log in with real Kerberos tickets, or log out by the logout URL.
//!
//! Every client is an address of its own in one IPv6 /64 that is routed to this host; the namespace must allow binding
//! to it (`ip_nonlocal_bind`). Each login is a fresh token.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddrV6, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn6, sockopt};

use crate::figures;
use crate::kerberos::Kerberos;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The proxy; for logouts the portal without TLS.
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

/// What each of them does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Connects.
    Touch,
    /// Logs in.
    Login,
    /// Logs out, as a script does when somebody leaves.
    Logout,
}

/// Lets them come.
pub(crate) fn run(args: &Args, deed: Deed) -> Result<()> {
    let next = AtomicU64::new(0);
    let started = Instant::now();
    let times = std::thread::scope(|scope| -> Result<Vec<Duration>> {
        let work = || -> Result<Vec<Duration>> {
            let kerberos = (deed == Deed::Login).then(|| Kerberos::new(&args.service)).transpose()?;
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
                visit(client, args.proxy, deed, token.as_deref().unwrap_or_default())
                    .with_context(|| format!("{client}"))?;
                times.push(begun.elapsed());
            }
        };
        let threads: Vec<_> = (0..args.threads).map(|_| scope.spawn(work)).collect();
        let mut times = Vec::new();
        for thread in threads {
            times.extend(thread.join().map_err(|_| anyhow!("a thread panicked"))??);
        }
        Ok(times)
    })?;
    figures::print(started.elapsed(), times, 0);
    Ok(())
}

/// One connection. Who logs in asks for a destination that the gateway refuses, so that no origin takes part.
fn visit(client: Ipv6Addr, proxy: SocketAddrV6, deed: Deed, token: &str) -> Result<()> {
    let socket = socket::socket(AddressFamily::Inet6, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    socket::bind(socket.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(client, 0, 0, 0)))?;
    socket::connect(socket.as_raw_fd(), &SockaddrIn6::from(proxy))?;
    let mut stream = TcpStream::from(socket);
    // A reset leaves nothing in TIME_WAIT.
    socket::setsockopt(&stream, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
    let (request, expected) = match deed {
        Deed::Touch => return Ok(()),
        Deed::Login => (
            format!(
                "GET http://127.0.0.1/ HTTP/1.1\r\nHost: 127.0.0.1\r\nProxy-Authorization: Negotiate {token}\r\n\r\n"
            ),
            b"HTTP/1.1 403",
        ),
        Deed::Logout => {
            // As wget asks.
            let head = format!(
                "GET /internal/logout HTTP/1.1\r\nUser-Agent: Wget/1.21.3\r\nAccept: */*\r\nHost: {proxy}\r\n\r\n"
            );
            (head, b"HTTP/1.1 200")
        }
    };
    stream.set_nodelay(true)?;
    stream.write_all(request.as_bytes())?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    ensure!(&head == expected, "{deed:?} was answered {}", String::from_utf8_lossy(&head));
    Ok(())
}
