//! Watching a client's connection for the time it takes: to begin a request, and to finish sending its head.
//!
//! hyper has one timeout for both; but a browser may keep a connection open for long without a request, while a head
//! that arrives byte by byte is an attack. So the reads between two requests are watched here.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::options::ProxyOptions;
use crate::clock::{BootTime, boot_now};
use crate::observe::ClientStream;

/// How long a connection on which nobody has proved anything may stay open without a request.
const UNPROVED_IDLE_TIMEOUT: Duration = Duration::from_secs(120);

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;

/// What a connection is doing.
#[derive(Debug)]
pub(super) struct Activity {
    phase: AtomicU8,
    since: AtomicU64,
    proved: AtomicBool,
}

/// When a connection is to be ended, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// No request came.
    Idle(BootTime),
    /// A request's head did not come to its end.
    Head(BootTime),
}

impl Limit {
    pub(super) const fn at(self) -> BootTime {
        match self {
            Self::Idle(at) | Self::Head(at) => at,
        }
    }
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            phase: AtomicU8::new(IDLE),
            since: AtomicU64::new(boot_now().as_nanos()),
            proved: AtomicBool::new(false),
        }
    }

    /// A request is being served.
    pub(super) fn busy(&self) {
        self.phase.store(BUSY, Relaxed);
    }

    /// The answer has gone out.
    pub(super) fn idle(&self) {
        self.enter(IDLE);
    }

    /// What was taken for the beginning of a request was the end of the last one.
    pub(super) fn idle_again(&self) {
        if self.phase.load(Relaxed) == HEAD {
            self.enter(IDLE);
        }
    }

    /// A user has proved themselves on this connection, or may use it without.
    pub(super) fn prove(&self) {
        self.proved.store(true, Relaxed);
    }

    pub(super) fn limit(&self, options: &ProxyOptions) -> Option<Limit> {
        let since = BootTime::from_nanos(self.since.load(Relaxed));
        match self.phase.load(Relaxed) {
            IDLE if self.proved.load(Relaxed) => Some(Limit::Idle(since.after(options.idle_timeout))),
            IDLE => Some(Limit::Idle(since.after(options.idle_timeout.min(UNPROVED_IDLE_TIMEOUT)))),
            HEAD => Some(Limit::Head(since.after(options.header_timeout))),
            _ => None,
        }
    }

    fn read(&self) {
        if self.phase.load(Relaxed) == IDLE {
            self.enter(HEAD);
        }
    }

    /// Only the connection's own task and what it waits for come here: the two stores need not be one.
    fn enter(&self, phase: u8) {
        self.since.store(boot_now().as_nanos(), Relaxed);
        self.phase.store(phase, Relaxed);
    }
}

/// A client's stream, watched.
#[derive(Debug)]
pub(super) struct Watched {
    stream: ClientStream,
    activity: Arc<Activity>,
}

impl Watched {
    pub(super) const fn new(stream: ClientStream, activity: Arc<Activity>) -> Self {
        Self { stream, activity }
    }

    pub(super) fn into_inner(self) -> ClientStream {
        self.stream
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.activity.read();
        }
        result
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
