//! Tunnels between real sockets: nothing is lost, invented, reordered or told to somebody else.

mod copying;
mod ends;
mod moving;
mod pipes;
mod traffic;

use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::yield_now;

use self::traffic::{receive, send};
use super::*;
use crate::net::{ClientStream, Connections};
use crate::proxy::splice::pooled;
use crate::types::SessionId;

/// Nothing has moved for so long: nothing will.
const PAUSE: Duration = Duration::from_millis(200);

/// Tests that count pipes do it one after the other: their number is limited for the whole process.
static PIPES: Mutex<()> = Mutex::const_new(());

/// Two ends of a connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (far, near) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (near.unwrap().0, far.unwrap())
}

/// A tunnel's two sides, and what is behind them.
struct Lab {
    registry: Arc<Connections>,
    near: ClientStream,
    origin_near: TcpStream,
    client: TcpStream,
    origin: TcpStream,
}

async fn lab() -> Lab {
    let registry = Arc::new(Connections::new(None));
    let ((near, client), (origin_near, origin)) = (pair().await, pair().await);
    let peer = near.peer_addr().unwrap();
    let near = registry.accept(peer.ip().into(), peer, near);
    Lab { registry, near, origin_near, client, origin }
}

const fn side<T>(io: T) -> Side<T> {
    Side { io, early: Bytes::new() }
}

/// Closes with a reset.
fn reset(stream: TcpStream) {
    setsockopt(&stream, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
    drop(stream);
}

/// Kicks the user out of a tunnel that is full: it ends at once, with a reset, and what it holds for the client does not
/// reach it.
async fn assert_a_kick_out_ends_it(
    registry: &Connections,
    (near, mut client): (ClientStream, impl AsyncRead + Unpin),
    (far, mut origin): (TcpStream, TcpStream),
) {
    let connection = Arc::clone(near.connection());
    connection.bind(SessionId::test(1));
    let mut moved = Moved::default();
    let mut running = Box::pin(tunnel(side(near), side(far), &mut moved));
    let mut sent = 0;
    let large = vec![1; 1 << 16];
    tokio::select! {
        _ = &mut running => panic!("it ended too early"),
        () = async {
            while let Ok(written) = tokio::time::timeout(PAUSE, origin.write(&large)).await {
                sent += written.unwrap();
            }
        } => {}
    }
    assert_eq!(registry.destroy(connection.client(), SessionId::test(1), None), 1);
    assert!(running.await.is_err(), "the tunnel notices without being told");
    let mut received = 0;
    let mut buffer = vec![0; 1 << 16];
    while let Ok(bytes) = client.read(&mut buffer).await {
        assert!(bytes > 0, "it ended with a reset, not with a clean end");
        received += bytes;
    }
    assert!(received < sent, "{received} of {sent} bytes arrived");
}
