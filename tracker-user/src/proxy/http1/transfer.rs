//! One message on its way: a head that has been written anew, and content that goes on as it comes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::body::{BadBody, Body, Coding, Step};
use crate::net::{ByteStream, Spliceable};
use crate::proxy::buffer::Buffer;
use crate::proxy::splice::{CopyMode, Pipe, YIELD_BYTES, poll_yield};

/// Where it broke.
#[derive(Debug)]
pub(in crate::proxy) enum Broke {
    /// Where it came from: the connection, or the content itself.
    From(io::Error),
    /// Where it went.
    To(io::Error),
}

impl From<BadBody> for Broke {
    fn from(bad: BadBody) -> Self {
        Self::From(io::Error::new(io::ErrorKind::InvalidData, bad))
    }
}

/// So much content is put behind a head rather than written from where it lies: for less, one plain write is cheaper
/// than a vectored one.
const SMALL: usize = 4 * 1024;

/// One direction of an exchange. Content is written from the buffer that it was read into, together with the head or the
/// framing before and behind it; the much of a long body is spliced.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Transfer {
    body: Body,
    coding: Coding,
    /// To be written before what is passed on: the head, at first,
    before: Vec<u8>,
    /// of which so much is written.
    written: usize,
    /// So many unread bytes are passed on,
    pass: usize,
    /// these are written behind them,
    behind: Vec<u8>,
    /// and so many unread bytes are left out then.
    skip: usize,
    /// All of the body has been looked at.
    looked: bool,
    content: u64,
    moved: bool,
    mode: CopyMode,
    /// What was spliced and not yet written is in here.
    pipe: Option<Pipe>,
}

impl Transfer {
    pub(in crate::proxy) fn new(head: Vec<u8>, body: Body, coding: Coding) -> Self {
        Self { body, coding, before: head, ..Self::default() }
    }

    /// It goes on behind this head. Nothing has gone on so far.
    pub(in crate::proxy) fn begin(&mut self, head: Vec<u8>) {
        self.before = head;
    }

    /// How many bytes of content have been passed on or are about to be.
    pub(in crate::proxy) const fn content(&self) -> u64 {
        self.content
    }

    /// How many bytes of content are known to be still to come.
    pub(in crate::proxy) const fn left(&self) -> u64 {
        self.body.at_least()
    }

    /// Whether anything was written since this was asked last.
    pub(in crate::proxy) fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Whether all of it has gone on.
    pub(in crate::proxy) const fn is_over(&self) -> bool {
        self.looked && self.skip == 0 && !self.has_to_write() && self.pipe.is_none()
    }

    /// Begins anew, for another connection. Only if none of the content has gone on.
    pub(in crate::proxy) fn rewind(&mut self) -> bool {
        self.written = 0;
        self.content == 0
    }

    const fn has_to_write(&self) -> bool {
        self.written < self.before.len() || self.pass > 0 || !self.behind.is_empty()
    }

    /// What is left of the content; what was passed on is counted out.
    pub(in crate::proxy) fn into_rest(self, input: &mut Buffer) -> Body {
        input.consume(self.pass + self.skip);
        self.body
    }

