//! One client's connection: what is remembered on it, and the loop that serves its requests in turn.

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::StatusCode;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tracing::debug;

use super::access::Entry;
use super::admit::{self, AuthState};
use super::destination::{Destination, Target};
use super::heads::Waiting;
use super::http1::{
    BadRequest, Body, Broke, Buffer, HeadEnd, MAX_HEAD, Method, Name, Request, Transfer, Version,
};
use super::leftover::MAX_LEFTOVER;
use super::limits::Conduct;
use super::options::ProxyOptions;
use super::pages::{Page, To, framing};
use super::pool::Origin;
use super::stats::Held;
use super::timer::Timer;
use super::tunnel::Side;
use super::worker::Worker;
use super::{connect, forward};
use crate::net::{Carries, ClientStream, Connection, Signal};
use crate::types::{ClientAddr, Identity, SessionId, UserMessage};

/// How long a connection on which nobody has proved anything may stay open without a request.
const UNPROVED_IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// How long one on which Negotiate is not offered any more: whoever gets a ticket meanwhile and loads the page again then
/// does so on a new connection, where it is.
const SUPPRESSED_IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a client may take to be told that its request cannot be read.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);

/// What belongs to one connection.
pub(super) struct Client {
    pub(super) worker: Rc<Worker>,
    pub(super) connection: Arc<Connection>,
    pub(super) address: ClientAddr,
    pub(super) io: ClientStream,
    pub(super) input: Buffer,
    pub(super) timer: Timer,
    pub(super) auth: AuthState,
    pub(super) entry: Entry,
    /// What waits in memory for more to come.
    pub(super) waiting: Waiting,
    pub(super) conduct: Conduct,
    /// A user has proved themselves on this connection, or may use it without.
    pub(super) is_proved: bool,
    /// The origin's connection on which the user that is served has authenticated themselves to the origin: nobody else's.
    pub(super) pinned: Option<Origin>,
    /// Who was served last, and on which session.
    served: Option<(Option<SessionId>, Arc<Identity>)>,
    /// A tunnel was asked for, and credentials for it: what follows may have been meant for the tunnel.
    owes_credentials: bool,
    /// The client has said its last word.
    pub(super) has_ended: bool,
    /// It came when the proxy was stopping already, and may have been too late to be told.
    is_late: bool,
    /// Where the last request went: the next one often goes there too.
    last: Option<(Box<[u8]>, Arc<Destination>)>,
}

/// What happens on the connection after a request.
pub(super) enum Next {
    /// The next request.
    Request,
    /// The end.
    Close,
    /// It has become a tunnel.
    Tunnel(Side<TcpStream>),
}

/// An answer of our own.
pub(super) struct Refusal {
    pub(super) page: Page,
    /// What of the request has not been read.
    pub(super) rest: Body,
    /// The gateway's own proof, where the request brought credentials that proved something.
    pub(super) proof: Option<String>,
}

/// What is wrong with a request that cannot be read, for the person at the client.
pub(super) fn unreadable(bad: &BadRequest) -> UserMessage {
    UserMessage::new("The request cannot be understood: ")
        .then(match bad {
            BadRequest::Framing(bad) => framing(*bad),
            BadRequest::OldCoding => "HTTP/1.0 knows no Transfer-Encoding",
            BadRequest::Syntax(_) | BadRequest::TooLarge => "it is not HTTP/1",
        })
        .then(".")
}

/// Serves a connection until it ends.
pub(super) async fn run(worker: Rc<Worker>, stream: ClientStream) {
    let connection = Arc::clone(stream.connection());
    worker.shared.stats.connections.inc();
    let open = Held::new(&worker.shared.stats.connections_open);
    let tunnel = {
        let mut serving = pin!(Client::new(Rc::clone(&worker), stream).serve());
        poll_fn(|cx| connection.poll_until_end(cx, serving.as_mut())).await.flatten()
    };
    // A task of its own, which is a fraction of this one: most connections of a proxy are tunnels, and most of these wait.
    if let Some((side, origin, entry)) = tunnel {
        let tasks = worker.shared.tasks.clone();
        tokio::task::spawn_local(tasks.track_future(connect::carry(worker, open, side, origin, entry)));
    }
}

type Tunnel = (Side<ClientStream>, Side<TcpStream>, Entry);

impl Client {
    fn new(worker: Rc<Worker>, io: ClientStream) -> Self {
        let connection = Arc::clone(io.connection());
        let address = connection.client();
        Self {
            timer: Timer::new(worker.shared.options.load().header_timeout),
            entry: Entry::new(Rc::clone(&worker), address),
            is_late: worker.shared.stopping.is_cancelled(),
            waiting: Waiting::new(Rc::clone(&worker.heads)),
            conduct: Conduct::new(Arc::clone(&worker.shared), address),
            worker,
            connection,
            address,
            io,
            input: Buffer::default(),
            auth: AuthState::default(),
            is_proved: false,
            pinned: None,
            served: None,
            owes_credentials: false,
            has_ended: false,
            last: None,
        }
    }

