//! One message on its way: a head that has been written anew, and content that goes on as it comes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use super::body::{BadBody, Body, Coding, Step};
use super::buffer::Buffer;

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

/// One direction of an exchange. Nothing is copied: content is written from the buffer that it was read into, together
/// with the head or the framing before and behind it.
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
}

impl Transfer {
    pub(in crate::proxy) fn new(head: Vec<u8>, body: Body, coding: Coding) -> Self {
        Self { body, coding, before: head, ..Self::default() }
    }

    /// How many bytes of content have been passed on or are about to be.
    pub(in crate::proxy) const fn content(&self) -> u64 {
        self.content
    }

    /// Whether anything was written since this was asked last.
    pub(in crate::proxy) fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Whether all of it has gone on.
    pub(in crate::proxy) const fn is_over(&self) -> bool {
        self.looked && self.skip == 0 && !self.has_to_write()
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
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            self.look(input)?;
            if self.has_to_write() {
                ready!(self.poll_write(cx, input, to)).map_err(Broke::To)?;
            } else if self.skip > 0 {
                input.consume(std::mem::take(&mut self.skip));
            } else if self.looked {
                return Poll::Ready(Ok(()));
            } else if ready!(input.poll_fill(from, cx)).map_err(Broke::From)? == 0 {
                self.body.closed()?;
                if self.coding == Coding::Chunked {
                    self.behind.extend_from_slice(b"0\r\n\r\n");
                }
                self.looked = true;
            }
        }
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
        let before = self.before.get(self.written..).unwrap_or_default();
        let pass = input.unread().get(..self.pass).unwrap_or_default();
        let parts = [IoSlice::new(before), IoSlice::new(pass), IoSlice::new(&self.behind)];
        let mut count = if before.is_empty() && self.behind.is_empty() {
            ready!(Pin::new(to).poll_write(cx, pass))?
        } else {
            ready!(Pin::new(to).poll_write_vectored(cx, &parts))?
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
