//! Content that nobody wants: read and thrown away.

use std::task::{Context, Poll, ready};

use tokio::io::AsyncRead;

use super::body::{Body, Step};
use crate::proxy::buffer::Buffer;

/// See the module.
pub(in crate::proxy) struct Discard {
    body: Body,
    moved: bool,
}

impl Discard {
    /// Throws away what is left of `body`; how long that may take is the caller's to say.
    pub(in crate::proxy) const fn new(body: Body) -> Self {
        Self { body, moved: false }
    }

    /// Whether anything came since this was asked last.
    pub(in crate::proxy) const fn has_moved(&mut self) -> bool {
        std::mem::replace(&mut self.moved, false)
    }

    /// Ready when it is done: false if it broke off.
    pub(in crate::proxy) fn poll<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut Buffer,
        from: &mut R,
    ) -> Poll<bool> {
        loop {
            match self.body.step(input.unread()) {
                Ok(Step::End) => return Poll::Ready(true),
                Ok(Step::Pass { count, .. } | Step::Replace { count, .. }) => input.consume(count),
                Ok(Step::More) => match ready!(input.poll_fill(from, cx)) {
                    Ok(1..) => self.moved = true,
                    Ok(0) | Err(_) => return Poll::Ready(false),
                },
                Err(_) => return Poll::Ready(false),
            }
        }
    }
}