    async fn serve(mut self) -> Option<Tunnel> {
        loop {
            let next = self.request().await?;
            let request = match (next, std::mem::take(&mut self.owes_credentials)) {
                (Ok(request), false) => request,
                (Ok(request), true) if self.asks_again(&request) => request,
                (_, true) => {
                    debug!(client = %self.address, "something else than credentials followed the challenge to a CONNECT");
                    self.linger().await;
                    return None;
                }
                (Err(bad), false) => {
                    self.refuse(&bad).await;
                    return None;
                }
            };
            match self.answer(request).await {
                Next::Request => {}
                Next::Close => return None,
                Next::Tunnel(origin) => {
                    let Self { io, input, entry, .. } = self;
                    return Some((Side { io, early: input.into_bytes() }, origin, entry));
                }
            }
        }
    }

    /// Whether a request asks for the same tunnel as the one before, with credentials.
    fn asks_again(&self, request: &Request) -> bool {
        let head = self.input.unread();
        let is_same = |(known, _): &(Box<[u8]>, _)| **known == *request.target(head);
        request.method == Method::Connect
            && self.last.as_ref().is_some_and(is_same)
            && request.field(head, Name::ProxyAuthorization).is_some()
    }

    /// Waits for a request's head; `None` when there will be no other.
    async fn request(&mut self) -> Option<Result<Request, BadRequest>> {
        let (idle, header) = {
            let options = self.worker.shared.options.load();
            (options.idle_timeout, options.header_timeout)
        };
        self.timer.set(match (self.is_proved, self.auth.conversation.is_suppressed()) {
            (true, _) => idle,
            (false, false) => idle.min(UNPROVED_IDLE_TIMEOUT),
            (false, true) => idle.min(SUPPRESSED_IDLE_TIMEOUT),
        });
        let mut end = HeadEnd::default();
        let mut has_begun = false;
        let begun = poll_fn(|cx| {
            loop {
                if !self.input.is_empty() && end.may_be_in(self.input.unread()) {
                    match Request::parse(self.input.unread()) {
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
                            self.conduct.fails();
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
        self.is_late || self.connection.signal() != Signal::None
    }

    /// Whether the connection goes on after this request, as far as client and gateway are concerned.
    pub(super) fn keeps_alive(&self, request: &Request) -> bool {
        request.keeps_alive && !self.has_ended && !self.is_closing()
    }

    async fn answer(&mut self, request: Request) -> Next {
        self.entry.begin(request.method_name(self.input.unread()));
        let next = match self.pass_on(&request).await {
            Ok(next) => next,
            Err(refusal) => self.say(&request, *refusal).await,
        };
        if self.is_proved {
            self.conduct.serves();
        }
        if !matches!(next, Next::Tunnel(_)) {
            self.connection.carry(Carries::Idle);
        }
        next
    }

    /// Sends the request where it is meant to go, if it may.
    async fn pass_on(&mut self, request: &Request) -> Result<Next, Box<Refusal>> {
        let options = self.worker.shared.options.load_full();
        let (destination, target, proof) = match self.admitted(request, &options).await {
            Ok(admitted) => admitted,
            Err(page) => {
                self.input.consume(request.length);
                return Err(Box::new(Refusal { page, rest: request.body(), proof: None }));
            }
        };
        self.timer.set(options.response_timeout);
        if request.method == Method::Connect {
            connect::connect(self, request, &destination, &options, proof).await
        } else {
            forward::forward(self, request, &destination, target, &options, proof).await
        }
    }

    /// Whereto, and for whom.
    async fn admitted(
        &mut self,
        request: &Request,
        options: &ProxyOptions,
    ) -> Result<(Arc<Destination>, Target, Option<String>), Page> {
        let head = self.input.unread();
        let target = Target::parse(request.method, request.target(head))?;
        let authority = target.authority(request.target(head));
        let destination = match &self.last {
            Some((known, destination)) if **known == *authority => Arc::clone(destination),
            _ => {
                let destination = Arc::new(target.destination(request.target(head))?);
                self.last = Some((authority.into(), Arc::clone(&destination)));
                destination
            }
        };
        let line = self.entry.line();
        line.destination = Some(Arc::clone(&destination.key));
        let path = target.path(request.target(head)).split(|&b| b == b'?').next().unwrap_or_default();
        line.set_path(path);
        if line.path.is_empty() && request.method != Method::Connect {
            line.path.push('/');
        }
        if request.repeats(Name::Host) {
            return Err(Page::bad_request(&UserMessage::new("The request has more than one Host field.")));
        }
        if request.is_loop(head, &options.via) {
            let text = UserMessage::new("This request for ").name(&destination.key);
            let text = text.then(" has come back to the proxy that sent it.");
            return Err(Page::new(StatusCode::LOOP_DETECTED, &text));
        }
        let cleared = admit::admit(self, request, &target, options).await?;
        self.serves(&cleared.user);
        self.entry.line().user = Some(cleared.user);
        Ok((destination, target, cleared.proof))
    }

    /// Whether a client that asked for a tunnel seems to wait for the answer. What has come behind the head was meant for the
    /// tunnel, and may be somebody else's words, whom the client speaks for: it is no request (RFC 9931).
    fn is_all_said(&self, request: &Request) -> bool {
        self.input.is_empty() && !request.has_content()
    }

    /// From now on this user is served. What the one before has proved to an origin is not theirs.
    fn serves(&mut self, user: &Arc<Identity>) {
        let session = self.auth.cleared;
        let is_known = self.served.as_ref().is_some_and(|(known_session, known)| {
            *known_session == session && (Arc::ptr_eq(known, user) || known == user)
        });
        if !is_known {
            self.pinned = None;
            self.served = Some((session, Arc::clone(user)));
        }
    }

    /// Gives an answer of our own, and reads what is left of the request.
    async fn say(&mut self, request: &Request, refusal: Refusal) -> Next {
        let Refusal { page, rest, proof } = refusal;
        let is_challenge = page.status == StatusCode::PROXY_AUTHENTICATION_REQUIRED;
        // A handshake over several legs would be broken off with the connection.
        let is_handshake = is_challenge && self.auth.conversation.is_in_handshake();
        let closes = page.closes
            || (request.method == Method::Connect && !(is_challenge && self.is_all_said(request)))
            // Nobody knows whether the content will come (RFC 9110, section 10.1.1).
            || (request.expects && !rest.is_over() && !is_handshake);
        // A challenged client comes again in any case. Told of a close, curl 7.88 comes with the rest of its file only.
        let kept = self.keeps_alive(request) && !closes && (is_challenge || rest.at_least() <= MAX_LEFTOVER);
        self.owes_credentials = request.method == Method::Connect;
        let may_still_send = closes || !rest.is_over() || !self.input.is_empty();
        let to = To { version: request.version, method: request.method, kept };
        if is_challenge {
            self.worker.shared.stats.challenges.inc();
        }
        let line = self.entry.line();
        line.status = Some(page.status);
        line.sent = page.content(&to);
        // What came before may have stopped the timer, or run it down.
        self.timer.set(self.worker.shared.options.load().header_timeout);
        if self.send(&page.write(&to, proof.as_deref())).await.is_err() {
            return Next::Close;
        }
        self.entry.finish(true);
        if kept && self.discard(rest).await {
            return Next::Request;
        }
        if !kept && may_still_send {
            self.linger().await;
        } else if !kept {
            self.end().await;
        }
        Next::Close
    }

    /// A request that cannot be read gets an answer, and nothing else.
    async fn refuse(&mut self, bad: &BadRequest) {
        let (status, text) = match bad {
            BadRequest::TooLarge => {
                let text = UserMessage::new("The head of the request is larger than ")
                    .number(MAX_HEAD as u64 / 1024);
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text.then(" KiB, or has too many fields."))
            }
            _ => (StatusCode::BAD_REQUEST, unreadable(bad)),
        };
        debug!(client = %self.address, %bad, "a request could not be read");
        self.conduct.fails();
        let page = Page::new(status, &text);
        let to = To { version: Version::Http11, method: Method::Get, kept: false };
        self.entry.begin(Cow::Borrowed(""));
        let line = self.entry.line();
        line.status = Some(status);
        line.sent = page.content(&to);
        line.problem = Some(bad.to_string());
        self.timer.set(REFUSAL_TIMEOUT);
        if self.send(&page.write(&to, None)).await.is_ok() {
            self.entry.finish(true);
            self.linger().await;
        }
    }

    /// Sends all of this, within the time that there is.
    pub(super) async fn send(&mut self, mut bytes: &[u8]) -> Result<(), ()> {
        poll_fn(|cx| {
            while !bytes.is_empty() {
                match Pin::new(&mut self.io).poll_write(cx, bytes) {
                    Poll::Ready(Ok(count)) if count > 0 => bytes = bytes.get(count..).unwrap_or_default(),
                    Poll::Ready(_) => return Poll::Ready(Err(())),
                    Poll::Pending => return self.timer.poll(cx).map(Err),
                }
            }
            match Pin::new(&mut self.io).poll_flush(cx) {
                Poll::Ready(flushed) => Poll::Ready(flushed.map_err(drop)),
                Poll::Pending => self.timer.poll(cx).map(Err),
            }
        })
        .await
    }

    /// Goes on sending a request's content.
    pub(super) fn poll_upload(
        &mut self,
        cx: &mut Context<'_>,
        upload: &mut Transfer,
        to: &mut TcpStream,
    ) -> Poll<Result<(), Broke>> {
        upload.poll(cx, &mut self.input, &mut self.io, to)
    }

    /// While an answer is waited for: what the client sends is the next request's; ready when it has gone away.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
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
        self.waiting.set(self.input.holds(), &self.connection);
    }
}
