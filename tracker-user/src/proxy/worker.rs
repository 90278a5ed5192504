//! One core's share of the proxy: a thread with a runtime of its own, its own listening sockets, and its own idle
//! connections to origins. A connection stays on the core that accepted it, so that nothing of it is locked or moved.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::Shared;
use super::access::Lane;
use super::balancer::Headers;
use super::dial::Names;
use super::front::http1::{self, Heads, Leftovers};
use super::handshakes::{Handshakes, Outcome};
use super::limits::Conduct;
use super::pool::Pool;
use crate::clock::{BootTime, boot_now};
use crate::net::descriptors;
use crate::net::{Caller, ClientStream, Listener, Security, TlsServer};
use crate::observe::Routes;

/// How long to wait when the process has no descriptor left: some connection will end meanwhile.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// How often it is logged that nothing can be accepted.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// So many idle connections to origins are given up at once where descriptors are short.
const GIVEN_UP: usize = 32;

/// A listener on this core's runtime.
type Accepting = Listener<tokio::net::TcpListener>;

/// What the connections of one core share. Only this core's thread touches it.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) pool: Pool,
    pub(super) names: Names,
    /// Where destinations lead.
    pub(super) routes: Routes,
    pub(super) log: Lane,
    pub(super) leftovers: Leftovers,
    pub(super) heads: Rc<Heads>,
    pub(super) handshakes: Handshakes,
    pub(super) headers: Headers,
    /// So many workers share what there is.
    of: usize,
    accept_warned: Cell<Option<BootTime>>,
}

impl Worker {
    /// One of so many.
    pub(super) fn new(shared: Arc<Shared>, of: usize) -> Self {
        let routes = Routes::default();
        if let Err(error) = routes.prepare() {
            warn!(%error, "the kernel cannot be asked for routes yet");
        }
        Self {
            pool: Pool::new(&shared.stats),
            names: Names::default(),
            leftovers: Leftovers::default(),
            routes,
            log: shared.access.lane(&shared.stats.access_lost),
            heads: Rc::new(Heads::new(of, &shared.stats)),
            handshakes: Handshakes::default(),
            headers: Headers::default(),
            shared,
            of,
            accept_warned: Cell::default(),
        }
    }

    /// Descriptors are short: gives up idle connections to origins, and asks the other cores to. False if this core has none.
    pub(super) fn make_room(&self) -> bool {
        self.shared.descriptors_are_short();
        self.pool.give_up(GIVEN_UP) > 0
    }

    /// How many connections to origins may be idle here.
    pub(super) fn room_for_idle(&self) -> usize {
        (descriptors::room_for_idle() / self.of).max(1)
    }
}

/// Starts a worker's thread. It accepts from the moment that `begin` says so, and ends when `begin` is dropped before,
/// or when the proxy stops and its connections have ended.
pub(super) fn start(
    number: usize,
    of: usize,
    shared: Arc<Shared>,
    listeners: Vec<Listener>,
    begin: oneshot::Receiver<()>,
) -> io::Result<()> {
    // The runtime has to be made on the thread that runs it; whether that worked is told here.
    let (made, is_made) = std::sync::mpsc::sync_channel(1);
    thread::Builder::new().name(format!("proxy-{number}")).spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(made.send(Err(error))),
        };
        let listeners = {
            let _entered = runtime.enter();
            listeners.into_iter().map(Listener::register).collect::<io::Result<Vec<_>>>()
        };
        let listeners = match listeners {
            Ok(listeners) => listeners,
            Err(error) => return drop(made.send(Err(error))),
        };
        if made.send(Ok(())).is_ok() {
            runtime.block_on(run(of, shared, listeners, begin));
        }
    })?;
    is_made.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended at once")))
}

async fn run(of: usize, shared: Arc<Shared>, listeners: Vec<Accepting>, begin: oneshot::Receiver<()>) {
    if begin.await.is_err() {
        return;
    }
    let worker = Rc::new(Worker::new(Arc::clone(&shared), of));
    for listener in listeners {
        tokio::task::spawn_local(accept(Rc::clone(&worker), listener));
    }
    sweep(&worker).await;
    shared.tasks.wait().await;
}

