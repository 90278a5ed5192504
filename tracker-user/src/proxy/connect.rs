//! CONNECT: a tunnel to a port that is on the list.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use tokio::net::TcpStream;
use tracing::debug;

use super::access::Entry;
use super::destination::Destination;
use super::dial::reach;
use super::exchange::{Downstream, Peer, Reply, Right};
use super::message::RequestHead;
use super::options::ProxyOptions;
use super::ports;
use super::stats::Held;
use super::tunnel::{Moved, Side, tunnel};
use super::worker::Worker;
use crate::net::{Carries, ClientStream};
use crate::types::UserMessage;

/// Makes the tunnel, and tells the client.
pub(super) async fn connect<D: Downstream>(
    peer: &Peer,
    head: RequestHead,
    down: &mut D,
    destination: &Arc<Destination>,
    options: &ProxyOptions,
    right: &Right,
) -> Result<Option<Side<TcpStream>>, Reply> {
    let has_content = head.line().has_content();
    // Its memory is not held while the origin is waited for.
    drop(head);
    if right.user().is_some() && !ports::are_open(&options.connect_ports, destination.port) {
        let port = UserMessage::new("Tunnels to port ").number(destination.port);
        let text = port.then(" are not allowed by this proxy.");
        return Err(ports::closed(peer, down.entry(), destination, &text));
    }
    if has_content {
        // It would have to be told from the tunnel's first bytes.
        return Err(Reply::bad_request(&UserMessage::new("A CONNECT request has no content.")));
    }
    peer.connection().begin_exchange(down.number(), Carries::Tunnel { to: Arc::clone(&destination.key) });
    // The answer's time is the tunnel's maker's.
    down.timer().clear();
    let origin = match reach(peer, down.entry(), destination, options, right).await {
        Ok(origin) => origin,
        Err(failure) => {
            down.entry().line().problem = Some(failure.to_string());
            return Err(failure.reply(destination));
        }
    };
    down.timer().set(options.header_timeout);
    if down.open_tunnel(right.mutual_auth()).await.is_err() {
        return Ok(None);
    }
    down.entry().line().status = Some(StatusCode::OK);
    Ok(Some(Side { io: origin, early: Bytes::new() }))
}

/// Carries a tunnel to its end.
pub(super) async fn carry(
    worker: Rc<Worker>,
    _open: Held,
    near: Side<ClientStream>,
    far: Side<TcpStream>,
    mut entry: Entry,
) {
    let connection = Arc::clone(near.io.connection());
    let _tunnel_open = Held::new(&worker.shared.stats.tunnels_open);
    let mut moved = Moved::default();
    let end = {
        let mut tunnel = std::pin::pin!(tunnel(near, far, &mut moved));
        std::future::poll_fn(|cx| connection.poll_until_end(cx, tunnel.as_mut())).await
    };
    entry.line().received = moved.up;
    entry.line().sent = moved.down;
    if let Some(Err(error)) = &end {
        debug!(client = %connection.client(), %error, "a tunnel broke");
    }
    entry.finish(matches!(end, Some(Ok(()))));
}
