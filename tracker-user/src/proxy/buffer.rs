//! Bytes that have been read and not yet been used.
//!
//! An empty buffer holds no memory: a block is taken from the thread's stock when there is something to read, and goes
//! back when all of it has been used. So the blocks of a core are as many as it has messages under way.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};

/// What is read at once.
const BLOCK: usize = 64 * 1024;

/// How many unused blocks a thread keeps.
const STOCK: usize = 64;

/// More than this waits in the block that it was read into: copying it for each packet would cost more than the memory.
const MOST_SETTLED: usize = 16 * 1024;

thread_local! {
    static BLOCKS: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

fn take() -> Box<[u8]> {
    BLOCKS.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; BLOCK].into())
}

fn give_back(block: Box<[u8]>) {
    if block.len() != BLOCK {
        return;
    }
    // A thread that ends has no stock any more.
    let _ = BLOCKS.try_with(|blocks| {
        let mut blocks = blocks.borrow_mut();
        if blocks.len() < STOCK {
            blocks.push(block);
        }
    });
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Buffer {
    block: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// What has been read and not been used.
    pub(in crate::proxy) fn unread(&self) -> &[u8] {
        self.block.get(self.start..self.end).unwrap_or_default()
    }

    /// The same, to be overwritten.
    pub(in crate::proxy) fn unread_mut(&mut self) -> &mut [u8] {
        self.block.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// Whether nothing is unread.
    pub(in crate::proxy) const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// The first `count` bytes have been used.
    pub(in crate::proxy) fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
        if self.is_empty() {
            self.release();
        }
    }

    /// Takes the first `count` unread bytes out. They go with their block if nothing else is unread, which is most often
    /// so; otherwise whichever part is smaller is copied into memory of its own.
    pub(in crate::proxy) fn split_to(&mut self, count: usize) -> Self {
        let unread = self.unread();
        let (first, rest) = unread.split_at_checked(count).unwrap_or((unread, &[]));
        if rest.is_empty() {
            return std::mem::take(self);
        }
        if first.len() <= rest.len() {
            let taken = Self::copy_of(first);
            self.consume(count);
            return taken;
        }
        let mut taken = std::mem::replace(self, Self::copy_of(rest));
        taken.end = taken.start + count;
        taken
    }

    /// The same bytes, in as little memory as they take: both parts may have to wait, for a proof or for an origin.
    fn copy_of(bytes: &[u8]) -> Self {
        Self { block: bytes.into(), start: 0, end: bytes.len() }
    }

    /// Everything unread, as bytes of their own.
    pub(in crate::proxy) fn into_bytes(self) -> Bytes {
        Bytes::copy_from_slice(self.unread())
    }

    /// Whether a read would have to make the block larger.
    pub(in crate::proxy) const fn is_full(&self) -> bool {
        self.end - self.start >= BLOCK
    }

    /// Reads what there is to read, after what is unread; 0 is the end. Without room, the block is made larger: the
    /// caller sees to it that this ends.
    pub(in crate::proxy) fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        from: &mut R,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.make_room();
        let mut room = ReadBuf::new(self.block.get_mut(self.end..).unwrap_or_default());
        let result = Pin::new(from).poll_read(cx, &mut room);
        let count = room.filled().len();
        self.end += count;
        if self.is_empty() {
            self.release();
        }
        ready!(result)?;
        Poll::Ready(Ok(count))
    }

    /// The memory that it takes.
    pub(in crate::proxy) const fn holds(&self) -> usize {
        self.block.len()
    }

    /// There is nothing more to read for now: what is unread waits in as little memory as it takes.
    pub(in crate::proxy) fn settle(&mut self) {
        let unread = self.unread();
        if unread.is_empty() || self.block.len() < BLOCK || unread.len() > MOST_SETTLED {
            return;
        }
        let settled: Box<[u8]> = unread.into();
        (self.start, self.end) = (0, settled.len());
        give_back(std::mem::replace(&mut self.block, settled));
    }

    fn make_room(&mut self) {
        if self.block.is_empty() {
            self.block = take();
        } else if self.block.len() < BLOCK {
            let mut block = take();
            let unread = self.unread();
            let count = unread.len();
            if let Some(room) = block.get_mut(..count) {
                room.copy_from_slice(unread);
            }
            self.block = block;
            (self.start, self.end) = (0, count);
        } else if self.end == self.block.len() {
            if self.start >= BLOCK / 2 {
                self.block.copy_within(self.start..self.end, 0);
                (self.start, self.end) = (0, self.end - self.start);
            } else {
                let mut larger = vec![0; self.block.len() * 2];
                let unread = self.unread();
                let count = unread.len();
                if let Some(room) = larger.get_mut(..count) {
                    room.copy_from_slice(unread);
                }
                let small = std::mem::replace(&mut self.block, larger.into());
                (self.start, self.end) = (0, count);
                give_back(small);
            }
        }
    }

    fn release(&mut self) {
        (self.start, self.end) = (0, 0);
        give_back(std::mem::take(&mut self.block));
    }
}

