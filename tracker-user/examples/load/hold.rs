//! Connections that do nothing: tunnels that have carried a few bytes, or clients that have asked once and stay.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::tls::Line;
use crate::{figures, stream, tls};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The proxy, or what leads straight to the origin.
    #[arg(long)]
    proxy: SocketAddr,
    /// Where the origin listens: this process itself for tunnels, a web server otherwise.
    #[arg(long)]
    origin: SocketAddr,
    /// The network namespace of the origin's host: there shall be tunnels. Without it, connections are kept alive.
    #[arg(long)]
    tunnels_to: Option<PathBuf>,
    /// `--proxy` wants no CONNECT.
    #[arg(long)]
    plain: bool,
    /// The proxy speaks TLS.
    #[arg(long)]
    tls: bool,
    #[arg(long)]
    count: usize,
}

/// What each tunnel carries, there and back.
const WORD: &[u8; 16] = b"sixteen bytes...";

/// Opens them, and holds them until the word comes.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut held = Vec::new();
    let tls = args.tls.then(|| tls::client(false)).transpose()?;
    if let Some(ns) = &args.tunnels_to {
        let accepted = stream::origin(ns, args.origin)?;
        for _ in 0..args.count {
            let mut near = stream::tunnel(args.proxy, (!args.plain).then_some(args.origin), tls.as_ref())?;
            // What passes everything on connects when the handshake is done.
            near.write_all(WORD)?;
            let mut far = Line::Plain(accepted.recv().context("the origin has gone")?);
            pass(&mut far)?;
            far.write_all(WORD)?;
            pass(&mut near)?;
            held.extend([near, far]);
        }
    } else {
        let origin = args.origin;
        let request = format!("GET http://{origin}/1k HTTP/1.1\r\nHost: {origin}\r\n\r\n");
        for _ in 0..args.count {
            let mut stream = Line::new(TcpStream::connect(args.proxy)?, tls.as_ref())?;
            stream.write_all(request.as_bytes())?;
            ask(&mut stream)?;
            held.push(stream);
        }
    }
    figures::ready()?;
    println!(r#"{{"held":{}}}"#, args.count);
    drop(held);
    Ok(())
}

fn pass(stream: &mut Line) -> Result<()> {
    let mut word = [0; WORD.len()];
    stream.read_exact(&mut word)?;
    ensure!(&word == WORD, "something else came through");
    Ok(())
}

/// Reads the answer to the end of its body, which is a kibibyte of `x`.
fn ask(stream: &mut Line) -> Result<()> {
    let mut received = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk)?;
        ensure!(count > 0, "it ended: {}", String::from_utf8_lossy(&received));
        received.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let head = received.windows(4).position(|four| four == b"\r\n\r\n");
        if head.is_some_and(|head| received.len() >= head + 4 + 1024) {
            ensure!(received.get(8..12) == Some(b" 200"), "{}", String::from_utf8_lossy(&received));
            return Ok(());
        }
    }
}
