//! Bringing a client to the gateway's own pages: a connection on loopback, of which it is said first whose it is.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::clock::boot_now;
use crate::net::Handed;
use crate::net::handed::WAITS_FOR;
use crate::proxy::dial::{Failure, socket};
use crate::proxy::exchange::Peer;
use crate::proxy::limits::Why;
use crate::types::ClientAddr;

/// A connection to the pages for this peer's client, and nobody else's.
pub(in crate::proxy) async fn dial(
    peer: &Peer,
    handed: &Arc<Handed>,
    to: SocketAddr,
) -> Result<TcpStream, Failure> {
    let worker = peer.worker();
    let Ok(socket) = socket(worker, to) else {
        worker.shared.turned_away(Why::Descriptors);
        return Err(Failure::Short);
    };
    bring(socket, handed, peer.address(), to).await.ok_or(Failure::OwnPages)
}

async fn bring(
    socket: tokio::net::TcpSocket,
    handed: &Arc<Handed>,
    client: ClientAddr,
    to: SocketAddr,
) -> Option<TcpStream> {
    // Keeps the port ours for as long as it is announced, whatever becomes of the rest: dropped after it.
    let _held = socket.as_fd().try_clone_to_owned().ok()?;
    socket.bind(SocketAddr::new(to.ip(), 0)).ok()?;
    let mut announced = handed.announce(socket.local_addr().ok()?, client, boot_now())?;
    let reached = async {
        let stream = socket.connect(to).await.ok()?;
        announced.is_taken().await.then_some(stream)
    };
    timeout(WAITS_FOR, reached).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn whoever_accepts_it_knows_whose_it_is_before_it_is_used() {
        let (handed, listener) =
            (Arc::new(Handed::default()), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let client: ClientAddr = "192.0.2.7".parse().unwrap();
        let bringing = bring(TcpSocket::new_v4().unwrap(), &handed, client, listener.local_addr().unwrap());
        let accepting = async {
            let (_near, from) = listener.accept().await.unwrap();
            (handed.take(from, boot_now()), from)
        };
        let (stream, (whose, from)) = tokio::join!(bringing, accepting);
        assert_eq!((whose, stream.unwrap().local_addr().unwrap()), (Some(client), from));
    }

    #[tokio::test]
    async fn one_that_comes_to_nothing_is_announced_no_more() {
        let (handed, client) = (Arc::new(Handed::default()), "192.0.2.7".parse().unwrap());
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert!(bring(TcpSocket::new_v4().unwrap(), &handed, client, nobody).await.is_none());
        // Nobody accepts it, and its client goes away meanwhile.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let bringing = bring(TcpSocket::new_v4().unwrap(), &handed, client, to);
        assert!(timeout(std::time::Duration::from_millis(50), bringing).await.is_err());
        let (_, from) = listener.accept().await.unwrap();
        assert_eq!(handed.take(from, boot_now()), None);
    }
}
