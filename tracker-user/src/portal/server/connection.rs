//! One connection: its handshake, and one request after the other.

use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tracing::debug;

use crate::auth::Channel;
use crate::net::{ChannelBindingType, Security, ServedStream};
use crate::portal::visit::Arrived;
use crate::types::ClientAddr;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// How long a browser may take to send a request's head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn serve(
    socket: TcpStream,
    peer: ClientAddr,
    security: Security,
    routes: Router,
    _slot: OwnedSemaphorePermit,
) {
    let stream = match security {
        Security::Plain => ServedStream::plain(socket),
        Security::Tls(server) => match timeout(HANDSHAKE, ServedStream::secure(socket, &server)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                debug!(%error, "a visitor's handshake failed");
                return;
            }
            Err(_) => return,
        },
    };
    let channel = match stream.channel_binding(ChannelBindingType::TlsServerEndPoint) {
        Some(binding) => Channel::Named(Arc::clone(binding.application_data())),
        None if stream.is_tls() => Channel::Unnamed,
        None => Channel::Plain,
    };
    let arrived = Arrived { peer, is_tls: stream.is_tls(), channel };
    let service = TowerToHyperService::new(routes.layer(Extension(arrived)));
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        debug!(%error, "a visitor's connection failed");
    }
}
