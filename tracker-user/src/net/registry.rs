//! The proxy's own connections: which client each belongs to, which session it was served on, and how to end it.
//!
//! A connection is in the registry from `accept` until just before its descriptor is closed. So whoever finds it there,
//! and holds its lock, may use the descriptor: [`Connections::destroy`] ends a session's connections synchronously, and
//! when it returns no byte moves on them any more.

mod carried;
mod limits;
mod membership;
mod per_connection_record;
#[cfg(test)]
mod tests;
mod totals;
mod visibility;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use futures_util::task::AtomicWaker;
use nix::sys::socket::{Shutdown, SockaddrStorage, getpeername, shutdown};
use tokio::net::TcpStream;
use tracker_ebpf::record::Direction;

pub use self::carried::{Carried, Carries};
pub use self::limits::{Limits, Over};
pub(super) use self::membership::Membership;
pub use self::per_connection_record::Left;
use self::per_connection_record::{Closings, PerConnectionRecord, TrafficRules};
use self::totals::Gone;
pub use self::visibility::{Payload, Seen, SeenConnection, Watcher};
use super::{Caller, ClientStream};
use crate::clock::{BootTime, boot_now};
use crate::types::{ClientAddr, ConnectionId, SessionId, Traffic};

/// Who wants to hear what happens on the proxy's connections, where the kernel is not asked.
pub trait ClientEvents: Send + Sync {
    /// A connection was accepted.
    fn opened(&self, client: ClientAddr, at: BootTime);
    /// Data moved; `ended`: on a connection that the client has ended.
    fn data(&self, client: ClientAddr, direction: Direction, bytes: u64, ended: bool, at: BootTime);
    /// The client has ended its side of a connection.
    fn ended(&self, client: ClientAddr, at: BootTime);
    /// A connection is about to be closed; `ended`: one that the client has ended.
    fn closed(&self, client: ClientAddr, ended: bool, at: BootTime);
}

/// What the CLI shows of a connection.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Its number.
    pub id: ConnectionId,
    /// The client.
    pub client: ClientAddr,
    /// The client's end.
    pub peer: SocketAddr,
    /// The balancer that it came through.
    pub via: Option<SocketAddr>,
    /// When it was accepted.
    pub since: BootTime,
    /// What it carries now.
    pub carries: Carried,
    /// The session it was last served on.
    pub session: Option<SessionId>,
    /// Payload bytes received from the client.
    pub rx: u64,
    /// Payload bytes sent to the client.
    pub tx: u64,
}

/// [`Connections::holds_unseen`] looks at so many clients.
const LOOKED_AT: usize = 64;

/// All connections that the proxy holds to clients.
#[derive(Default)]
pub struct Connections {
    eyes: Option<Arc<dyn ClientEvents>>,
    /// Who hears of connections that came through a balancer, in place of `eyes`.
    relayed: Option<Arc<dyn ClientEvents>>,
    /// Whether any has come through one.
    has_relayed: AtomicBool,
    watcher: Option<Arc<dyn Watcher>>,
    left: Mutex<HashSet<ClientAddr>>,
    clients: DashMap<ClientAddr, BTreeMap<ConnectionId, Arc<Connection>>>,
    last_id: AtomicU64,
    open: AtomicUsize,
    rules: TrafficRules,
    closings: Closings,
    gone: Gone,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("open", &self.len()).finish_non_exhaustive()
    }
}

impl Connections {
    /// An empty registry; `eyes` hears of every opening, end, close and movement of data.
    #[must_use]
    pub fn new(eyes: Option<Arc<dyn ClientEvents>>) -> Self {
        Self { eyes, ..Self::default() }
    }

    /// The same registry, where `relayed` hears of the connections that come through a balancer, and `eyes` of the others.
    #[must_use]
    pub fn relayed_to(mut self, relayed: Arc<dyn ClientEvents>) -> Self {
        self.relayed = Some(relayed);
        self
    }

    /// Takes a connection in, whatever there is already.
    #[cfg(test)]
    pub(crate) fn accept(
        self: &Arc<Self>,
        client: ClientAddr,
        peer: SocketAddr,
        stream: TcpStream,
    ) -> ClientStream {
        let limits = Limits { all: usize::MAX, of_client: usize::MAX };
        self.accept_within(Caller { client, peer, via: None }, stream, limits).unwrap()
    }

