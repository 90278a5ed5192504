//! HTTP/1: a connection's requests are exchanges one after the other. How heads are framed, whether the connection goes
//! on, what came too early, and what a client still sends when it has had its answer, is known here and nowhere else.

mod exchange;
mod heads;
mod leftover;
mod write;

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::StatusCode;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tracing::debug;

use self::exchange::{Exchange, Next};
pub(in crate::proxy) use self::heads::{Heads, Waiting};
pub(in crate::proxy) use self::leftover::Leftovers;
use crate::auth::Channel;
use crate::net::{ChannelBindingType, ClientStream, Signal};
use crate::proxy::access::{Entry, RequestNumber};
use crate::proxy::balancer::Outcome;
use crate::proxy::buffer::Buffer;
use crate::proxy::connect;
use crate::proxy::exchange::{ClientGone, Peer, Reply, serve};
use crate::proxy::http1::{BadRequest, HeadEnd, MAX_HEAD, Request};
use crate::proxy::message::{Method, Name, RequestHead, Version};
use crate::proxy::stats::Held;
use crate::proxy::timer::Timer;
use crate::proxy::tunnel::Side;
use crate::proxy::worker::Worker;

/// How long a connection on which nobody has proved anything may stay open without a request.
const UNPROVED_IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// How long one on which Negotiate is not offered any more: whoever gets a ticket meanwhile and loads the page again then
/// does so on a new connection, where it is.
const SUPPRESSED_IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client may take to be told that its request cannot be read.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// The number of each exchange: there is one at a time.
const NUMBER: u32 = 0;

/// Serves a connection until it ends.
pub(in crate::proxy) async fn run(worker: Rc<Worker>, stream: ClientStream) {
    let connection = Arc::clone(stream.connection());
    worker.shared.stats.connections.inc();
    let open = Held::new(&worker.shared.stats.connections_open);
    let tunnel = {
        let mut serving = pin!(serve_all(Rc::clone(&worker), stream));
        poll_fn(|cx| connection.poll_until_end(cx, serving.as_mut())).await.flatten()
    };
    // A task of its own, which is a fraction of this one: most connections of a proxy are tunnels, and most of these wait.
    if let Some((side, origin, entry)) = tunnel {
        let tasks = worker.shared.tasks.clone();
        tokio::task::spawn_local(tasks.track_future(connect::carry(worker, open, side, origin, entry)));
    }
}

type Tunnel = (Side<ClientStream>, Side<TcpStream>, Entry);

/// Serves request after request; ends with the connection, or with the tunnel that it has become.
async fn serve_all(worker: Rc<Worker>, io: ClientStream) -> Option<Tunnel> {
    let peer = Peer::new(Rc::clone(&worker), Arc::clone(io.connection()), io.is_private(), channel(&io));
    let mut wire = Wire::new(worker, io);
    loop {
        let Some(next) = wire.request(&peer).await else {
            wire.take_leave().await;
            return None;
        };
        let Request { head, keeps_alive } = match (next, std::mem::take(&mut wire.owes_credentials)) {
            (Ok(request), false) => request,
            (Ok(request), true) if asks_again(&peer, &request.head) => request,
            (_, true) => {
                debug!(client = %peer.address(), "something else than credentials followed the challenge to a CONNECT");
                wire.linger().await;
                return None;
            }
            (Err(bad), false) => {
                wire.refuse(&peer, &bad).await;
                return None;
            }
        };
        let mut exchange = Exchange::new(&peer, &mut wire, *head.line(), keeps_alive);
        if let Some(origin) = serve(&peer, head, &mut exchange).await {
            let Wire { io, input, entry, .. } = wire;
            return Some((Side { io, early: input.into_bytes() }, origin, entry));
        }
        let next = exchange.end().await;
        peer.connection().end_exchange(NUMBER);
        match next {
            Next::Request => {}
            Next::Close => return None,
        }
    }
}

/// What credentials come through that come on it.
fn channel(io: &ClientStream) -> Channel {
    match io.channel_binding(ChannelBindingType::TlsServerEndPoint) {
        Some(binding) => Channel::Named(Arc::clone(binding.application_data())),
        None if io.is_tls() => Channel::Unnamed,
        None => Channel::Plain,
    }
}

/// Whether a request asks for the same tunnel as the one before, with credentials.
fn asks_again(peer: &Peer, head: &RequestHead) -> bool {
    head.method() == Method::Connect
        && peer.goes_there_again(head)
        && head.field(Name::ProxyAuthorization).is_some()
}

/// The connection's bytes, and how far they are understood.
struct Wire {
    worker: Rc<Worker>,
    io: ClientStream,
    input: Buffer,
    timer: Timer,
    entry: Entry,
    /// What waits in memory for more to come.
    waiting: Waiting,
    /// A tunnel was asked for, and credentials for it: what follows may have been meant for the tunnel.
    owes_credentials: bool,
    /// The client has said its last word.
    has_ended: bool,
    /// It came when the proxy was stopping already, and may have been too late to be told.
    is_late: bool,
}

