//! The proxy over loopback, with a gate and an acceptor that do as they are told, and origins of every kind.

mod auth;
mod balancer;
mod basic;
mod failures;
mod forwarding;
mod leftovers;
mod life;
mod origins;
mod own_pages;
mod tls;
mod tls_ends;
mod tunnels;
mod voices;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::auth::kerberos::negotiate::{Acceptor, Counters, Details, Progress};
use crate::auth::kerberos::{Cause, TicketVerifier};
use crate::auth::password::testing;
use crate::auth::{Channel, Failure, Handshake, Rejection, Scheme};
use crate::config::{AllowedDestination, Basic};
use crate::net::{Security, Service};
use crate::session::table::AdmissionKind;
use crate::session::{Admission, Admitted, Decision, Denial, Proof};
use crate::tracker::Refusal;
use crate::types::{ClientAddr, ConnectionId, Factor, Identity, Method, PortRange, Scope, SessionId};

/// Admits whoever proves themselves, and remembers them until told otherwise.
#[derive(Default)]
pub(super) struct FakeGate {
    open: bool,
    shared: bool,
    licences_used_up: bool,
    /// This further factor is required of everybody.
    missing: Option<Factor>,
    /// Nothing is served, whoever asks.
    denial: Option<Denial>,
    sessions: Mutex<HashMap<Scope, Admitted>>,
    refused: Mutex<Vec<String>>,
    /// How each of them was tried.
    methods: Mutex<Vec<Option<Method>>>,
    next: AtomicUsize,
}

impl FakeGate {
    fn scope(&self, client: ClientAddr, connection: ConnectionId) -> Scope {
        if self.shared { Scope::connection(client, connection) } else { client.into() }
    }

    fn admit(&self, client: Scope, identity: Arc<Identity>) -> Admitted {
        let mut sessions = self.sessions.lock().unwrap();
        match sessions.get(&client) {
            Some(known) if known.identity == identity => known.clone(),
            _ => {
                let session = SessionId::test(self.next.fetch_add(1, Relaxed) as u64 + 1);
                let admitted = Admitted { session, identity };
                sessions.insert(client, admitted.clone());
                admitted
            }
        }
    }
}

impl Gate for FakeGate {
    fn decide(
        &self,
        _client: ClientAddr,
        _connection: ConnectionId,
        _cleared: Option<SessionId>,
    ) -> Option<Decision> {
        None
    }

    fn check(&self, client: ClientAddr, connection: ConnectionId) -> gate::Answer<'_, Decision> {
        let client = self.scope(client, connection);
        if self.open {
            self.admit(client, Arc::new(Identity::new("anybody", "R", "R")));
        }
        let known = self.sessions.lock().unwrap().get(&client).cloned();
        let decision = match (self.denial, known, self.missing) {
            (Some(denial), ..) => Decision::Deny(denial),
            (None, None, _) => Decision::Challenge,
            (None, Some(_), Some(factor)) => Decision::StepUp(factor),
            (None, Some(admitted), None) => Decision::Allow(admitted),
        };
        Box::pin(async move { decision })
    }

    fn prove(&self, proof: Proof) -> gate::Answer<'_, Result<Admission, Refusal>> {
        Box::pin(async move {
            if self.licences_used_up {
                return Err(crate::session::Refused::Licences { max: 1 }.into());
            }
            let connection = proof.connection.expect("the proxy has one");
            let admitted = self.admit(self.scope(proof.client, connection), proof.identity);
            Ok(Admission {
                admitted,
                kind: self.missing.map_or(AdmissionKind::LoggedIn, AdmissionKind::Waits),
            })
        })
    }

    fn is_known(&self, _client: ClientAddr) -> bool {
        self.shared || self.open
    }

    fn refused(&self, refusal: &crate::audit::Refusal<'_>) {
        self.refused.lock().unwrap().push(refusal.why.to_owned());
        self.methods.lock().unwrap().push(refusal.method);
    }
}

/// `user NAME` proves NAME, `once NAME` the first time only, `ntlm` is what it says, `first` needs a second leg, `down` and
/// `busy` are what they say.
#[derive(Default)]
struct FakeAcceptor {
    used: Mutex<Vec<String>>,
}

fn refused(cause: Cause, why: &str, answer: Option<Vec<u8>>) -> Result<Progress, Failure> {
    Err(Failure::Rejected(Rejection { cause: cause.into(), why: why.into(), answer }))
}