    /// Takes a connection in, unless there are too many. It leaves the registry when the stream is dropped.
    ///
    /// # Errors
    /// The stream comes back where a limit is reached.
    pub fn accept_within(
        self: &Arc<Self>,
        caller: Caller,
        stream: TcpStream,
        limits: Limits,
    ) -> Result<ClientStream, (Over, TcpStream)> {
        let Caller { client, peer, via } = caller;
        let one_more = |open| (open < limits.all).then_some(open + 1);
        if self.open.fetch_update(Relaxed, Relaxed, one_more).is_err() {
            return Err((Over::All, stream));
        }
        let mut own = self.clients.entry(client).or_default();
        if own.len() >= limits.of_client {
            drop(own);
            self.open.fetch_sub(1, Relaxed);
            return Err((Over::Client, stream));
        }
        let since = boot_now();
        let connection = Arc::new(Connection {
            id: ConnectionId::new(NonZeroU64::MIN.saturating_add(self.last_id.fetch_add(1, Relaxed))),
            client,
            peer,
            via: via.map(Box::new),
            since,
            rx: AtomicU64::new(0),
            tx: AtomicU64::new(0),
            own: OnceLock::new(),
            payload: OnceLock::new(),
            ended: AtomicBool::new(false),
            state: Mutex::new(Guarded {
                fd: Some(stream.as_raw_fd()),
                session: None,
                carried: Carried::default(),
            }),
            signal: AtomicU8::new(NONE),
            task: AtomicWaker::new(),
        });
        own.insert(connection.id, Arc::clone(&connection));
        drop(own);
        if connection.is_relayed() {
            self.has_relayed.store(true, Relaxed);
        }
        if let Some(eyes) = self.eyes_of(&connection) {
            eyes.opened(client, since);
        }
        Ok(ClientStream::plain(Membership::new(Arc::clone(self), connection), stream))
    }

    /// Ends every connection that was bound to `session`, except `except`: when this returns, no byte moves on them any
    /// more. Their tunnels and pending work towards origins end with them. Returns how many there were.
    pub fn destroy(&self, client: ClientAddr, session: SessionId, except: Option<ConnectionId>) -> usize {
        // The system calls are made outside the map's lock.
        let bound: Vec<_> = self
            .snapshot(client)
            .into_iter()
            .filter(|connection| Some(connection.id) != except && connection.session() == Some(session))
            .collect();
        bound.iter().filter(|connection| connection.end()).count()
    }

    /// The same for a session that is of this connection alone.
    pub fn destroy_one(&self, client: ClientAddr, connection: ConnectionId, session: SessionId) -> usize {
        let bound = self.find(client, connection).filter(|connection| connection.session() == Some(session));
        usize::from(bound.is_some_and(|connection| connection.end()))
    }

    /// Asks every connection to close when what it carries has ended; tunnels go on.
    pub fn retire_all(&self) {
        self.each(Connection::retire);
    }

    /// Ends every connection at once, and returns how many there were.
    pub fn end_all(&self) -> usize {
        let mut count = 0;
        self.each(|connection| count += usize::from(connection.end()));
        count
    }

    /// The connections of one client.
    #[must_use]
    pub fn of(&self, client: ClientAddr) -> Vec<ConnectionInfo> {
        self.snapshot(client).iter().map(|connection| connection.info()).collect()
    }

    /// How many connections there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Whether there is no connection.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Who hears what happens on a connection.
    #[inline]
    fn eyes_of(&self, connection: &Connection) -> Option<&Arc<dyn ClientEvents>> {
        if connection.is_relayed() { self.relayed.as_ref() } else { self.eyes.as_ref() }
    }

    fn snapshot(&self, client: ClientAddr) -> Vec<Arc<Connection>> {
        self.clients.get(&client).map(|own| own.values().cloned().collect()).unwrap_or_default()
    }

    fn each(&self, mut act: impl FnMut(&Connection)) {
        let all: Vec<Arc<Connection>> =
            self.clients.iter().flat_map(|own| own.values().cloned().collect::<Vec<_>>()).collect();
        all.iter().for_each(|connection| act(connection));
    }

    /// The connection's descriptor is about to be closed.
    fn forget(&self, connection: &Connection) {
        connection.guarded().fd = None;
        if let Entry::Occupied(mut own) = self.clients.entry(connection.client) {
            own.get_mut().remove(&connection.id);
            if own.get().is_empty() {
                own.remove();
                self.has_left(connection);
            }
        }
        self.open.fetch_sub(1, Relaxed);
        self.gone.add(connection);
        // Whoever asked for its record found it in the map, before; whoever comes now does not.
        if connection.own.get().is_some() {
            let (rx, tx) = connection.bytes();
            let (client, connection) = (connection.client, connection.id);
            let closed_after = Some(Traffic { rx, tx });
            self.closings.tell(Left { client, connection, at: boot_now(), closed_after });
        }
        if let Some(eyes) = self.eyes_of(connection) {
            eyes.closed(connection.client, connection.ended.load(Relaxed), boot_now());
        }
    }
}

/// One connection, as everybody but its owner sees it.
#[derive(Debug)]
pub struct Connection {
    id: ConnectionId,
    client: ClientAddr,
    peer: SocketAddr,
    /// The balancer's end, of a connection that came through one.
    via: Option<Box<SocketAddr>>,
    since: BootTime,
    rx: AtomicU64,
    tx: AtomicU64,
    /// Where a session is of this connection alone: what happens on it.
    own: OnceLock<Box<PerConnectionRecord>>,
    /// Under TLS, where the kernel side does not see payload move: who is told of that.
    payload: OnceLock<Box<dyn Payload>>,
    /// The client has ended its side.
    ended: AtomicBool,
    state: Mutex<Guarded>,
    signal: AtomicU8,
    /// Whoever serves the connection, to hear of the signal.
    task: AtomicWaker,
}

