//! CONNECT: a tunnel to a port that is on the list.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tracing::debug;

use super::access::{Body, Entry};
use super::connection::{Client, Reply};
use super::destination::Destination;
use super::dial::dial;
use super::options::ProxyOptions;
use super::pages::Page;
use super::stats::Held;
use super::tunnel::{Moved, Side, tunnel};
use super::watch::Watched;
use crate::observe::ClientStream;
use crate::observe::connections::Carries;

pub(super) async fn connect(
    client: &Arc<Client>,
    mut request: Request<Incoming>,
    destination: &Destination,
    options: &Arc<ProxyOptions>,
    entry: &mut Option<Box<Entry>>,
) -> Reply {
    if !options.connect_ports.contains(&destination.port) {
        client.shared.stats.destinations_refused.inc();
        let text = format!("Tunnels to port {} are not allowed by this proxy.", destination.port);
        return Reply::page(Page::new(StatusCode::FORBIDDEN, text), request.into_body());
    }
    if !request.body().is_end_stream() {
        // It would have to be told from the tunnel's first bytes.
        let page = Page::bad_request("A CONNECT request has no content.");
        return Reply::page(page, request.into_body());
    }
    client.connection.carry(Carries::Tunnel { to: Arc::clone(&destination.key) });
    let origin = match dial(&client.shared, destination, options).await {
        Ok(origin) => origin,
        Err(failure) => return Reply::page(failure.page(destination), request.into_body()),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    if let Some(entry) = entry.take() {
        let origin = Side { io: origin, early: Bytes::new() };
        carry(client, upgrade, async { Some(origin) }, entry, StatusCode::OK);
    }
    Response::new(Body::empty()).into()
}

/// Starts the tunnel that begins when the client's connection has been taken over and the origin's is there.
pub(super) fn carry(
    client: &Arc<Client>,
    client_side: OnUpgrade,
    origin_side: impl Future<Output = Option<Side<TcpStream>>> + Send + 'static,
    mut entry: Box<Entry>,
    status: StatusCode,
) {
    let connection = Arc::clone(&client.connection);
    let open = Held::new(&client.shared.stats.tunnels_open);
    entry.status = Some(status);
    client.shared.tasks.spawn(async move {
        let _open = open;
        let mut moved = Moved::default();
        let run = async {
            let (near, far) = tokio::join!(client_side, origin_side);
            let (near, far) = (near.ok().and_then(into_client)?, far?);
            Some(tunnel(near, far, &mut moved).await)
        };
        let end = tokio::select! {
            end = run => end,
            () = connection.ended().cancelled() => None,
        };
        entry.received.bytes.store(moved.up, std::sync::atomic::Ordering::Relaxed);
        entry.sent = moved.down;
        match end {
            Some(Ok(())) => entry.complete(),
            Some(Err(error)) => debug!(client = %connection.client(), %error, "a tunnel broke"),
            None => {}
        }
    });
}

/// The client's own stream, out of what hyper wrapped around it, with what hyper had read too much.
fn into_client(upgraded: Upgraded) -> Option<Side<ClientStream>> {
    let parts = upgraded.downcast::<TokioIo<Watched>>().ok()?;
    Some(Side { io: parts.io.into_inner().into_inner(), early: parts.read_buf })
}

/// The same for the origin's.
pub(super) fn into_origin(upgraded: Upgraded) -> Option<Side<TcpStream>> {
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    Some(Side { io: parts.io.into_inner(), early: parts.read_buf })
}