/// Accepts until the proxy stops accepting; each connection gets a task.
async fn accept(worker: Rc<Worker>, listener: Accepting) {
    let shared = &worker.shared;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stopping.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let security = listener.security();
                if shared.options.load().balancers.has(peer.ip()) {
                    if shared.has_descriptors(&stream, || worker.make_room()) {
                        let relaying = relay(Rc::clone(&worker), stream, peer, security.clone());
                        tokio::task::spawn_local(shared.tasks.track_future(relaying));
                    }
                    continue;
                }
                // A link-local address whose link is not known may be another host's: nobody can be told by it.
                let Some(caller) = Caller::direct(peer) else {
                    debug!(%peer, "a connection from a link-local address without a link was refused");
                    continue;
                };
                serve(&worker, caller, stream, security);
            }
            // The client has gone again.
            Err(error) if is_of_the_connection(&error) => {}
            Err(error) => {
                worker.make_room();
                let now = boot_now();
                if worker.accept_warned.get().is_none_or(|at| now.since(at) >= WARN_EVERY) {
                    worker.accept_warned.set(Some(now));
                    warn!(%error, "no connection can be accepted at the moment");
                }
                tokio::time::sleep(EXHAUSTED_PAUSE).await;
            }
        }
    }
}

/// Reads what a balancer says of its connection, and serves it as the client's whom that names. Whose it is before that is
/// not known: it is in no limit but the number of headers that are waited for.
async fn relay(worker: Rc<Worker>, mut stream: TcpStream, via: SocketAddr, security: Security) {
    if let Some(caller) = worker.headers.read(&worker.shared, &mut stream, via).await {
        serve(&worker, caller, stream, &security);
    }
}

/// Serves a connection if there is room for it.
fn serve(worker: &Rc<Worker>, caller: Caller, stream: TcpStream, security: &Security) {
    let shared = &worker.shared;
    let Some(stream) = shared.take_in(caller, stream, security, || worker.make_room()) else { return };
    match security {
        Security::Plain => {
            let serving = http1::run(Rc::clone(worker), stream);
            tokio::task::spawn_local(shared.tasks.track_future(serving));
        }
        Security::Tls(server) => {
            let securing = secure(Rc::clone(worker), stream, Arc::clone(server));
            tokio::task::spawn_local(shared.tasks.track_future(securing));
        }
    }
}

/// Serves a connection after its handshake. The connection gets a task of its own then: the handshake's is larger. A proxy that
/// stops does not wait for a handshake: no request would be served after it.
async fn secure(worker: Rc<Worker>, stream: ClientStream, server: Arc<TlsServer>) {
    let conduct = Conduct::new(Arc::clone(&worker.shared), stream.connection().client());
    let done = tokio::select! {
        done = worker.handshakes.run(stream, &server, &worker.heads) => done,
        () = worker.shared.stopping.cancelled() => return worker.shared.stats.handshake(Outcome::Ended),
    };
    worker.shared.stats.handshake(done.outcome);
    if done.is_offence {
        conduct.fails();
    }
    if let Some(stream) = done.stream {
        let tasks = worker.shared.tasks.clone();
        tokio::task::spawn_local(tasks.track_future(http1::run(worker, stream)));
    }
}

fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::NotConnected
    )
}

/// Closes origins' connections that have been idle for too long, that the origin has closed, or that a change of the
/// options may not allow any more. Until the proxy stops.
async fn sweep(worker: &Worker) {
    let shared = &worker.shared;
    let mut shortages = shared.doorkeeper.shortages();
    loop {
        let idle_timeout = shared.options.load().pool_idle_timeout;
        let pause = (idle_timeout / 4).max(Duration::from_secs(1));
        let changed = timeout(pause, shared.changed.notified());
        tokio::select! {
            _ = changed => {}
            () = shared.stopping.cancelled() => break,
        }
        descriptors::look();
        if std::mem::replace(&mut shortages, shared.doorkeeper.shortages()) != shortages {
            worker.pool.give_up(GIVEN_UP);
        }
        worker.pool.sweep(idle_timeout, shared.generation());
        worker.names.sweep();
    }
    worker.pool.clear();
}