impl Wire {
    fn new(worker: Rc<Worker>, io: ClientStream) -> Self {
        Self {
            timer: Timer::new(worker.shared.options.load().header_timeout),
            entry: Entry::new(Rc::clone(&worker), io.connection().client()),
            is_late: worker.shared.stopping.is_cancelled(),
            waiting: Waiting::new(Rc::clone(&worker.heads)),
            worker,
            io,
            input: Buffer::default(),
            owes_credentials: false,
            has_ended: false,
        }
    }

    /// Waits for a request's head; `None` when there will be no other.
    async fn request(&mut self, peer: &Peer) -> Option<Result<Request, BadRequest>> {
        let (idle, header) = {
            let options = self.worker.shared.options.load();
            (options.idle_timeout, options.header_timeout)
        };
        self.timer.set(match (peer.is_proved(), peer.conversation().is_suppressed()) {
            (true, _) => idle,
            (false, false) => idle.min(UNPROVED_IDLE_TIMEOUT),
            (false, true) => idle.min(SUPPRESSED_IDLE_TIMEOUT),
        });
        let mut end = HeadEnd::default();
        let mut has_begun = false;
        let begun = poll_fn(|cx| {
            loop {
                if !self.input.is_empty() && end.may_be_in(self.input.unread()) {
                    match Request::take(&mut self.input) {
                        Ok(None) => {}
                        Ok(Some(request)) => return Poll::Ready(Some(Ok(request))),
                        Err(bad) => return Poll::Ready(Some(Err(bad))),
                    }
                }
                if self.has_ended {
                    return Poll::Ready(None);
                }
                // A head has less time than a connection without one.
                if !self.input.is_empty() && !std::mem::replace(&mut has_begun, true) {
                    self.timer.set(header);
                }
                if self.input.unread().len() >= MAX_HEAD {
                    return Poll::Ready(Some(Err(BadRequest::TooLarge)));
                }
                match self.input.poll_fill(&mut self.io, cx) {
                    Poll::Ready(Ok(0)) => self.has_ended = true,
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(None),
                    Poll::Pending if self.input.is_empty() && self.is_closing() => return Poll::Ready(None),
                    Poll::Pending => {
                        self.settle();
                        let is_over = self.timer.poll(cx).map(|()| None);
                        // A request that was begun and never came.
                        if is_over.is_ready() && !self.input.is_empty() {
                            peer.conduct().fails();
                        }
                        return is_over;
                    }
                }
            }
        })
        .await;
        self.waiting.clear();
        begun
    }

    /// No other request will be served.
    fn is_closing(&self) -> bool {
        self.is_late || self.io.connection().signal() != Signal::None
    }

    /// A request that cannot be read gets an answer, and nothing else.
    async fn refuse(&mut self, peer: &Peer, bad: &BadRequest) {
        let status = match bad {
            BadRequest::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            _ => StatusCode::BAD_REQUEST,
        };
        debug!(client = %peer.address(), %bad, "a request could not be read");
        peer.conduct().fails();
        if matches!(bad, BadRequest::ProxyHeader) {
            peer.worker().shared.header_refused(Outcome::Untrusted, peer.connection().peer(), bad);
        }
        let number = RequestNumber::new(peer.connection().id(), peer.count_request());
        let reply = peer.dress(Reply::new(status, &bad.user_message()), number);
        self.entry.begin(Cow::Borrowed(""));
        let line = self.entry.line();
        line.number = Some(number);
        line.status = Some(status);
        line.sent = reply.content().len() as u64;
        line.problem = Some(bad.to_string());
        self.timer.set(REFUSAL_TIMEOUT);
        if self.send(&write::reply(&reply, Version::Http11, Method::Get, false)).await.is_ok() {
            self.entry.finish(true);
            self.linger().await;
        }
    }

    /// Sends all of this, within the time that there is.
    async fn send(&mut self, mut bytes: &[u8]) -> Result<(), ClientGone> {
        poll_fn(|cx| {
            while !bytes.is_empty() {
                match Pin::new(&mut self.io).poll_write(cx, bytes) {
                    Poll::Ready(Ok(count)) if count > 0 => bytes = bytes.get(count..).unwrap_or_default(),
                    Poll::Ready(_) => return Poll::Ready(Err(ClientGone)),
                    Poll::Pending => return self.timer.poll(cx).map(|()| Err(ClientGone)),
                }
            }
            match Pin::new(&mut self.io).poll_flush(cx) {
                Poll::Ready(flushed) => Poll::Ready(flushed.map_err(|_| ClientGone)),
                Poll::Pending => self.timer.poll(cx).map(|()| Err(ClientGone)),
            }
        })
        .await
    }

    /// While an answer is waited for: what the client sends is the next request's; ready when it has gone away.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.has_ended && !self.input.is_full() {
            let Poll::Ready(filled) = self.input.poll_fill(&mut self.io, cx) else {
                self.settle();
                break;
            };
            match filled {
                Ok(0) => self.has_ended = true,
                Ok(_) => {}
                Err(_) => return Poll::Ready(()),
            }
        }
        Poll::Pending
    }

    /// Nothing more has come: what is unread waits, and counts.
    fn settle(&mut self) {
        self.input.settle();
        self.waiting.set(self.input.holds() + self.io.held(), self.io.connection());
    }
}