impl Acceptor for FakeAcceptor {
    fn accept(
        &self,
        handshake: Option<Handshake>,
        token: &[u8],
        _channel: &Channel,
    ) -> Result<Progress, Failure> {
        let text = String::from_utf8_lossy(token);
        match (&*text, handshake.is_some()) {
            ("first", false) => {
                Ok(Progress::Continue { handshake: Handshake::new(()), answer: b"go on".to_vec() })
            }
            ("second", true) => Ok(proved("legged")),
            ("busy", _) => Err(Failure::Busy),
            ("down", _) => Err(Failure::Unavailable("the keytab is gone".into())),
            ("ntlm", _) => refused(Cause::Ntlm, "the client sent NTLM", None),
            (other, _) => {
                if let Some(name) = other.strip_prefix("user ") {
                    return Ok(proved(name));
                }
                let Some(name) = other.strip_prefix("once ") else {
                    return refused(Cause::WrongKey, "no good", Some(b"rejected".to_vec()));
                };
                let mut used = self.used.lock().unwrap();
                if used.iter().any(|token| token == other) {
                    return refused(Cause::Replay, "a replay", None);
                }
                used.push(other.to_owned());
                Ok(proved(name))
            }
        }
    }
}

fn proved(name: &str) -> Progress {
    Progress::Proved {
        identity: Identity::new(name, "R", "R"),
        answer: Some(b"mutual".to_vec()),
        details: Box::new(Details::of_nothing()),
    }
}

/// A header with a token in it.
pub(super) fn negotiate(token: &str) -> String {
    format!("Proxy-Authorization: {}\r\n", Scheme::Negotiate.message(token.as_bytes()))
}

/// A port of loopback for the proxy.
fn endpoint(security: Security) -> Endpoint {
    Endpoint { service: Service::Proxy, security, address: "127.0.0.1:0".parse().unwrap() }
}

/// A proxy on loopback.
pub(super) struct Lab {
    address: SocketAddr,
    gate: Arc<FakeGate>,
    connections: Arc<Connections>,
    stats: Stats,
    decisions: Arc<DecisionLog>,
    running: Running,
}

/// What tests want: loopback is an origin, every port may be tunnelled to, and nothing takes long. No password is asked for.
pub(super) fn options(connect_port: u16) -> ProxyOptions {
    ProxyOptions {
        connect_ports: vec![PortRange::one(connect_port)],
        basic: Basic::Never,
        allow_destinations: AllowList::new(&[AllowedDestination::Network("127.0.0.0/8".parse().unwrap())]),
        ..ProxyOptions::default()
    }
}

impl Lab {
    pub(super) fn new(gate: FakeGate, options: ProxyOptions) -> Self {
        Self::with_workers(gate, options, 1)
    }

    fn with_workers(gate: FakeGate, options: ProxyOptions, workers: usize) -> Self {
        Self::on(&endpoint(Security::Plain), gate, options, workers)
    }

    fn on(endpoint: &Endpoint, gate: FakeGate, options: ProxyOptions, workers: usize) -> Self {
        let gate = Arc::new(gate);
        let connections = Arc::new(Connections::new(None));
        let (stats, decisions) = (Stats::new().unwrap(), Arc::new(DecisionLog::default()));
        let parts = Parts {
            gate: Arc::clone(&gate) as Arc<dyn Gate>,
            verifier: Arc::new(
                Verifier::new(
                    TicketVerifier::with(
                        Arc::new(FakeAcceptor::default()),
                        1,
                        16,
                        Counters::hidden().unwrap(),
                    )
                    .unwrap(),
                )
                .with_passwords(testing::door()),
            ),
            decisions: Arc::clone(&decisions),
            connections: Arc::clone(&connections),
            holds: Arc::default(),
            stats: stats.clone(),
            access: AccessLog::off(),
            targets: Arc::default(),
            languages: Arc::default(),
            options,
            workers,
        };
        let proxy = Proxy::bind(std::slice::from_ref(endpoint), parts).unwrap();
        let address = proxy.addresses()[0];
        Self { address, gate, connections, stats, decisions, running: proxy.spawn() }
    }

    /// Everybody is served.
    pub(super) fn open() -> Self {
        Self::new(FakeGate { open: true, ..FakeGate::default() }, options(443))
    }

