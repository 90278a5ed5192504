//! Taking connections in.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tracing::warn;
use tracker_ebpf::abi::ClientAddr;

use super::{Shared, connection};

/// How long to wait when the process has no descriptor left: some connection will end meanwhile.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Accepts until the proxy stops accepting; each connection gets a task.
pub(super) async fn run(shared: Arc<Shared>, listener: TcpListener) {
    let stopping = shared.stopping.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping.cancelled() => return,
        };
        let accepted = accepted.and_then(|(stream, peer)| Ok((stream.local_addr()?, stream, peer)));
        match accepted {
            Ok((local, stream, peer)) => {
                let client = ClientAddr::from(peer.ip());
                let stream = shared.connections.accept(client, peer, local, stream);
                let shared = Arc::clone(&shared);
                shared.tasks.clone().spawn(connection::run(shared, stream));
            }
            // The client has gone again.
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                warn!(%error, "no connection can be accepted at the moment");
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::NotConnected
    )
}
