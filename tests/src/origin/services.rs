//! The origin's plain TCP services, for tunnels.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Echoes; when the client has finished sending, says `bye` and closes.
pub const ECHO_PORT: u16 = 7000;
/// Swallows; when the client has finished sending, tells how many bytes there were and closes.
pub const SINK_PORT: u16 = 7001;
/// Sends a byte every 100 ms and reads nothing.
pub const DRIP_PORT: u16 = 7002;
/// Resets the connection after the first byte it gets.
pub const RESET_PORT: u16 = 7003;
/// Accepts and reads, but never answers nor closes.
pub const SILENT_PORT: u16 = 7004;

/// Opens the ports and serves them as long as the runtime lives.
pub(super) async fn start() -> Result<()> {
    for port in [ECHO_PORT, SINK_PORT, DRIP_PORT, RESET_PORT, SILENT_PORT] {
        let listener = TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await?;
        tokio::spawn(async move {
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(one(port, stream));
                }
            }
        });
    }
    Ok(())
}

async fn one(port: u16, mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    match port {
        ECHO_PORT => echo(stream).await,
        DRIP_PORT => {
            while stream.write_all(b".").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        RESET_PORT => {
            let _ = stream.read(&mut [0; 1]).await;
            let _ = stream.set_zero_linger();
        }
        _ => {
            let count = drain(&mut stream).await;
            if port == SILENT_PORT {
                std::future::pending::<()>().await;
            }
            let _ = stream.write_all(format!("{count}\n").as_bytes()).await;
        }
    }
}

/// Reads to the end and counts.
async fn drain(stream: &mut TcpStream) -> u64 {
    let mut chunk = vec![0; 64 * 1024];
    let mut count = 0;
    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
        count += read as u64;
    }
    count
}

/// Echoes to the end, then says goodbye: whoever has half-closed still hears it.
pub(super) async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
        if stream.write_all(&chunk[..read]).await.is_err() || stream.flush().await.is_err() {
            return;
        }
    }
    let _ = stream.write_all(b"bye\n").await;
    let _ = stream.shutdown().await;
}