#[cfg(test)]
impl From<&[u8]> for Buffer {
    fn from(bytes: &[u8]) -> Self {
        Self::copy_of(bytes)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(buffer: &mut Buffer, mut from: &[u8]) -> usize {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match buffer.poll_fill(&mut from, &mut cx) {
            Poll::Ready(Ok(count)) => count,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_empty_buffer_holds_nothing_and_a_used_block_is_used_again() {
        let mut buffer = Buffer::default();
        assert_eq!((fill(&mut buffer, b""), buffer.block.len()), (0, 0), "the end takes no block");
        assert_eq!(fill(&mut buffer, b"hello"), 5);
        let block = buffer.block.as_ptr();
        buffer.consume(2);
        assert_eq!(buffer.unread(), b"llo");
        buffer.consume(99);
        assert!(buffer.is_empty() && buffer.block.is_empty());
        let mut other = Buffer::default();
        fill(&mut other, b"x");
        assert_eq!(other.block.as_ptr(), block);
    }

    #[test]
    fn what_waits_takes_no_more_than_it_is() {
        let mut buffer = Buffer::default();
        buffer.settle();
        assert_eq!(buffer.holds(), 0);
        fill(&mut buffer, b"GET http://");
        buffer.settle();
        assert_eq!((buffer.holds(), buffer.unread()), (11, &b"GET http://"[..]));
        buffer.consume(4);
        fill(&mut buffer, b"a.test/");
        assert_eq!((buffer.holds(), buffer.unread()), (BLOCK, &b"http://a.test/"[..]));
        fill(&mut buffer, &[b'x'; MOST_SETTLED]);
        buffer.settle();
        assert_eq!(buffer.holds(), BLOCK, "much of it stays where it is");
        buffer.consume(usize::MAX);
        assert_eq!(buffer.holds(), 0);
    }

    /// A head is taken out whole, whatever has come behind it, and only the smaller part moves.
    #[test]
    fn what_is_taken_out_is_apart_from_what_is_left() {
        for (head, rest) in [(5, 0), (5, 3), (3, 5), (5, 5), (BLOCK + 1, 3), (3, BLOCK - 3)] {
            let all: Vec<u8> = (0..head + rest).map(|n| n as u8).collect();
            let mut buffer = Buffer::default();
            let mut from = all.as_slice();
            while !from.is_empty() {
                let count = fill(&mut buffer, from);
                from = from.get(count..).unwrap();
            }
            let block = buffer.block.as_ptr();
            let taken = buffer.split_to(head);
            assert_eq!((taken.unread(), buffer.unread()), all.split_at(head), "{head} {rest}");
            let held = if head > BLOCK { 2 * BLOCK } else { BLOCK };
            assert_eq!(
                taken.holds() + buffer.holds(),
                held + head.min(rest),
                "one block, and the copy: {head} {rest}"
            );
            let stayed = if rest < head { &taken } else { &buffer };
            assert_eq!(stayed.block.as_ptr(), block, "{head} {rest}");
            fill(&mut buffer, b"more");
            assert_eq!(taken.unread(), &all[..head], "{head} {rest}");
            assert_eq!(buffer.unread(), [&all[head..], b"more"].concat(), "{head} {rest}");
        }
    }

    #[test]
    fn it_grows_and_keeps_what_is_unread() {
        let all: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        let mut buffer = Buffer::default();
        let mut rest = all.as_slice();
        let mut used = 0;
        while !rest.is_empty() {
            let count = fill(&mut buffer, rest.get(..rest.len().min(30_001)).unwrap());
            rest = rest.get(count..).unwrap();
            // Something is always used, but less than what comes.
            buffer.consume(7_000);
            used += 7_000;
            assert_eq!(buffer.unread(), all.get(used..all.len() - rest.len()).unwrap());
        }
        assert!(buffer.is_full());
    }
}
