//! Bytes both ways, until both sides have said their last word.
//!
//! An idle tunnel holds no buffer and no descriptor but its two sockets'. Small messages go through a buffer of the
//! thread, and only what the other side does not take at once is kept. Where much comes at a time, it does not come to
//! user space at all: the kernel moves it from socket to socket through a [`Pipe`] of the thread's pool for as long as
//! something is on its way. Under TLS everything comes to user space, since what is on the wire is not the payload.

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::ReadBuf;

use super::splice::{CopyMode, Pipe, YIELD_BYTES, poll_yield};
use crate::net::{ByteStream, Spliceable};

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
pub(super) async fn tunnel<C: ByteStream, O: ByteStream>(
    client: Side<C>,
    origin: Side<O>,
    moved: &mut Moved,
) -> io::Result<()> {
    let mut up = Half::new(client.early);
    let mut down = Half::new(origin.early);
    let (mut client, mut origin) = (client.io, origin.io);
    poll_fn(|cx| {
        // Both directions are polled each time: whichever woke the task, the other has to stay registered.
        let up = up.poll(cx, &mut client, &mut origin, &mut moved.up)?;
        let down = down.poll(cx, &mut origin, &mut client, &mut moved.down)?;
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
    mode: CopyMode,
    /// There is nothing more to read.
    ended: bool,
    /// And the other side has been told.
    done: bool,
}

impl Half {
    const fn new(early: Bytes) -> Self {
        Self { rest: early, pipe: None, mode: CopyMode::Copy, ended: false, done: false }
    }

    fn poll<R: ByteStream, W: ByteStream>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        moved: &mut u64,
    ) -> Poll<io::Result<()>> {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        let result = self.advance(cx, from, to, moved);
        // After an error it is closed with the tunnel.
        if !matches!(result, Poll::Ready(Err(_))) {
            Pipe::release_from(&mut self.pipe);
        }
        result
    }

    fn advance<R: ByteStream, W: ByteStream>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        moved: &mut u64,
    ) -> Poll<io::Result<()>> {
        let turn = *moved + YIELD_BYTES;
        loop {
            // Nothing is read before everything is written: the other side's pace is passed on, and it is always clear
            // which of the sockets splicing waits for.
            while !self.rest.is_empty() {
                let written = not_nothing(ready!(Pin::new(&mut *to).poll_write(cx, &self.rest))?)?;
                let _ = self.rest.split_to(written);
                *moved += written as u64;
            }
            if let Some(pipe) = &mut self.pipe {
                while !pipe.is_empty() {
                    *moved += ready!(pipe.poll_drain(cx, to))? as u64;
                }
            }
            ready!(Pin::new(&mut *to).poll_flush(cx))?;
            if self.ended {
                ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                self.done = true;
                return Poll::Ready(Ok(()));
            }
            if *moved >= turn {
                return poll_yield(cx).map(Ok);
            }
            let source = self.mode.source(from, to).filter(|_| Pipe::acquire_into(&mut self.pipe));
            if let Some(source) = source {
                ready!(self.splice(cx, source))?;
            } else {
                let mut scratch = SCRATCH.take().unwrap_or_else(|| vec![0; BUFFER].into());
                let result = self.copy(cx, from, to, &mut scratch, moved);
                SCRATCH.set(Some(scratch));
                ready!(result)?;
            }
        }
    }

    /// Reads into the pipe.
    fn splice(&mut self, cx: &mut Context<'_>, source: Spliceable<'_>) -> Poll<io::Result<()>> {
        let Some(pipe) = &mut self.pipe else { return Poll::Ready(Ok(())) };
        match ready!(pipe.poll_fill(cx, source, u64::MAX)) {
            Ok(0) => self.ended = true,
            Ok(count) => self.mode.spliced(count),
            Err(error) => self.mode.failed(error)?,
        }
        Poll::Ready(Ok(()))
    }

    /// One read, and one try to write what was read.
    fn copy<R: ByteStream, W: ByteStream>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        scratch: &mut [u8],
        moved: &mut u64,
    ) -> Poll<io::Result<()>> {
        let mut read = ReadBuf::new(scratch);
        ready!(Pin::new(from).poll_read(cx, &mut read))?;
        let data = read.filled();
        if data.is_empty() {
            self.ended = true;
            return Poll::Ready(Ok(()));
        }
        self.mode.copied(data.len());
        let written = match Pin::new(to).poll_write(cx, data) {
            Poll::Ready(written) => not_nothing(written?)?,
            Poll::Pending => 0,
        };
        *moved += written as u64;
        self.rest = data.get(written..).map(Bytes::copy_from_slice).unwrap_or_default();
        Poll::Ready(Ok(()))
    }
}

/// A stream that takes no byte of some, and does not say why, never will.
fn not_nothing(written: usize) -> io::Result<usize> {
    if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) }
}
