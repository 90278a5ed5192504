//! The wiring, in three phases: parsed ([`Config`]), bound ([`App::bind`]: everything that can fail at start has been
//! tried), running ([`App::run`]).

mod applications;
mod apply;
mod certificates;
mod factors;
mod kept;
mod logouts;
mod mail;
mod options;
mod passwords;
mod portal;
mod regulated;
mod watch;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::Registry;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use self::apply::Applied;
use self::kept::{replaced, witness};
use self::logouts::{held, holds};
use self::options::{kerberos, observe_options, policy, proxy_options};
use self::passwords::Door;
use self::regulated::Regulated;
use crate::admin::server::AdminServer;
use crate::audit::{Actor, Audit, Via};
use crate::auth::kerberos::TicketVerifier;
use crate::auth::kerberos::negotiate;
use crate::auth::kerberos::negotiate::{Account, Counters};
use crate::auth::password::LocalUsers;
use crate::auth::{ReturnTargets, Verifier};
use crate::clock::wall_now;
use crate::config;
use crate::config::{Config, Document};
use crate::metrics::{CertificateCollector, MetricsServer, ObserverCollector, Readiness};
use crate::net::certificates::{CertificateError, Keeper, Shown};
use crate::net::{Connections, Endpoint, Security, Service};
use crate::observe::{Kind, ObserveError, Observer, Pinning};
use crate::ops;
use crate::ops::{Configuration, Limits, Ops, Start};
use crate::output::Output;
use crate::portal as web;
use crate::proxy;
use crate::proxy::{AccessLog, BindError, DecisionLog, Proxy, Stats};
use crate::store::{Entry, Journal, SealerError, Store, StoreError};
use crate::threads::{Size, Threads};
use crate::tracker::{EventLoop, Metrics, Parts, Tracker};

/// How late the number of refusals without a line of their own may be told, after the minute that it is of.
const SETTLE_REFUSALS: Duration = Duration::from_secs(10);
/// What the tracker has others do: dumps of sockets.
const HELPERS: Size = Size { least: 1, most: 2, queue: 8 };
/// What operators have others do: reads of the records and the store, writes of settings. What they wait for, nobody else
/// does.
const OPERATORS: Size = Size { least: 1, most: 4, queue: 64 };

/// How long a stop waits for the side tasks to end.
const SIDE_TASKS: Duration = Duration::from_secs(1);

