//! Bytes both ways, until both sides have said their last word.
//!
//! An idle tunnel holds no buffer and no descriptor but its two sockets'. Small messages go through a buffer of the
//! thread, and only what the other side does not take at once is kept. Where much comes at a time, it does not come to
//! user space at all: the kernel moves it from socket to socket through a [`Pipe`], lent by the thread for as long as
//! something is on its way.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use nix::unistd::{read, write};
use tokio::net::TcpStream;

use super::splice::{Pipe, Socket, TURN, Way, poll_receive, poll_send, poll_yield};
use crate::net::ClientStream;

/// As much as is copied at once.
const BUFFER: usize = 64 * 1024;

thread_local! {
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// How many bytes have been moved; right also when the tunnel is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    /// From the client.
    pub(super) up: u64,
    /// To the client.
    pub(super) down: u64,
}

/// One side, and what was read of it before it became a tunnel.
pub(super) struct Side<T> {
    pub(super) io: T,
    pub(super) early: Bytes,
}

/// Moves bytes until both sides have ended; the end of one is passed on to the other, which may go on.
pub(super) async fn tunnel(
    client: Side<ClientStream>,
    origin: Side<TcpStream>,
    moved: &mut Moved,
) -> io::Result<()> {
    let mut up = Half::new(client.early);
    let mut down = Half::new(origin.early);
    let (client, origin) = (client.io, origin.io);
    poll_fn(|cx| {
        // Both directions are polled each time: whichever woke the task, the other has to stay registered.
        let up = up.poll(cx, &client, &origin, &mut moved.up)?;
        let down = down.poll(cx, &origin, &client, &mut moved.down)?;
        if up.is_ready() && down.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// One direction.
struct Half {
    /// Copied and not yet written.
    rest: Bytes,
    /// What was spliced and not yet written is in here.
    pipe: Option<Pipe>,
    way: Way,
    /// There is nothing more to read.
    ended: bool,
    /// And the other side has been told.
    done: bool,
}

impl Half {
    const fn new(early: Bytes) -> Self {
        Self { rest: early, pipe: None, way: Way::Copy, ended: false, done: false }
    }

    fn poll<R: Socket, W: Socket>(
        &mut self,
        cx: &mut Context<'_>,
        from: &R,
        to: &W,
        moved: &mut u64,
    ) -> Poll<io::Result<()>> {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        let result = self.advance(cx, from, to, moved);
        // After an error it is closed with the tunnel.
        if !matches!(result, Poll::Ready(Err(_))) {
            Pipe::take_back(&mut self.pipe);
        }
        result
    }

    fn advance<R: Socket, W: Socket>(
        &mut self,
        cx: &mut Context<'_>,
        from: &R,
        to: &W,
        moved: &mut u64,
    ) -> Poll<io::Result<()>> {
        let turn = *moved + TURN;
        loop {
            // Nothing is read before everything is written: the other side's pace is passed on, and it is always clear
            // which of the sockets splicing waits for.
            while !self.rest.is_empty() {
                let written = ready!(poll_send(cx, to, |fd| write(fd, &self.rest)))?;
                let _ = self.rest.split_to(written);
                *moved += written as u64;
            }
            if let Some(pipe) = &mut self.pipe {
                while !pipe.is_empty() {
                    *moved += ready!(poll_send(cx, to, |fd| pipe.drain(fd)))? as u64;
                }
            }
            if self.ended {
                to.finish()?;
                self.done = true;
                return Poll::Ready(Ok(()));
            }
            if *moved >= turn {
                return poll_yield(cx).map(Ok);
            }
            if self.way == Way::Splice && Pipe::lend_to(&mut self.pipe) {
                ready!(self.splice(cx, from))?;
            } else {
                let mut scratch = SCRATCH.take().unwrap_or_else(|| vec![0; BUFFER].into());
                let result = self.copy(cx, from, to, &mut scratch, moved);
                SCRATCH.set(Some(scratch));
                ready!(result)?;
            }
        }
    }

    /// Reads into the pipe.
    fn splice<R: Socket>(&mut self, cx: &mut Context<'_>, from: &R) -> Poll<io::Result<()>> {
        let Some(pipe) = &mut self.pipe else { return Poll::Ready(Ok(())) };
        match ready!(poll_receive(cx, from, |fd| pipe.fill(fd, u64::MAX))) {
            Ok(0) => self.ended = true,
            Ok(count) => self.way.spliced(count),
            Err(error) => self.way.failed(error)?,
        }
        Poll::Ready(Ok(()))
    }

    /// One read, and one try to write what was read.
    fn copy<R: Socket, W: Socket>(
        &mut self,
        cx: &mut Context<'_>,
        from: &R,
        to: &W,
        scratch: &mut [u8],
        moved: &mut u64,
    ) -> Poll<io::Result<()>> {
        let length = ready!(poll_receive(cx, from, |fd| read(fd, scratch)))?;
        if length == 0 {
            self.ended = true;
            return Poll::Ready(Ok(()));
        }
        self.way.copied(length);
        let data = scratch.get(..length).unwrap_or_default();
        let written = match poll_send(cx, to, |fd| write(fd, data)) {
            Poll::Ready(written) => written?,
            Poll::Pending => 0,
        };
        *moved += written as u64;
        self.rest = data.get(written..).map(Bytes::copy_from_slice).unwrap_or_default();
        Poll::Ready(Ok(()))
    }
}