    /// Goes on until all has been written, or until one of the two sides has to be waited for.
    pub(in crate::proxy) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut Buffer,
        from: &mut R,
        to: &mut W,
    ) -> Poll<Result<(), Broke>>
    where
        R: ByteStream,
        W: ByteStream,
    {
        let result = self.advance(cx, input, from, to);
        // After an error it is closed with the exchange.
        if !matches!(result, Poll::Ready(Err(_))) {
            Pipe::release_from(&mut self.pipe);
        }
        result
    }

    fn advance<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut Buffer,
        from: &mut R,
        to: &mut W,
    ) -> Poll<Result<(), Broke>>
    where
        R: ByteStream,
        W: ByteStream,
    {
        let turn = self.content + YIELD_BYTES;
        loop {
            if let Some(pipe) = &mut self.pipe {
                while !pipe.is_empty() {
                    ready!(pipe.poll_drain(cx, to)).map_err(Broke::To)?;
                    self.moved = true;
                }
            }
            self.look(input)?;
            if self.has_to_write() {
                ready!(self.poll_write(cx, input, to)).map_err(Broke::To)?;
            } else if self.skip > 0 {
                input.consume(std::mem::take(&mut self.skip));
            } else if !self.looked && self.content >= turn {
                return poll_yield(cx).map(Ok);
            } else {
                ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(Broke::To)?;
                if self.looked {
                    return Poll::Ready(Ok(()));
                }
                if let Some(source) = self.source(input, from, to) {
                    ready!(self.splice(cx, source))?;
                    continue;
                }
                match ready!(input.poll_fill(from, cx)).map_err(Broke::From)? {
                    0 => {
                        self.body.closed()?;
                        if self.coding == Coding::Chunked {
                            self.behind.extend_from_slice(b"0\r\n\r\n");
                        }
                        self.looked = true;
                    }
                    count => self.mode.copied(count),
                }
            }
        }
    }

    /// What comes next is to be spliced out of, if it is to be spliced; sees to it that there is a pipe then.
    fn source<'a, R: ByteStream, W: ByteStream>(
        &mut self,
        input: &Buffer,
        from: &'a R,
        to: &W,
    ) -> Option<Spliceable<'a>> {
        if !input.is_empty() || self.body.plain().is_none() {
            return None;
        }
        self.mode.source(from, to).filter(|_| Pipe::acquire_into(&mut self.pipe))
    }

    fn splice(&mut self, cx: &mut Context<'_>, source: Spliceable<'_>) -> Poll<Result<(), Broke>> {
        let (Some(pipe), Some(left)) = (&mut self.pipe, self.body.plain()) else {
            return Poll::Ready(Ok(()));
        };
        match ready!(pipe.poll_fill(cx, source, *left)) {
            Ok(0) => return Poll::Ready(Err(BadBody::BrokeOff.into())),
            Ok(count) => {
                *left = left.saturating_sub(count as u64);
                self.content += count as u64;
                self.mode.spliced(count);
            }
            Err(error) => self.mode.failed(error).map_err(Broke::From)?,
        }
        Poll::Ready(Ok(()))
    }

    /// Decides about as much of what is unread as can go on in one write.
    fn look(&mut self, input: &Buffer) -> Result<(), BadBody> {
        while !self.looked && self.skip == 0 && self.behind.is_empty() {
            match self.body.step(input.unread().get(self.pass..).unwrap_or_default())? {
                Step::Pass { count, content: true } if self.coding == Coding::Chunked => {
                    if self.written == self.before.len() {
                        self.before.clear();
                        self.written = 0;
                    }
                    self.before.extend_from_slice(format!("{count:x}\r\n").as_bytes());
                    self.pass = count;
                    self.content += count as u64;
                    self.behind.extend_from_slice(b"\r\n");
                }
                Step::Pass { count, content } if content || self.coding == Coding::Same => {
                    self.pass += count;
                    self.content += if content { count as u64 } else { 0 };
                }
                Step::Pass { count, .. } => self.skip = count,
                Step::Replace { count, by } => {
                    self.skip = count;
                    if self.coding == Coding::Same {
                        self.behind = by;
                    }
                }
                Step::More => return Ok(()),
                Step::End => self.looked = true,
            }
        }
        Ok(())
    }

    fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut Buffer,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        if self.written < self.before.len() && self.pass + self.behind.len() <= SMALL {
            self.before.extend_from_slice(input.unread().get(..self.pass).unwrap_or_default());
            self.before.append(&mut self.behind);
            input.consume(std::mem::take(&mut self.pass));
        }
        let before = self.before.get(self.written..).unwrap_or_default();
        let pass = input.unread().get(..self.pass).unwrap_or_default();
        let parts = [IoSlice::new(before), IoSlice::new(pass), IoSlice::new(&self.behind)];
        let mut count = match (before, pass, self.behind.as_slice()) {
            (only, [], []) | ([], only, []) => ready!(Pin::new(to).poll_write(cx, only))?,
            _ => ready!(Pin::new(to).poll_write_vectored(cx, &parts))?,
        };
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.moved = true;
        let of_before = count.min(before.len());
        count -= of_before;
        self.written += of_before;
        let of_pass = count.min(self.pass);
        input.consume(of_pass);
        self.pass -= of_pass;
        count -= of_pass;
        self.behind.drain(..count.min(self.behind.len()));
        Poll::Ready(Ok(()))
    }
}