/// How long a stop waits for answers that are under way.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener cannot be bound.
    #[error("{what} cannot listen on {address}: {source}; free the address, or set {key}")]
    Listen {
        /// Who.
        what: &'static str,
        /// Where.
        address: String,
        /// Which key says so.
        key: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// A metric is registered twice: a mistake in the program.
    #[error("a metric cannot be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    /// A certificate cannot be used.
    #[error("{0}")]
    Certificate(#[from] CertificateError),
    /// The observer cannot start.
    #[error("{0}")]
    Observer(#[from] ObserveError),
    /// The operating system refuses something else.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
    /// The store cannot be used.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The key of the second factor cannot be used.
    #[error("{0}")]
    Sealer(#[from] SealerError),
    /// Mail cannot begin.
    #[error("{0}")]
    Mail(#[from] crate::mail::StartError),
}

/// The gateway, bound but not running.
pub struct App {
    configuration: Arc<Configuration>,
    observer: Arc<Observer>,
    audit: Arc<Audit>,
    store: Arc<Store>,
    journal: Arc<Journal>,
    event_loop: EventLoop,
    proxy: Proxy,
    portal: web::Portal,
    pages: web::Running,
    certificates: Option<Arc<Keeper>>,
    threads: Arc<Threads>,
    metrics: Option<MetricsServer>,
    admin: AdminServer,
    ops: Ops,
    readiness: Readiness,
    listen: Arc<[String]>,
    warnings: Warnings,
    post: mail::Post,
}

/// What else an operator should be told.
type Warnings = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

impl App {
    /// Tries everything that can fail at start: the store, the observer, every listener. `path` is the file that
    /// `file` was read from, to be reread when it changes. Operators' operations will run on the runtime that this runs on.
    ///
    /// # Errors
    /// When any of it fails; nothing is left behind, and the store is closed in order.
    pub async fn bind(
        path: Option<PathBuf>,
        file: Document,
        access: AccessLog,
        output: Output,
    ) -> Result<Self, StartError> {
        let (witness, unwitnessed) = witness(&file.config);
        let store = Arc::new(Store::open(&file.config.state_dir, witness)?);
        let mut begun = None;
        let bound = Self::bind_rest(path, file, access, output, &store, &mut begun, unwitnessed).await;
        if bound.is_err() {
            if let Some(journal) = begun {
                journal.close();
            }
            store.close();
        }
        bound
    }

    async fn bind_rest(
        path: Option<PathBuf>,
        file: Document,
        access: AccessLog,
        output: Output,
        store: &Arc<Store>,
        begun: &mut Option<Arc<Journal>>,
        unwitnessed: Option<String>,
    ) -> Result<Self, StartError> {
        let store = Arc::clone(store);
        let started = wall_now();
        let registry = Registry::new();
        output.register(&registry)?;
        let start = Start::new(file, &store)?;
        let config = start.config.clone();
        let last = kept::read(&store)?;
        let certificates = certificates::keeper(&config, start.file())?;
        if let Some(keeper) = &certificates {
            registry.register(Box::new(CertificateCollector::new(Arc::clone(keeper))?))?;
        }

        let audit = Arc::new(Audit::new(&registry)?);
        let policy = kept::continued(&config, &last);
        let judged_by = last.policy.as_ref().unwrap_or(&policy);
        let (observer, events) = Observer::start(&observe_options(&config, judged_by))?;
        let observer = Arc::new(observer);
        registry.register(Box::new(ObserverCollector::new(Arc::clone(&observer))?))?;
        let connections = Connections::new(crate::observe::eyes_of(&observer))
            .relayed_to(crate::observe::relayed_of(&observer))
            .watched_by(Arc::<Observer>::clone(&observer));
        let connections = Arc::new(connections);
        let journal = Journal::start(Arc::clone(&store))
            .map_err(|source| StartError::System { what: "the journal's thread", source })?;
        let journal = Arc::new(journal);
        *begun = Some(Arc::clone(&journal));
        let keeper = Arc::clone(&journal);
        audit.keep_in(Box::new(move |entry| keeper.submit(vec![Entry::Event(entry)], None)));
        let regulated = Regulated::new(&config);
        let regulator = regulated.regulator(&store, &journal, &audit)?;
        regulator.register(&registry)?;
        let threads = Threads::start("helper", HELPERS)
            .map_err(|source| StartError::System { what: "the threads that wait for others", source })?;
        let threads = Arc::new(threads);
        let local_users = LocalUsers::start(Arc::clone(&store))
            .map_err(|source| StartError::System { what: "the threads that verify passwords", source })?;
        let local_users = Arc::new(local_users);
        let replaced = store.replaced().map(|why| replaced(why, &audit));
        let holds = holds(&config, &store)?;
        let sealer = factors::sealer(&config, &journal)?;
        let factors = factors::open(&config, &store, &sealer, &journal, &audit)?;
        registry.register(Box::new(factors.collector()?))?;
        let applications = applications::open(&store, &sealer, &journal, &audit, &factors)?;
        let door = Door::open(&config, &local_users, &regulator, &applications, &registry)?;
        let mailer = mail::open(&config, &store, &sealer, &journal, &audit, &registry)?;
        let parts = Parts {
            observer: Arc::clone(&observer),
            events,
            connections: Arc::clone(&connections),
            audit: Arc::clone(&audit),
            journal: Arc::clone(&journal),
            threads: Arc::clone(&threads),
            metrics: Metrics::new(&registry)?,
            ended: door.forgets(),
            held: held(&holds),
            enrolled: factors::enrolled(&factors),
        };
        let (tracker, event_loop) = Tracker::new(parts, last, policy, store.first_session())
            .map_err(|source| StartError::System { what: "the tracker's timer", source })?;

        applications::follow(&factors, &applications, &journal, &tracker);

        let verifier = TicketVerifier::start(kerberos(&config), Counters::new(&registry)?)
            .map_err(|source| StartError::System { what: "the threads that verify tokens", source })?;
        let verifier = Arc::new(
            Verifier::new(verifier).with_passwords(door.passwords.clone()).with_factors(Arc::clone(&factors)),
        );
        let decisions = Arc::new(DecisionLog::default());
        let stats = Stats::new()?;
        stats.register(&registry)?;
        let visits = web::Stats::new()?;
        visits.register(&registry)?;
        let pages_at = portal::endpoints(&config, certificates.as_ref());
        let inner_listeners = web::InnerListeners::bind(&pages_at);
        let (targets, languages) = (Arc::new(ReturnTargets::default()), portal::languages(&config));
        let notices = mail::notices(&config, &mailer, &factors, languages.clone());
        let parts = proxy::Parts {
            gate: Arc::new(tracker.clone()),
            verifier: Arc::clone(&verifier),
            decisions: Arc::clone(&decisions),
            connections: Arc::clone(&connections),
            holds: Arc::clone(&holds),
            stats,
            access,
            targets: Arc::clone(&targets),
            languages: Arc::new(languages.clone()),
            options: proxy_options(&config, &portal::Inner::of(&inner_listeners)),
            workers: std::thread::available_parallelism().map_or(1, usize::from),
        };
        let endpoints = proxy_endpoints(&config, certificates.as_ref());
        let proxy = Proxy::bind(&endpoints, parts).map_err(|error| match error {
            BindError::Address { address, error } => {
                listen_error("the proxy", address, "proxy.listen", error)
            }
            BindError::Thread(source) => {
                StartError::System { what: "the threads that serve connections", source }
            }
        })?;
        let listen: Arc<[String]> = proxy.addresses().iter().map(SocketAddr::to_string).collect();
        let readiness = Readiness::default();
        let (told, kept, database) = (output.clone(), Arc::clone(&journal), Arc::clone(&store));
        let notes =
            move || told.problem().into_iter().chain(kept.problem()).chain(database.astray()).collect();
        let metrics = match config.metrics.listen {
            None => None,
            Some(address) => {
                let endpoint = Endpoint { service: Service::Metrics, security: Security::Plain, address };
                let bound = endpoint
                    .bind()
                    .and_then(|listener| {
                        MetricsServer::new(listener, registry, readiness.clone(), Arc::new(notes))
                    })
                    .map_err(|source| listen_error("the metrics", address, "metrics.listen", source))?;
                Some(bound)
            }
        };
        let admin = AdminServer::bind(&config.run_dir).map_err(|source| {
            listen_error("the admin socket", config.run_dir.display(), "run-dir", source)
        })?;

        let threads = Threads::start("operator", OPERATORS)
            .map_err(|source| StartError::System { what: "the threads that wait for the disk", source })?;
        let threads = Arc::new(threads);
        let (asked, told_of, seals) = (door.clone(), Arc::clone(&factors), Arc::clone(&sealer));
        let (programs, posted) = (Arc::clone(&applications), Arc::clone(&mailer));
        let pages = Arc::new(OnceLock::new());
        let applied = Applied {
            tracker: tracker.clone(),
            verifier: Arc::clone(&verifier),
            proxy: proxy.controls(),
            certificates: certificates.clone(),
            threads: Arc::clone(&threads),
            regulator: regulator.clone(),
            regulated,
            door,
            inner: portal::Inner::of(&inner_listeners),
            pages: Arc::clone(&pages),
            holds: Arc::clone(&holds),
            factors: Arc::clone(&factors),
            mailer: Arc::clone(&mailer),
            notices: Arc::clone(&notices),
        };
        let configuration = Arc::new(Configuration::new(
            path,
            start,
            Arc::clone(&store),
            Arc::clone(&journal),
            Arc::clone(&audit),
            Arc::clone(&threads),
            applied.into_apply(),
        ));
        let (keys, keytab) = (Arc::clone(&verifier), config.kerberos.keytab.clone());
        let account = Account::ours();
        let limits = proxy.controls();
        let shown = certificates.clone();
        let database = Arc::clone(&store);
        let warnings: Warnings = Arc::new(move || {
            let exposure = negotiate::exposure(keytab.as_deref(), Some(&account));
            let replay = keys.tickets().replay_problem().map(|problem| problem.to_string());
            let exposure = exposure.map(|exposure| exposure.to_string());
            keys.tickets()
                .problem()
                .into_iter()
                .chain(replay)
                .chain(exposure)
                .chain(unwitnessed.clone())
                .chain(replaced.clone())
                .chain(database.astray())
                .chain(output.problem())
                .chain(limits.warnings())
                .chain(shown.iter().flat_map(|keeper| keeper.warnings()))
                .chain(asked.warnings())
                .chain(factors::warnings(&told_of, &seals))
                .chain(applications::warnings(&programs))
                .chain(posted.warnings())
                .collect()
        });
        let post = mail::Post {
            mailer,
            notices: Arc::clone(&notices),
            factors: Arc::clone(&factors),
            tracker: tracker.clone(),
        };
        let (hall, judged, books) = (tracker.clone(), Arc::clone(&verifier), Arc::clone(&store));
        let parts = ops::Parts {
            tracker,
            observer: Arc::clone(&observer),
            connections,
            audit: Arc::clone(&audit),
            recent: decisions,
            configuration: Arc::clone(&configuration),
            store: Arc::clone(&store),
            journal: Arc::clone(&journal),
            verifier,
            local_users,
            regulator,
            holds: Arc::clone(&holds),
            factors: Arc::clone(&factors),
            applications,
            sealer,
            certificates: certificates.clone(),
            threads: Arc::clone(&threads),
            started,
            listen: Arc::clone(&listen),
            warnings: Arc::clone(&warnings),
        };
        let users = Arc::clone(&parts.local_users);
        let ops = Ops::new(parts, Limits::default(), Handle::current());
        let parts = web::Parts {
            ops: ops.clone(),
            tracker: hall,
            verifier: judged,
            local_users: Arc::clone(&users),
            audit: Arc::clone(&audit),
            store: Arc::clone(&books),
            journal: Arc::clone(&journal),
            targets,
            holds,
            factors: Arc::clone(&factors),
            notices: Arc::clone(&notices),
            stats: visits,
            languages,
        };
        let portal = web::Portal::bind(&pages_at, inner_listeners, parts, portal::settings(&config))
            .map_err(|(address, error)| {
                let is_plain = config.portal.http == Some(address);
                let key = if is_plain { "portal.http" } else { "portal.https" };
                listen_error("the portal", address, key, error)
            })?;
        let running = portal.controls();
        let _ = pages.set(running.clone());
        // Nothing else can fail any more: what is made and printed is not made in vain.
        ops::make_administrator(&users, &books, &audit);
        Ok(Self {
            configuration,
            observer,
            audit,
            store,
            journal,
            event_loop,
            proxy,
            portal,
            pages: running,
            certificates,
            threads,
            metrics,
            admin,
            ops,
            readiness,
            listen,
            warnings,
            post,
        })
    }

    /// Runs until SIGTERM or SIGINT, then stops in order: no new connection, answers finished, the journal written.
    ///
    /// # Errors
    /// When signals cannot be received, or the event loop has no thread.
    pub async fn run(self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;

        self.announce();
        let Self {
            audit,
            store,
            journal,
            event_loop,
            proxy,
            portal,
            pages,
            certificates,
            threads,
            metrics,
            admin,
            ops,
            readiness,
            configuration,
            post,
            ..
        } = self;
        let (stopped, tasks) = (CancellationToken::new(), TaskTracker::new());
        let until_stopped = |task: Pin<Box<dyn Future<Output = ()> + Send>>| {
            tasks.spawn(stopped.clone().run_until_cancelled_owned(task))
        };
        let mut event_loop = event_loop.start()?;
        ops.end_sessions_of_changed_users().await;
        ops.forget_factors_of_removed_users().await;
        if let Some(metrics) = metrics {
            until_stopped(Box::pin(metrics.run()));
        }
        until_stopped(Box::pin(tell_refusals(Arc::clone(&audit))));
        until_stopped(Box::pin(Arc::clone(&post.mailer).run()));
        until_stopped(Box::pin(post.reset_when_due(Arc::clone(&journal))));
        until_stopped(Box::pin(ops.clone().keep_series()));
        until_stopped(Box::pin(ops.clone().keep_application_passwords()));
        until_stopped(Box::pin(admin.run(ops.clone())));
        if let Some(path) = configuration.path() {
            until_stopped(Box::pin(watch::reload_on_save(path.clone(), ops.clone())));
        }
        if let Some(keeper) = certificates {
            until_stopped(Box::pin(certificates::keep(keeper, threads)));
        }
        let proxy = proxy.spawn();
        portal.start(&pages)?;
        readiness.set(true);
        // Without systemd there is nobody to tell.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);

        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => {
                    let ops = ops.clone();
                    until_stopped(Box::pin(async move {
                        // A bad file has been told of.
                        let _ = ops.reload(Actor::unknown(Via::Signal)).await;
                    }));
                }
                // It never ends before this (a panic of it ends the process). Should it, nothing may be decided any more: stop,
                // and let the supervisor start anew.
                _ = &mut event_loop => {
                    error!("the event loop is gone");
                    return Err(io::Error::other("the event loop is gone"));
                }
            }
        }
        info!("stopping");
        readiness.set(false);
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        tokio::join!(proxy.drain(DRAIN), pages.stop());
        audit.settle_refusals(true);
        ops.settle_series();
        ops.settle_application_passwords();
        // Sessions go on over a restart: what is decided is on disk, and the kernel keeps the records.
        // Waits for the disk, on a thread that nobody else needs any more.
        journal.close();
        store.close();
        info!("stopped");
        // What the servers leave behind, as their sockets, goes with them.
        stopped.cancel();
        tasks.close();
        if tokio::time::timeout(SIDE_TASKS, tasks.wait()).await.is_err() {
            warn!("not everything has ended in order");
        }
        Ok(())
    }

    /// Says what has started.
    fn announce(&self) {
        let Self { observer, configuration, listen, warnings, certificates, .. } = self;
        match observer.kind() {
            Kind::Ebpf { cgroup, pinning } => {
                let (directory, adopted) = match &pinning {
                    Pinning::Kept { directory, adopted, .. } => (directory.display().to_string(), *adopted),
                    Pinning::Lost { .. } => (String::new(), false),
                };
                info!(cgroup = %cgroup.display(), pinned = directory, adopted, "observing in the kernel");
            }
            Kind::Proxy { .. } => {}
        }
        let warnings = configuration.warnings().into_iter().chain(warnings()).chain(observer.warnings());
        for warning in warnings {
            warn!("{warning}");
        }
        for Shown { facts, .. } in certificates.iter().flat_map(|keeper| keeper.shown()) {
            let names = facts.names().join(" ");
            info!(fingerprint = facts.fingerprint, names, expires = %facts.not_after, "certificate");
        }
        let metrics =
            configuration.config().metrics.listen.map_or_else(|| "off".into(), |address| address.to_string());
        info!(proxy = listen.join(" "), metrics, "ready");
    }
}

/// Tells now and then how many refusals had no line of their own. Ends only with the daemon.
async fn tell_refusals(audit: Arc<Audit>) {
    loop {
        tokio::time::sleep(SETTLE_REFUSALS).await;
        audit.settle_refusals(false);
    }
}

fn listen_error(
    what: &'static str,
    address: impl std::fmt::Display,
    key: &'static str,
    source: io::Error,
) -> StartError {
    StartError::Listen { what, address: address.to_string(), key, source }
}

/// Where the proxy listens. Whoever listens under TLS has certificates.
fn proxy_endpoints(config: &Config, certificates: Option<&Arc<Keeper>>) -> Vec<Endpoint> {
    let endpoint = |listen: config::Listen| {
        let security = match certificates {
            Some(keeper) if listen.is_tls => Security::Tls(Arc::clone(keeper.server())),
            None if listen.is_tls => return None,
            _ => Security::Plain,
        };
        Some(Endpoint { service: Service::Proxy, security, address: listen.address })
    };
    config.addresses_of(Service::Proxy).into_iter().filter_map(endpoint).collect()
}

/// The name in `Via`: it must differ between the gateways of a chain, as its return means a loop.
fn via() -> String {
    let name = certificates::hostname();
    if name.is_empty() { "tracker".into() } else { format!("tracker-{name}") }
}