/// What a connection has been told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Nothing.
    None,
    /// To close after what it carries.
    Retire,
    /// It has been ended.
    End,
}

const NONE: u8 = 0;
const RETIRE: u8 = 1;
const END: u8 = 2;

#[derive(Debug)]
struct Guarded {
    /// The descriptor, while it is certainly open and ours: the stream takes it out before it closes it.
    fd: Option<RawFd>,
    session: Option<SessionId>,
    carried: Carried,
}

impl Connection {
    /// Its number.
    #[must_use]
    pub const fn id(&self) -> ConnectionId {
        self.id
    }

    /// The client.
    #[must_use]
    pub const fn client(&self) -> ClientAddr {
        self.client
    }

    /// The client's end.
    #[must_use]
    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// The end of the balancer that it came through. Nothing but what the proxy itself sees on it is known of such a
    /// connection: to the kernel it is the balancer's.
    #[must_use]
    pub fn via(&self) -> Option<SocketAddr> {
        self.via.as_deref().copied()
    }

    /// Whether it came through a balancer.
    #[inline]
    #[must_use]
    pub const fn is_relayed(&self) -> bool {
        self.via.is_some()
    }

    /// From now on this connection ends with `session`. Ask once more whether the session is still valid after a first
    /// binding: it may have ended just before.
    pub fn bind(&self, session: SessionId) {
        self.guarded().session = Some(session);
    }

    /// The session it was last served on.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.guarded().session
    }

    /// Says what an exchange on it is about from now on; `exchange` is its number on this connection.
    pub fn begin_exchange(&self, exchange: u32, what: Carries) {
        self.guarded().carried.begin(exchange, what);
    }

    /// An exchange on it has ended.
    pub fn end_exchange(&self, exchange: u32) {
        self.guarded().carried.end(exchange);
    }

    /// Whether it is no more: reset, or ended by both sides. A client that has only said its last word is still there.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        // The kernel knows no peer of a closed socket.
        self.guarded().fd.is_none_or(|fd| getpeername::<SockaddrStorage>(fd).is_err())
    }

    /// What it has been told. The task that asks is woken when it is told something. There is one such task at a time: the
    /// one that owns the stream. Exchanges need none of their own, as they are that task's and end with it.
    pub fn poll_signal(&self, cx: &Context<'_>) -> Signal {
        self.task.register(cx.waker());
        self.signal()
    }

    /// Polls `work` until that is done, or until the connection is ended from outside, which is `None`.
    pub fn poll_until_end<F: Future>(
        &self,
        cx: &mut Context<'_>,
        work: Pin<&mut F>,
    ) -> Poll<Option<F::Output>> {
        match self.poll_signal(cx) {
            Signal::End => Poll::Ready(None),
            Signal::Retire | Signal::None => work.poll(cx).map(Some),
        }
    }

    /// What it has been told.
    #[must_use]
    pub fn signal(&self) -> Signal {
        match self.signal.load(Acquire) {
            NONE => Signal::None,
            RETIRE => Signal::Retire,
            _ => Signal::End,
        }
    }

    /// Payload bytes received from and sent to the client.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.rx.load(Relaxed), self.tx.load(Relaxed))
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Acquire)
    }

    fn info(&self) -> ConnectionInfo {
        let (rx, tx) = self.bytes();
        let state = self.guarded();
        ConnectionInfo {
            id: self.id,
            client: self.client,
            peer: self.peer,
            via: self.via(),
            since: self.since,
            carries: state.carried.clone(),
            session: state.session,
            rx,
            tx,
        }
    }

    fn retire(&self) {
        self.signal.fetch_max(RETIRE, AcqRel);
        self.task.wake();
    }

    /// Breaks it off; false if it had ended before.
    pub fn end(&self) -> bool {
        let state = self.guarded();
        if self.signal() == Signal::End {
            return false;
        }
        if let Some(fd) = state.fd {
            disconnect(fd);
        }
        self.signal.store(END, Release);
        let was_open = state.fd.is_some();
        drop(state);
        self.task.wake();
        was_open
    }

    fn guarded(&self) -> MutexGuard<'_, Guarded> {
        // Nobody panics while holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Breaks the TCP connection of `fd` off: what is still in its send queue is thrown away and the peer gets a reset.
/// `shutdown` alone would let the kernel go on sending what it has buffered; it is what is left where this fails.
#[expect(
    unsafe_code,
    reason = "libc's connect takes a pointer, and std knows no address family `unspecified`"
)]
fn disconnect(fd: RawFd) {
    let nowhere = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
    let size = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: the caller holds the lock under which the stream takes the descriptor out before closing it, so it is
    // open and ours; the address is a live, initialised sockaddr of the size given, and is only read.
    let failed = unsafe { libc::connect(fd, &raw const nowhere, size) } != 0;
    if failed {
        let _ = shutdown(fd, Shutdown::Both);
    }
}
