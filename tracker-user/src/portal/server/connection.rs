//! One connection: its handshake, and one request after the other.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::seat::Held;
use super::watched::Watched;
use crate::auth::Channel;
use crate::net::{ChannelBindingType, Security, ServedStream};
use crate::portal::visit::Arrived;
use crate::types::ClientAddr;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// How long a browser may take to send a request's head, from the connection or the answer before on: so long an idle
/// connection stays open.
const HEAD: Duration = Duration::from_secs(10);
/// No head is larger, in bytes: tickets of users with many groups have their place.
const LARGEST_HEAD: usize = 96 * 1024;
/// No head has more fields.
const MOST_FIELDS: usize = 100;

/// Serves a connection of `peer` until it ends, its place is taken, or the gateway stops: then, after the answer that is under
/// way.
pub(super) async fn serve(
    socket: TcpStream,
    peer: ClientAddr,
    security: Security,
    routes: Router,
    held: Held,
    stopped: CancellationToken,
) {
    let stream = tokio::select! {
        stream = secured(socket, &security) => stream,
        () = held.ended() => return,
        () = stopped.cancelled() => return,
    };
    let Some(stream) = stream else { return };
    let channel = match stream.channel_binding(ChannelBindingType::TlsServerEndPoint) {
        Some(binding) => Channel::Named(Arc::clone(binding.application_data())),
        None if stream.is_tls() => Channel::Unnamed,
        None => Channel::Plain,
    };
    let arrived = Arrived { peer, is_tls: stream.is_tls(), channel };
    let (seat, routes) = (held.seat(), TowerToHyperService::new(routes));
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(arrived.clone());
        request.extensions_mut().insert(seat.clone());
        routes.call(request)
    });
    let mut served = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_headers(MOST_FIELDS)
            .max_header_size(LARGEST_HEAD)
            .max_buf_size(LARGEST_HEAD + 16 * 1024)
            .serve_connection(TokioIo::new(Watched::new(stream, held.seat())), service)
    );
    let mut stops = false;
    loop {
        tokio::select! {
            done = served.as_mut() => {
                if let Err(error) = done {
                    debug!(%error, "a visitor's connection failed");
                }
                return;
            }
            () = held.ended() => {
                debug!("a visitor's connection was ended: too slow, or its place was needed");
                return;
            }
            () = stopped.cancelled(), if !stops => {
                stops = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}

/// The connection behind its handshake, if there is one.
async fn secured(socket: TcpStream, security: &Security) -> Option<ServedStream> {
    let Security::Tls(server) = security else { return Some(ServedStream::plain(socket)) };
    match timeout(HANDSHAKE, ServedStream::secure(socket, server)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            debug!(%error, "a visitor's handshake failed");
            None
        }
        Err(_) => None,
    }
}
