//! Bytes through tunnels, as many as go: one end is the client, the other the origin, whose host's namespace this process
//! enters with some of its threads. So the reading end is always ours, and what counts is what was really read.
//!
//! The sending end uses `sendfile` from memory, so that the load is no slower than it must be.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Barrier, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sched::{CloneFlags, setns};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::sendfile::sendfile;

use rustls::ClientConfig;

use crate::tls::Line;
use crate::{figures, tls};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The proxy, or what leads straight to the origin.
    #[arg(long)]
    proxy: SocketAddr,
    /// Where the origin listens.
    #[arg(long)]
    origin: SocketAddr,
    /// The network namespace of the origin's host.
    #[arg(long)]
    origin_ns: PathBuf,
    /// `--proxy` wants no CONNECT.
    #[arg(long)]
    plain: bool,
    /// The proxy speaks TLS.
    #[arg(long)]
    tls: bool,
    #[arg(long, default_value_t = 1)]
    tunnels: usize,
    /// From the client to the origin, instead of the other way round.
    #[arg(long)]
    upload: bool,
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
}

/// What is sent, over and over.
const BLOCK: usize = 4 << 20;
/// What is asked for in one read.
const READ: usize = 256 << 10;

/// Opens the tunnels, and counts what arrives at their reading ends.
pub(crate) fn run(args: &Args) -> Result<()> {
    let received = Arc::new(AtomicU64::new(0));
    let start = Arc::new(Barrier::new(2 * args.tunnels + 1));
    let accepted = origin(&args.origin_ns, args.origin)?;
    let file = Arc::new(block()?);
    let tls = args.tls.then(|| tls::client(false)).transpose()?;
    for _ in 0..args.tunnels {
        let near = tunnel(args.proxy, (!args.plain).then_some(args.origin), tls.as_ref())?;
        let far = accepted.recv_timeout(Duration::from_secs(5)).context("nothing came to the origin")?;
        let far = Line::Plain(far);
        let (from, to) = if args.upload { (near, far) } else { (far, near) };
        let (ready, source) = (Arc::clone(&start), Arc::clone(&file));
        std::thread::spawn(move || {
            ready.wait();
            send(from, &source);
        });
        let (ready, count) = (Arc::clone(&start), Arc::clone(&received));
        std::thread::spawn(move || {
            ready.wait();
            receive(to, &count);
        });
    }
    figures::ready()?;
    start.wait();
    let begun = Instant::now();
    std::thread::sleep(Duration::from_secs_f64(args.seconds));
    let (bytes, seconds) = (received.load(Relaxed), begun.elapsed().as_secs_f64());
    ensure!(bytes > 0, "nothing went through");
    println!(
        r#"{{"bytes":{bytes},"seconds":{seconds:.6},"gb_per_second":{:.3}}}"#,
        bytes as f64 / 1e9 / seconds
    );
    // The end of the process ends its threads and connections.
    Ok(())
}

/// Listens on the origin's host, and hands out what comes.
pub(crate) fn origin(ns: &Path, at: SocketAddr) -> Result<mpsc::Receiver<TcpStream>> {
    let ns = File::open(ns)?;
    let (give, take) = mpsc::channel();
    let (said, listening) = mpsc::channel();
    std::thread::spawn(move || {
        let listener = setns(ns, CloneFlags::CLONE_NEWNET)
            .map_err(|error| anyhow!("setns: {error}"))
            .and_then(|()| TcpListener::bind(at).with_context(|| format!("listening on {at}")));
        let listener = match listener {
            Ok(listener) => listener,
            Err(error) => return drop(said.send(Err(error))),
        };
        let _ = said.send(Ok(()));
        for stream in listener.incoming().flatten() {
            if give.send(stream).is_err() {
                return;
            }
        }
    });
    listening.recv().context("the origin's thread ended")??;
    Ok(take)
}

/// A connection that leads to the origin, through a CONNECT if there is a target.
pub(crate) fn tunnel(
    proxy: SocketAddr,
    target: Option<SocketAddr>,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<Line> {
    let stream = TcpStream::connect(proxy).context("connecting")?;
    stream.set_nodelay(true)?;
    let mut stream = Line::new(stream, tls)?;
    stream.finish_handshake()?;
    if let Some(target) = target {
        write!(stream, "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n")?;
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).context("no answer to CONNECT")?;
            head.extend(byte);
        }
        ensure!(head.get(8..12) == Some(b" 200"), "no tunnel: {}", String::from_utf8_lossy(&head));
    }
    Ok(stream)
}

fn block() -> Result<File> {
    let mut file = File::from(memfd_create("block", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&vec![b'x'; BLOCK])?;
    Ok(file)
}

fn send(to: Line, file: &File) {
    let mut to = match to {
        Line::Plain(to) => loop {
            let mut offset = 0;
            while usize::try_from(offset).is_ok_and(|offset| offset < BLOCK) {
                if sendfile(&to, file, Some(&mut offset), BLOCK).is_err() {
                    return;
                }
            }
        },
        tls @ Line::Tls(_) => tls,
    };
    let block = [b'x'; 64 << 10];
    while to.write_all(&block).is_ok() {}
}

fn receive(mut from: Line, count: &AtomicU64) {
    let mut chunk = vec![0; READ];
    while let Ok(read @ 1..) = from.read(&mut chunk) {
        count.fetch_add(read as u64, Relaxed);
    }
}
