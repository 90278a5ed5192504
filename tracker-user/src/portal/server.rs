//! The listeners: connections are accepted, bounded, and their requests handed to the routes.

mod arrival;
mod connection;
mod form;
mod forwarded;
mod host;
mod inner;
mod line;
mod places;
mod seat;
mod watched;

use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::arrival::{Door, arrive};
use self::connection::serve;
pub use self::inner::InnerListeners;
use self::inner::Way;
use self::seat::Seats;
use super::settings::Settings;
use super::site::{Parts, Site};
use super::{admin, app_passwords, assets, login, logout, own, pac, password, second_factor, status};
use crate::clock::{BootTime, boot_now};
use crate::net::{Endpoint, Listener};
use crate::types::ClientAddr;

/// How often it is looked whether somebody takes too long.
const LOOK: Duration = Duration::from_secs(1);
/// How often the logins to the pages are looked through that may be over.
const SWEEP: Duration = Duration::from_secs(60);
/// How long a listener that cannot accept is left alone, and how often that is told.
const PAUSE: Duration = Duration::from_millis(100);
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// So much the pages stand back where requests of the proxy want the same core: nice values are from -20 to 19, the usual is 0.
const NICE: i32 = 10;
/// How long a stop waits for answers that are under way.
const DRAIN: Duration = Duration::from_secs(3);

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
    gone: CancellationToken,
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
        let (stopped, gone) = (CancellationToken::new(), CancellationToken::new());
        Running { site: self.site.clone(), stopped, gone }
    }

    /// Serves on a thread and a runtime of its own, until `running` is stopped.
    ///
    /// # Errors
    /// When there is no thread or runtime.
    pub fn start(self, running: &Running) -> io::Result<()> {
        let (stopped, gone) = (running.stopped.clone(), running.gone.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let Self { listeners, inner, site } = self;
        thread::Builder::new().name("portal".into()).spawn(move || {
            // Of this thread alone, on Linux (nice(2)).
            if let Err(error) = rustix::process::nice(NICE) {
                warn!(%error, "pages are made as urgently as requests are served");
            }
            runtime.block_on(run(listeners, inner, site, &stopped));
            gone.cancel();
        })?;
        Ok(())
    }
}

impl Running {
    /// Goes by other settings from now on.
    pub fn configure(&self, settings: Settings) {
        self.site.configure(settings);
    }

    /// Stops: nobody is accepted any more, and what is being answered is answered, for as long as there is patience.
    pub async fn stop(&self) {
        self.stopped.cancel();
        // One that never started is not waited for for long.
        let _ = timeout(DRAIN + LOOK, self.gone.cancelled()).await;
    }
}

async fn run(listeners: Vec<Listener>, inner: InnerListeners, site: Site, stopped: &CancellationToken) {
    let Ok(door) = Door::new(site.clone()) else {
        warn!("the portal does not run: the system has no randomness");
        return;
    };
    let (routes, seats) = (routes(&site, &door), Seats::new(site.parts().stats.clone()));
    let direct = listeners.into_iter().map(|listener| (listener, Way::Direct));
    let accepting = direct.chain(inner.into_ways()).map(|(listener, way)| {
        let hall = Hall {
            site: site.clone(),
            routes: routes.clone(),
            seats: seats.clone(),
            stopped: stopped.clone(),
        };
        hall.accept(listener, way)
    });
    let serving = async {
        tokio::join!(futures_util::future::join_all(accepting), watch(&seats), sweep(&site));
    };
    stopped.run_until_cancelled(serving).await;
    seats.end_streams();
    let _ = timeout(DRAIN, seats.until(false)).await;
}

/// Ends what takes too long. While nobody is there, nothing is looked at.
async fn watch(seats: &Seats) {
    loop {
        seats.until(true).await;
        sleep(LOOK).await;
        seats.end_overdue();
    }
}

/// Forgets logins to the pages that are over.
async fn sweep(site: &Site) {
    loop {
        sleep(SWEEP).await;
        site.sweep_web_sessions().await;
    }
}

/// All routes, behind what every request goes through.
fn routes(site: &Site, door: &Door) -> Router {
    Router::new()
        .merge(own::routes())
        .merge(login::routes())
        .merge(password::routes())
        .merge(second_factor::routes())
        .merge(logout::routes())
        .merge(pac::routes())
        .merge(status::routes())
        .merge(admin::routes())
        .merge(app_passwords::routes())
        .merge(assets::routes())
        .fallback(arrival::no_such_page)
        .method_not_allowed_fallback(arrival::no_such_method)
        .layer(from_fn_with_state(door.clone(), arrive))
        .with_state(site.clone())
}

/// What whoever accepts works with.
struct Hall {
    site: Site,
    routes: Router,
    seats: Seats,
    stopped: CancellationToken,
}

impl Hall {
    async fn accept(self, listener: Listener, way: Way) {
        let listener = match listener.register() {
            Ok(listener) => listener,
            Err(error) => {
                warn!(%error, "the portal cannot watch a listener");
                return;
            }
        };
        let mut told: Option<BootTime> = None;
        loop {
            match listener.accept().await {
                Ok((socket, peer)) => {
                    let Some(peer) = way.client(peer) else { continue };
                    let Some(held) = self.place(peer) else { continue };
                    let (security, routes) = (listener.security().clone(), self.routes.clone());
                    tokio::spawn(serve(socket, peer, security, routes, held, self.stopped.clone()));
                }
                Err(error) => {
                    // Most often there is no descriptor left, for whatever reason.
                    self.seats.give_one_up();
                    if told.is_none_or(|at| boot_now().since(at) >= TOLD_EVERY) {
                        told = Some(boot_now());
                        warn!(%error, "a visitor's connection could not be accepted");
                    }
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// A place for a connection of this client.
    fn place(&self, peer: ClientAddr) -> Option<seat::Held> {
        let settings = self.site.settings();
        let is_in_front = settings.trusted_proxies.iter().any(|network| network.contains(&peer.ip()));
        let network = (!is_in_front).then(|| places::Network::from(peer));
        self.seats
            .take(network)
            .inspect_err(|full| {
                let cause = match full {
                    places::Full::Network => "client-connections",
                    places::Full::All => "connections",
                };
                self.site.parts().stats.refused(cause).inc();
            })
            .ok()
    }
}
