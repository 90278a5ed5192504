//! The listeners: connections are accepted, bounded, and their requests handed to the routes.

mod arrival;
mod connection;
mod inner;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use axum::Router;
use axum::middleware::from_fn_with_state;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::arrival::{Door, arrive};
use self::connection::serve;
pub use self::inner::InnerListeners;
use self::inner::Way;
use super::settings::Settings;
use super::site::{Parts, Site};
use super::{admin, assets, login, logout, own, pac, password, status};
use crate::net::{Endpoint, Listener};

/// So many connections at once; others wait.
const CONNECTIONS: usize = 512;

/// The portal, bound but not running.
pub struct Portal {
    listeners: Vec<Listener>,
    inner: InnerListeners,
    site: Site,
}

/// The portal as it runs: what may be changed of it, and how it is stopped.
#[derive(Clone)]
pub struct Running {
    site: Site,
    stopped: CancellationToken,
}

impl Portal {
    /// Binds what it listens on; what the proxy reaches it by is bound already.
    ///
    /// # Errors
    /// The address that cannot be bound, and why.
    pub fn bind(
        endpoints: &[Endpoint],
        inner: InnerListeners,
        parts: Parts,
        settings: Settings,
    ) -> Result<Self, (SocketAddr, io::Error)> {
        let bound =
            endpoints.iter().map(|endpoint| endpoint.bind().map_err(|error| (endpoint.address, error)));
        let listeners = bound.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { listeners, inner, site: Site::new(parts, settings) })
    }

    /// What may be changed of it while it runs.
    #[must_use]
    pub fn controls(&self) -> Running {
        Running { site: self.site.clone(), stopped: CancellationToken::new() }
    }

    /// Serves on a thread and a runtime of its own, until `running` is stopped.
    ///
    /// # Errors
    /// When there is no thread or runtime.
    pub fn start(self, running: &Running) -> io::Result<()> {
        let stopped = running.stopped.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let Self { listeners, inner, site } = self;
        thread::Builder::new().name("portal".into()).spawn(move || {
            runtime.block_on(stopped.run_until_cancelled(run(listeners, inner, site)));
        })?;
        Ok(())
    }
}

impl Running {
    /// Goes by other settings from now on.
    pub fn configure(&self, settings: Settings) {
        self.site.configure(settings);
    }

    /// Stops.
    pub fn stop(&self) {
        self.stopped.cancel();
    }
}

async fn run(listeners: Vec<Listener>, inner: InnerListeners, site: Site) {
    let Ok(door) = Door::new(site.clone()) else {
        warn!("the portal does not run: the system has no randomness");
        return;
    };
    let routes = routes(&site, &door);
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let direct = listeners.into_iter().map(|listener| (listener, Way::Direct));
    let accepting = direct
        .chain(inner.into_ways())
        .map(|(listener, way)| accept(listener, way, routes.clone(), Arc::clone(&slots)));
    futures_util::future::join_all(accepting).await;
}

/// All routes, behind what every request goes through.
fn routes(site: &Site, door: &Door) -> Router {
    Router::new()
        .merge(own::routes())
        .merge(login::routes())
        .merge(password::routes())
        .merge(logout::routes())
        .merge(pac::routes())
        .merge(status::routes())
        .merge(admin::routes())
        .merge(assets::routes())
        .fallback(arrival::no_such_page)
        .method_not_allowed_fallback(arrival::no_such_method)
        .layer(from_fn_with_state(door.clone(), arrive))
        .with_state(site.clone())
}

async fn accept(listener: Listener, way: Way, routes: Router, slots: Arc<Semaphore>) {
    let listener = match listener.register() {
        Ok(listener) => listener,
        Err(error) => {
            warn!(%error, "the portal cannot watch a listener");
            return;
        }
    };
    loop {
        // Never closed.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((socket, peer)) => {
                let Some(peer) = way.client(peer) else { continue };
                tokio::spawn(serve(socket, peer, listener.security().clone(), routes.clone(), slot));
            }
            Err(error) => {
                warn!(%error, "a visitor's connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}
