//! The explicit proxy: connections in, who they are served for, requests and tunnels out.
//!
//! [`Proxy::bind`] takes the ports, [`Proxy::spawn`] begins to serve, [`Running`] is the handle on what runs. Each core
//! has a thread, a runtime and listening sockets of its own (`worker`); per connection there is one task (`front`). A
//! front makes an exchange of each request (`exchange`), which goes through `authorize` (for whom?), then `forward` or
//! `connect` (whereto?), and ends as a line of the access log (`access`).

pub mod access;
mod authorize;
mod balancer;
mod buffer;
mod connect;
pub mod decision_log;
mod destination;
mod dial;
mod exchange;
mod forward;
mod front;
pub mod gate;
mod guard;
mod handshakes;
mod http1;
mod in_the_clear;
mod limits;
mod message;
pub mod options;
mod own_pages;
mod penalty;
mod pool;
mod ports;
mod splice;
pub mod stats;
mod tally;
mod timer;
mod tunnel;
mod worker;

#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::access::AccessLog;
pub use self::balancer::Balancers;
pub use self::decision_log::DecisionLog;
pub use self::gate::Gate;
pub use self::options::{AllowList, ProxyOptions};
pub use self::own_pages::{OwnPages, Way};
pub use self::stats::Stats;
use crate::auth::{LogoutHolds, ReturnTargets, Verifier};
use crate::clock::boot_now;
use crate::net::{Connections, Endpoint, Listener};
use crate::pages::Languages;
use crate::threads::Threads;

/// How long ended connections may take to be dropped.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// What the proxy works with.
pub struct Parts {
    /// The tracker.
    pub gate: Arc<dyn Gate>,
    /// Who verifies tokens.
    pub verifier: Arc<Verifier>,
    /// Where decisions are remembered.
    pub decisions: Arc<DecisionLog>,
    /// Where connections are registered.
    pub connections: Arc<Connections>,
    /// Where nobody is logged in silently.
    pub holds: Arc<LogoutHolds>,
    /// What is counted.
    pub stats: Stats,
    /// Where requests are logged.
    pub access: AccessLog,
    /// Where people wanted to go who are led to log in.
    pub targets: Arc<ReturnTargets>,
    /// The languages of pages.
    pub languages: Arc<Languages>,
    /// What it goes by at first.
    pub options: ProxyOptions,
    /// How many threads serve: one for each core is best.
    pub workers: usize,
}

/// What all connections share.
struct Shared {
    gate: Arc<dyn Gate>,
    verifier: Arc<Verifier>,
    decisions: Arc<DecisionLog>,
    connections: Arc<Connections>,
    holds: Arc<LogoutHolds>,
    stats: Stats,
    access: AccessLog,
    targets: Arc<ReturnTargets>,
    languages: Arc<Languages>,
    options: ArcSwap<ProxyOptions>,
    /// Counts the changes of the options: a connection to an origin is used again only under those that allowed it.
    generation: AtomicU64,
    changed: Notify,
    resolver: Threads,
    doorkeeper: limits::Doorkeeper,
    in_the_clear: in_the_clear::Passwords,
    balancers_told: balancer::Told,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

impl Shared {
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

/// The proxy cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A port cannot be listened on.
    #[error("{address} cannot be listened on: {error}")]
    Address {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// A thread cannot be started.
    #[error("the threads that serve connections cannot be started: {0}")]
    Thread(#[source] io::Error),
}

/// Bound to its ports; nobody is served yet, but clients can already connect.
pub struct Proxy {
    addresses: Vec<SocketAddr>,
    /// Each worker waits for its word.
    workers: Vec<oneshot::Sender<()>>,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Binds every endpoint once for each thread, and starts the threads that serve.
    ///
    /// # Errors
    /// When one of them cannot be had.
    pub fn bind(endpoints: &[Endpoint], parts: Parts) -> Result<Self, BindError> {
        let Parts {
            gate,
            verifier,
            decisions,
            connections,
            holds,
            stats,
            access,
            targets,
            languages,
            options,
            workers,
        } = parts;
        let in_the_clear = in_the_clear::Passwords::new(&stats);
        let mut addresses = Vec::new();
        let mut shares: Vec<Vec<_>> = (0..workers.max(1)).map(|_| Vec::new()).collect();
        for endpoint in endpoints {
            let group = endpoint
                .bind_group(shares.len())
                .map_err(|error| BindError::Address { address: endpoint.address, error })?;
            addresses.extend(group.first().map(Listener::address));
            for (share, listener) in shares.iter_mut().zip(group) {
                share.push(listener);
            }
        }
        let shared = Arc::new(Shared {
            gate,
            verifier,
            decisions,
            connections,
            holds,
            stats,
            access,
            targets,
            languages,
            options: ArcSwap::from_pointee(options),
            generation: AtomicU64::new(0),
            changed: Notify::new(),
            resolver: Threads::start("resolver", dial::RESOLVER).map_err(BindError::Thread)?,
            doorkeeper: limits::Doorkeeper::default(),
            in_the_clear,
            balancers_told: balancer::Told::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
        });
        crate::net::descriptors::look();
        let of = shares.len();
        let mut workers = Vec::new();
        for (number, listeners) in shares.into_iter().enumerate() {
            let (begin, word) = oneshot::channel();
            worker::start(number, of, Arc::clone(&shared), listeners, word).map_err(BindError::Thread)?;
            workers.push(begin);
        }
        Ok(Self { addresses, workers, shared })
    }

    /// The addresses that are listened on.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The handle on what will run.
    #[must_use]
    pub fn controls(&self) -> Running {
        Running { shared: Arc::clone(&self.shared) }
    }

    /// Begins to serve.
    #[must_use]
    pub fn spawn(self) -> Running {
        for begin in self.workers {
            // None is gone: a worker ends with the proxy, and its panic would end the process.
            let _ = begin.send(());
        }
        Running { shared: self.shared }
    }
}

/// The proxy while it runs.
#[derive(Clone)]
pub struct Running {
    shared: Arc<Shared>,
}

impl Running {
    /// Goes by other options from now on. Idle connections to origins are closed: the new options may not allow them.
    pub fn configure(&self, options: ProxyOptions) {
        self.shared.options.store(Arc::new(options));
        self.shared.generation.fetch_add(1, Ordering::AcqRel);
        self.shared.changed.notify_waiters();
    }

    /// What operators should be told of who was turned away, and of what should not have come.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let Shared { doorkeeper, balancers_told, in_the_clear, .. } = &*self.shared;
        let mut found = [doorkeeper.warnings(), balancers_told.warnings()].concat();
        found.extend(in_the_clear.warning(boot_now()));
        found
    }

    /// Takes no more connections, lets what is being served end for at most `grace`, then ends the rest.
    pub async fn drain(self, grace: Duration) {
        let Shared { stopping, connections, tasks, .. } = &*self.shared;
        stopping.cancel();
        tasks.close();
        connections.retire_all();
        if timeout(grace, tasks.wait()).await.is_err() {
            connections.end_all();
            // What does not end now ends with the process.
            let _ = timeout(END_TIMEOUT, tasks.wait()).await;
        }
        self.shared.access.flush();
    }
}
