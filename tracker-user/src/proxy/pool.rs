//! Idle connections to origins, kept for the next request to the same one. Each core has its own: no locks.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use prometheus::{IntCounter, IntGauge};
use tokio::net::TcpStream;

use super::buffer::Buffer;
use super::http1::{BadResponse, HeadEnd, MAX_HEAD, Response, ResponseHead};
use super::stats::Stats;
use crate::clock::{BootTime, boot_now};

/// A connection to an origin.
pub(super) struct Origin {
    pub(super) io: TcpStream,
    pub(super) input: Buffer,
    /// `host:port`: what it may be used for again.
    pub(super) key: Arc<str>,
    /// It has served a request before.
    pub(super) reused: bool,
    /// The options that allowed it.
    generation: u64,
    idle_since: BootTime,
    end: HeadEnd,
    /// The head of the answer that begins what is unread.
    response: Response,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The connection ended or broke.
    Closed,
    /// There is one, but it cannot be understood.
    Bad(BadResponse),
}

impl Origin {
    pub(super) fn new(io: TcpStream, key: Arc<str>, generation: u64) -> Self {
        Self {
            io,
            input: Buffer::default(),
            key,
            reused: false,
            generation,
            idle_since: boot_now(),
            end: HeadEnd::default(),
            response: Response::default(),
        }
    }

    /// The head of the answer that has come, as long as it is unread.
    pub(super) fn response(&self) -> ResponseHead<'_> {
        ResponseHead::new(&self.response, self.input.unread())
    }

    /// The head of the answer has been read.
    pub(super) fn consume_response(&mut self) {
        let response = std::mem::take(&mut self.response);
        self.input.consume(response.length());
    }

    /// Waits for the head of an answer.
    pub(super) fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NoAnswer>> {
        loop {
            if !self.input.is_empty() && self.end.may_be_in(self.input.unread()) {
                match Response::parse(self.input.unread()) {
                    Ok(Some(response)) => {
                        self.end.begin();
                        self.response = response;
                        return Poll::Ready(Ok(()));
                    }
                    Ok(None) => {}
                    Err(bad) => return Poll::Ready(Err(NoAnswer::Bad(bad))),
                }
            }
            match self.input.poll_fill(&mut self.io, cx) {
                Poll::Ready(Ok(0)) if self.input.is_empty() => {
                    return Poll::Ready(Err(NoAnswer::Closed));
                }
                // Something that is no head: it breaks off, or it is no HTTP.
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(NoAnswer::Bad(BadResponse::Syntax))),
                Poll::Ready(Ok(_)) if self.input.unread().len() >= MAX_HEAD => {
                    return Poll::Ready(Err(NoAnswer::Bad(BadResponse::TooLarge)));
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Err(NoAnswer::Closed)),
                Poll::Pending => {
                    self.input.settle();
                    return Poll::Pending;
                }
            }
        }
    }

    /// Nothing has come from it, not even its end. Mostly without a system call: the poller would have told. Only where
    /// the last read took exactly what was asked for, it is not known whether that was all.
    fn is_quiet(&self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        let may_have_come = self.io.poll_read_ready(&mut nobody).is_ready();
        let nothing =
            || matches!(self.io.try_read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        self.input.is_empty() && (!may_have_come || nothing())
    }

    /// It has served a request, and waits for another.
    pub(super) fn rest(&mut self) {
        self.reused = true;
        self.idle_since = boot_now();
        self.end.begin();
    }

    /// Whether it may serve another request.
    pub(super) fn is_usable(&self, idle_timeout: Duration, generation: u64, now: BootTime) -> bool {
        self.generation == generation && now.since(self.idle_since) < idle_timeout && self.is_quiet()
    }
}

/// See the module.
pub(super) struct Pool {
    idle: RefCell<HashMap<Arc<str>, Vec<Origin>>>,
    /// How many there are, in this pool,
    here: Cell<usize>,
    /// and in all.
    count: IntGauge,
    given_up: IntCounter,
}

impl Pool {
    pub(super) fn new(stats: &Stats) -> Self {
        Self {
            idle: RefCell::default(),
            here: Cell::new(0),
            count: stats.origins_idle.clone(),
            given_up: stats.origins_given_up.clone(),
        }
    }

    fn came(&self) {
        self.here.set(self.here.get() + 1);
        self.count.inc();
    }

    fn went(&self, count: usize) {
        self.here.set(self.here.get().saturating_sub(count));
        self.count.sub(count as i64);
    }

    /// Closes those that have been idle for longest, at most `most` of them, and returns how many.
    pub(super) fn give_up(&self, most: usize) -> usize {
        let mut all = self.idle.borrow_mut();
        let mut since: Vec<BootTime> = all.values().flatten().map(|origin| origin.idle_since).collect();
        if since.is_empty() || most == 0 {
            return 0;
        }
        let last = most.min(since.len()) - 1;
        let (_, last, _) = since.select_nth_unstable(last);
        let (last, mut count) = (*last, 0);
        all.retain(|_, idle| {
            idle.retain(|origin| {
                let goes = count < most && origin.idle_since <= last;
                count += usize::from(goes);
                !goes
            });
            !idle.is_empty()
        });
        self.went(count);
        self.given_up.inc_by(count as u64);
        count
    }

    /// The connection to this origin that was used last: the likeliest to be still open, and the others get to be
    /// closed.
    pub(super) fn take(&self, key: &str, idle_timeout: Duration, generation: u64) -> Option<Origin> {
        let mut all = self.idle.borrow_mut();
        let idle = all.get_mut(key)?;
        let now = boot_now();
        while let Some(origin) = idle.pop() {
            self.went(1);
            if origin.is_usable(idle_timeout, generation, now) {
                return Some(origin);
            }
        }
        None
    }

    /// Keeps it for another request; at most `limit` to one origin, and `room` to all.
    pub(super) fn put(&self, mut origin: Origin, limit: usize, room: usize, generation: u64) {
        if origin.generation != generation {
            return;
        }
        origin.rest();
        if self.here.get() >= room {
            // Some more than need be: it is looked at all of them for it.
            self.give_up(self.here.get() - room + 1 + room / 8);
        }
        let mut all = self.idle.borrow_mut();
        self.came();
        let idle = match all.get_mut(&origin.key) {
            Some(idle) => idle,
            None => all.entry(Arc::clone(&origin.key)).or_default(),
        };
        idle.push(origin);
        if idle.len() > limit {
            self.went(1);
            drop(idle.remove(0));
        }
    }

    /// Closes what has been idle for too long, and forgets what has been closed.
    pub(super) fn sweep(&self, idle_timeout: Duration, generation: u64) {
        let now = boot_now();
        self.idle.borrow_mut().retain(|_, idle| {
            let before = idle.len();
            idle.retain(|origin| origin.is_usable(idle_timeout, generation, now));
            self.went(before - idle.len());
            !idle.is_empty()
        });
    }

    /// Closes all.
    pub(super) fn clear(&self) {
        let closed = self.idle.take();
        self.went(closed.values().map(Vec::len).sum());
    }
}
