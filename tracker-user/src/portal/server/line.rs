//! The line of the log that tells of a request, written when the last byte of its answer is on its way or its client has gone.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use http::{Method, StatusCode};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tracing::{debug, info};

use super::places::Doing;
use super::seat::Seat;
use crate::audit::Named;
use crate::clock::{BootTime, boot_now};
use crate::links::shown;
use crate::outside;
use crate::portal::visit::Visit;

/// So many lines in a second are for everybody's eyes; of more than that only the debugging log tells.
const LINES: u32 = 100;
const SECOND: Duration = Duration::from_secs(1);

/// How many lines there may be.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    since: BootTime,
    lines: u32,
    held_back: u64,
}

impl Pace {
    /// Whether one more may be told, and how many were not in the second that is over.
    fn one_more(&self, now: BootTime) -> (bool, u64) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut held_back = 0;
        if now.since(told.since) >= SECOND {
            held_back = told.held_back;
            *told = Told { since: now, ..Told::default() };
        }
        if told.lines < LINES {
            told.lines += 1;
            (true, held_back)
        } else {
            told.held_back += 1;
            (false, held_back)
        }
    }
}

/// What the line says, as far as it is known before the answer is read.
pub(super) struct Line {
    pub(super) visit: Visit,
    pub(super) method: Method,
    pub(super) status: StatusCode,
    pub(super) begun: Instant,
    pub(super) pace: Pace,
}

impl Line {
    fn write(&self, bytes: u64) {
        let Self { visit, method, status, begun, pace } = self;
        let user = visit.admin().or_else(|| visit.web()).map(|session| Named::in_short(&session.identity));
        let (user, path) = (user.as_deref(), outside::shown(visit.path(), outside::NAME));
        let (client, peer) = (shown(visit.client()), visit.peer());
        let peer = (peer != visit.client()).then(|| shown(peer).to_string());
        let ms = begun.elapsed().as_millis();
        let (number, method, status) = (visit.number(), method.as_str(), status.as_u16());
        macro_rules! line {
            ($level:ident) => {
                $level!(
                    target: "portal", request = number, %client, peer, user, role = visit.admin().map(|_| visit.role().as_str()),
                    method, path = &*path, status, bytes, ms
                )
            };
        }
        // What pages are made of is of no interest.
        if path.starts_with("/assets/") && status < 400 {
            return line!(debug);
        }
        let (is_told, held_back) = pace.one_more(boot_now());
        if held_back > 0 {
            info!(target: "portal", count = held_back, "requests without a line of their own");
        }
        if is_told { line!(info) } else { line!(debug) }
    }
}

/// The content of an answer, which tells when it is over.
pub(super) struct Content {
    body: Body,
    bytes: u64,
    line: Line,
    seat: Seat,
}

impl Content {
    pub(super) const fn new(body: Body, line: Line, seat: Seat) -> Self {
        Self { body, bytes: 0, line, seat }
    }
}

impl HttpBody for Content {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            this.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        self.line.write(self.bytes);
        // What is on its way still has to be read; a client that does not is known by that.
        self.seat.note(Doing::Waits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn however_many_ask_there_are_only_so_many_lines() {
        let (pace, start) = (Pace::default(), boot_now());
        let told = (0..LINES + 7).filter(|_| pace.one_more(start).0).count();
        assert_eq!(told, LINES as usize);
        assert_eq!(pace.one_more(start.after(SECOND)), (true, 7));
        assert_eq!(pace.one_more(start.after(SECOND)), (true, 0));
    }
}
