//! CONNECT: a tunnel to a port that is on the list.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use tokio::net::TcpStream;
use tracing::debug;

use super::access::Entry;
use super::client::{Client, Next, Refusal};
use super::destination::Destination;
use super::dial::dial;
use super::http1::Request;
use super::options::ProxyOptions;
use super::pages::Page;
use super::ports;
use super::stats::Held;
use super::tunnel::{Moved, Side, tunnel};
use super::worker::Worker;
use crate::net::{Carries, ClientStream};
use crate::types::UserMessage;

pub(super) async fn connect(
    client: &mut Client,
    request: &Request,
    destination: &Arc<Destination>,
    options: &ProxyOptions,
    proof: Option<String>,
) -> Result<Next, Box<Refusal>> {
    client.input.consume(request.length);
    let refuse = |page, proof| Box::new(Refusal { page, rest: request.body(), proof });
    if !ports::are_open(&options.connect_ports, destination.port) {
        let port = UserMessage::new("Tunnels to port ").number(destination.port);
        let text = port.then(" are not allowed by this proxy.");
        return Err(refuse(ports::closed(client, destination, &text), proof));
    }
    if request.has_content() {
        // It would have to be told from the tunnel's first bytes.
        return Err(refuse(Page::bad_request(&UserMessage::new("A CONNECT request has no content.")), proof));
    }
    client.connection.carry(Carries::Tunnel { to: Arc::clone(&destination.key) });
    // The answer's time is the tunnel's maker's.
    client.timer.clear();
    let origin = match dial(client, destination, options).await {
        Ok(origin) => origin,
        Err(failure) => {
            client.entry.line().problem = Some(failure.to_string());
            return Err(refuse(failure.page(destination), proof));
        }
    };
    let mut answer = format!("{} 200 Connection established\r\n", request.version.as_str());
    if let Some(proof) = proof {
        answer = format!("{answer}Proxy-Authenticate: {proof}\r\n");
    }
    answer.push_str("\r\n");
    client.timer.set(options.header_timeout);
    if client.send(answer.as_bytes()).await.is_err() {
        return Ok(Next::Close);
    }
    client.entry.line().status = Some(StatusCode::OK);
    Ok(Next::Tunnel(Side { io: origin, early: Bytes::new() }))
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
