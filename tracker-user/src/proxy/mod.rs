//! The explicit proxy: connections in, who they are served for, requests and tunnels out.
//!
//! [`Proxy::bind`] takes the ports, [`Proxy::spawn`] begins to serve, [`Running`] is the handle on what runs. Per
//! connection there is one task (`connection`); a request goes through `admit` (for whom?), then `forward` or `connect`
//! (whereto?), and ends as a line of the access log (`access`).

mod accept;
mod access;
mod admit;
mod challenge;
mod connect;
mod connection;
mod destination;
mod dial;
mod forward;
pub mod gate;
mod guard;
mod headers;
mod leftover;
pub mod options;
mod pages;
mod pool;
mod sockets;
pub mod stats;
mod tunnel;
mod upgrade;
mod watch;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::gate::Gate;
pub use self::options::{AllowList, ProxyOptions};
pub use self::stats::Stats;
use crate::auth::Verifier;
use crate::observe::Connections;

/// How long ended connections may take to be dropped.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// What the proxy works with.
pub struct Parts {
    /// The tracker.
    pub gate: Arc<dyn Gate>,
    /// Who verifies tokens.
    pub verifier: Arc<Verifier>,
    /// Where connections are registered.
    pub connections: Arc<Connections>,
    /// What is counted.
    pub stats: Stats,
    /// What it goes by at first.
    pub options: ProxyOptions,
}

/// What all connections share.
struct Shared {
    gate: Arc<dyn Gate>,
    verifier: Arc<Verifier>,
    connections: Arc<Connections>,
    stats: Stats,
    options: ArcSwap<ProxyOptions>,
    guard: guard::Guard,
    pool: pool::Pool,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

/// No port can be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{address} cannot be listened on: {error}")]
pub struct BindError {
    /// Which.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub error: io::Error,
}

/// Bound to its ports; nobody is served yet, but clients can already connect.
pub struct Proxy {
    listeners: Vec<TcpListener>,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Takes the ports. Within a tokio runtime.
    ///
    /// # Errors
    /// When one of them cannot be had.
    pub fn bind(listen: &[SocketAddr], parts: Parts) -> Result<Self, BindError> {
        let listeners = listen
            .iter()
            .map(|&address| sockets::listen(address).map_err(|error| BindError { address, error }))
            .collect::<Result<_, _>>()?;
        let Parts { gate, verifier, connections, stats, options } = parts;
        let shared = Arc::new(Shared {
            gate,
            verifier,
            connections,
            stats,
            options: ArcSwap::from_pointee(options),
            guard: guard::Guard::default(),
            pool: pool::Pool::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
        });
        Ok(Self { listeners, shared })
    }

    /// The addresses that are listened on.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }

    /// Begins to serve.
    #[must_use]
    pub fn spawn(self) -> Running {
        let Self { listeners, shared } = self;
        for listener in listeners {
            shared.tasks.spawn(accept::run(Arc::clone(&shared), listener));
        }
        shared.tasks.spawn(sweep(Arc::clone(&shared)));
        Running { shared }
    }
}

/// The proxy while it runs.
pub struct Running {
    shared: Arc<Shared>,
}

impl Running {
    /// Goes by other options from now on. Idle connections to origins are closed: the new options may not allow them.
    pub fn configure(&self, options: ProxyOptions) {
        self.shared.options.store(Arc::new(options));
        self.shared.pool.clear();
    }

    /// Takes no more connections, lets what is being served end for at most `grace`, then ends the rest.
    pub async fn drain(self, grace: Duration) {
        let Shared { stopping, connections, tasks, pool, .. } = &*self.shared;
        stopping.cancel();
        tasks.close();
        connections.retire_all();
        if timeout(grace, tasks.wait()).await.is_err() {
            connections.end_all();
            // What does not end now ends with the runtime.
            let _ = timeout(END_TIMEOUT, tasks.wait()).await;
        }
        pool.clear();
    }
}

/// Closes origins' connections that have been idle for too long.
async fn sweep(shared: Arc<Shared>) {
    let stopping = shared.stopping.clone();
    loop {
        let idle_timeout = shared.options.load().pool_idle_timeout;
        let pause = (idle_timeout / 4).max(Duration::from_secs(1));
        if timeout(pause, stopping.cancelled()).await.is_ok() {
            return;
        }
        shared.pool.sweep(idle_timeout);
    }
}
