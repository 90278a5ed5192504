//! Content that nobody wants: read and thrown away.

use std::task::{Context, Poll, ready};

use tokio::io::AsyncRead;

use super::body::{Body, Step};
use super::buffer::Buffer;

/// See the module.
pub(in crate::proxy) struct Discard {
    body: Body,
    left: u64,
}

impl Discard {
    /// Throws away what is left of `body`, but at most `limit` bytes.
    pub(in crate::proxy) const fn new(body: Body, limit: u64) -> Self {
        Self { body, left: limit }
    }

    /// Ready when it is done: false if there was more than the limit, or if it broke off.
    pub(in crate::proxy) fn poll<R: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut Buffer,
        from: &mut R,
    ) -> Poll<bool> {
        loop {
            match self.body.step(input.unread()) {
                Ok(Step::End) => return Poll::Ready(true),
                Ok(Step::Pass { count, .. } | Step::Replace { count, .. }) => {
                    input.consume(count);
                    match self.left.checked_sub(count as u64) {
                        Some(left) => self.left = left,
                        None => return Poll::Ready(false),
                    }
                }
                Ok(Step::More) => match ready!(input.poll_fill(from, cx)) {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return Poll::Ready(false),
                },
                Err(_) => return Poll::Ready(false),
            }
        }
    }
}