    /// The same, where loopback is no origin of its own: but one address of it is.
    fn open_to_loopback() -> Self {
        let options = ProxyOptions {
            connect_ports: vec![PortRange::one(443)],
            allow_destinations: AllowList::new(&[AllowedDestination::Network(
                "127.0.0.1/32".parse().unwrap(),
            )]),
            ..ProxyOptions::default()
        };
        Self::new(FakeGate { open: true, ..FakeGate::default() }, options)
    }

    /// Everybody has to prove themselves first.
    pub(super) fn closed() -> Self {
        Self::new(FakeGate::default(), options(443))
    }

    /// So many connections to origins wait to be used again, or will soon.
    async fn idle_origins(&self, count: i64) {
        while self.stats.origins_idle.get() != count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(super) const fn connections(&self) -> &Arc<Connections> {
        &self.connections
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.running.shared)
    }

    async fn client(&self) -> Peer {
        Peer::new(TcpStream::connect(self.address).await.unwrap())
    }
}

/// One end of a connection that speaks HTTP by hand.
pub(super) struct Peer<S = TcpStream>(BufReader<S>);

/// A message as it was on the wire, with its content decoded.
#[derive(Debug, Default)]
pub(super) struct Message {
    start: String,
    head: String,
    body: Vec<u8>,
    trailers: String,
}

impl Message {
    pub(super) fn start(&self) -> &str {
        &self.start
    }

    fn status(&self) -> u16 {
        self.start.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    fn new(stream: S) -> Self {
        Self(BufReader::new(stream))
    }

    pub(super) async fn send(&mut self, text: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(text.as_ref()).await.unwrap();
        self.0.get_mut().flush().await.unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        within(self.0.read_line(&mut line)).await.unwrap();
        line
    }

    async fn head(&mut self) -> Message {
        let mut message = Message { start: self.line().await, ..Message::default() };
        loop {
            let line = self.line().await;
            if line.trim().is_empty() {
                return message;
            }
            message.head.push_str(&line);
        }
    }

    /// A whole message; `has_body` is false for answers to HEAD and the like.
    pub(super) async fn read(&mut self, has_body: bool) -> Message {
        let mut message = self.head().await;
        if !has_body {
            return message;
        }
        if message.field("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(self.line().await.trim(), 16).unwrap();
                if size == 0 {
                    break;
                }
                let start = message.body.len();
                message.body.resize(start + size, 0);
                within(self.0.read_exact(&mut message.body[start..])).await.unwrap();
                self.line().await;
            }
            loop {
                let line = self.line().await;
                if line.trim().is_empty() {
                    return message;
                }
                message.trailers.push_str(&line);
            }
        }
        match message.field("content-length").map(|length| length.parse().unwrap()) {
            Some(length) => {
                message.body.resize(length, 0);
                within(self.0.read_exact(&mut message.body)).await.unwrap();
            }
            None if message.start.starts_with("HTTP/") => {
                within(self.0.read_to_end(&mut message.body)).await.unwrap();
            }
            None => {}
        }
        message
    }

    async fn answer(&mut self) -> Message {
        self.read(true).await
    }

    /// A request and its answer.
    async fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.send(request).await;
        self.answer().await
    }

    /// Whether the other side has closed.
    pub(super) async fn is_closed(&mut self) -> bool {
        let mut rest = [0; 1];
        !matches!(within(self.0.read(&mut rest)).await, Ok(1))
    }
}

/// Nothing here takes longer, except a fault.
pub(super) async fn within<T>(work: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), work).await.expect("in time")
}

/// An origin that is played by hand.
pub(super) struct Origin(TcpListener);

impl Origin {
    pub(super) async fn new() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    pub(super) async fn accept(&self) -> Peer {
        Peer::new(within(self.0.accept()).await.unwrap().0)
    }

    /// Answers every request on every connection, and counts the connections.
    pub(super) fn serve(self, answer: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
        let (address, count) = (self.address(), Arc::new(AtomicUsize::new(0)));
        let counter = Arc::clone(&count);
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = self.0.accept().await else { return };
                counter.fetch_add(1, Relaxed);
                tokio::spawn(async move {
                    let mut peer = Peer::new(stream);
                    while !peer.0.fill_buf().await.unwrap_or_default().is_empty() {
                        peer.read(true).await;
                        peer.send(answer).await;
                    }
                });
            }
        });
        (address, count)
    }
}

pub(super) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
