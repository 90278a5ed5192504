//! One line per request and tunnel, at its end, and the bodies that count what it carried.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use tracing::info;

use super::connection::Client;
use super::leftover::Leftover;
use super::pool::GiveBack;
use crate::clock::{BootTime, boot_now};
use crate::observe::connections::Carries;
use crate::session::Identity;

/// How a request's body is getting on, seen from both ends.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Content bytes passed on.
    pub(super) bytes: AtomicU64,
    /// The client broke it off.
    pub(super) broken: AtomicBool,
}

/// What the access log will say. It says it when this is dropped, however that comes about.
pub(super) struct Entry {
    client: Arc<Client>,
    started: BootTime,
    method: hyper::Method,
    destination: Option<Arc<str>>,
    path: Option<Box<str>>,
    pub(super) user: Option<Arc<Identity>>,
    pub(super) status: Option<StatusCode>,
    pub(super) received: Arc<Progress>,
    pub(super) sent: u64,
    complete: bool,
}

impl Entry {
    pub(super) fn new(client: Arc<Client>, method: hyper::Method) -> Box<Self> {
        Box::new(Self {
            client,
            started: boot_now(),
            method,
            destination: None,
            path: None,
            user: None,
            status: None,
            received: Arc::default(),
            sent: 0,
            complete: false,
        })
    }

    /// Where it goes. Of a URL the query is left out: secrets are found there.
    pub(super) fn to(&mut self, destination: &Arc<str>, path: Option<&str>) {
        self.destination = Some(Arc::clone(destination));
        self.path = path.map(Into::into);
    }

    /// It ended as it should.
    pub(super) fn complete(&mut self) {
        self.complete = true;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let stats = &self.client.shared.stats;
        let bytes_in = self.received.bytes.load(Relaxed);
        stats.answered(self.status);
        stats.bytes_received.inc_by(bytes_in);
        stats.bytes_sent.inc_by(self.sent);
        info!(
            target: "access",
            client = %self.client.address,
            user = self.user.as_deref().map(tracing::field::display),
            method = %self.method,
            destination = self.destination.as_deref(),
            path = self.path.as_deref(),
            status = self.status.map_or(0, |status| status.as_u16()),
            bytes_in,
            bytes_out = self.sent,
            duration_ms = u64::try_from(boot_now().since(self.started).as_millis()).unwrap_or(u64::MAX),
            aborted = (!self.complete).then_some(true),
        );
        self.client.connection.carry(Carries::Idle);
    }
}

/// The body of an answer.
pub(super) struct Body {
    kind: Kind,
    entry: Option<Box<Entry>>,
    give_back: Option<GiveBack>,
    leftover: Option<Leftover>,
}

enum Kind {
    Empty,
    Full(Bytes),
    Origin(Incoming),
}

impl Body {
    pub(super) const fn empty() -> Self {
        Self::of(Kind::Empty)
    }

    pub(super) const fn full(bytes: Bytes) -> Self {
        Self::of(Kind::Full(bytes))
    }

    /// What the origin sends; when it has come to its end, its connection is given back.
    pub(super) fn origin(incoming: Incoming, give_back: GiveBack) -> Self {
        let mut body = Self::of(Kind::Origin(incoming));
        body.give_back = Some(give_back);
        if body.is_end_stream() {
            body.ended();
        }
        body
    }

    const fn of(kind: Kind) -> Self {
        Self { kind, entry: None, give_back: None, leftover: None }
    }

    /// The log's line is written when the body has gone out.
    pub(super) fn log(&mut self, entry: Box<Entry>) {
        self.entry = Some(entry);
        if self.is_end_stream() {
            self.ended();
        }
    }

    /// What is left of the request is read and thrown away once the answer has been taken over for sending.
    pub(super) fn leave(&mut self, leftover: Leftover) {
        self.leftover = Some(leftover);
    }

    fn ended(&mut self) {
        if let Some(give_back) = self.give_back.take() {
            give_back.now();
        }
        if let Some(entry) = &mut self.entry {
            entry.complete();
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // First the state of the connection, then the drain, which changes it again when it ends.
        if let Some(entry) = self.entry.take() {
            entry.client.activity.idle();
        }
        if let Some(leftover) = self.leftover.take() {
            leftover.drain();
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let frame = match &mut this.kind {
            Kind::Empty => None,
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.kind = Kind::Empty;
                Some(Ok(Frame::data(bytes)))
            }
            Kind::Origin(incoming) => ready!(Pin::new(incoming).poll_frame(cx)),
        };
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(data), Some(entry)) = (frame.data_ref(), &mut this.entry) {
                    entry.sent += data.len() as u64;
                }
                // Nobody asks again after a body that says so, nor after trailers.
                if frame.is_trailers() || this.is_end_stream() {
                    this.ended();
                }
            }
            Some(Err(_)) => {}
            None => this.ended(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(bytes) => bytes.is_empty(),
            Kind::Origin(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Origin(incoming) => incoming.size_hint(),
        }
    }
}

/// The body of a request on its way to the origin.
pub(super) struct RequestBody {
    /// `None` is no content.
    content: Option<(Incoming, Arc<Progress>)>,
}

impl RequestBody {
    pub(super) fn new(incoming: Incoming, progress: &Arc<Progress>) -> Self {
        Self { content: (!incoming.is_end_stream()).then(|| (incoming, Arc::clone(progress))) }
    }

    pub(super) const fn empty() -> Self {
        Self { content: None }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some((incoming, progress)) = &mut self.content else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(incoming).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                progress.bytes.fetch_add(bytes, Relaxed);
            }
            Some(Err(_)) => progress.broken.store(true, Relaxed),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.content.as_ref().is_none_or(|(incoming, _)| incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.content.as_ref().map_or(SizeHint::with_exact(0), |(incoming, _)| incoming.size_hint())
    }
}
