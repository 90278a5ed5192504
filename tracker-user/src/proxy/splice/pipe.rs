//! The pipes that bytes are spliced through: a pool per thread, out of which a pipe is taken while bytes are on their way.
//!
//! A pipe goes from tunnel to tunnel. A byte left in it would be told to somebody else, so only [`Pipe::release`] puts
//! one back into the pool, and closes it unless everything that went in has come out.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
#[cfg(test)]
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;

use crate::net::descriptors;
use crate::net::{ByteStream, Spliceable};

/// A pipe's size in bytes, if each of its places held a page; also as much as is asked for at once. A place may hold no more
/// than one small segment: with frames of 1,500 bytes, smaller pipes cost more per byte, down to more than copying. It is
/// what the kernel gives an unprivileged user at most (`fs.pipe-max-size`).
const SIZE: usize = 1024 * 1024;

/// Each takes two descriptors, and holds up to its size for a side that does not read. Beyond that many in the whole process
/// (or less, where there are few descriptors: see [`descriptors::room_for_pipes`]), tunnels copy.
const MAX: usize = if cfg!(test) { 32 } else { 256 };

/// A thread keeps at most this many for the next tunnels.
const MAX_POOLED: usize = 32;

static OPEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static POOL: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

/// A pipe, and how much is in it.
#[derive(Debug)]
pub(in crate::proxy) struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    holds: usize,
}

impl Pipe {
    /// An empty pipe; `None` if there are too many, or the kernel gives none.
    pub(in crate::proxy) fn acquire() -> Option<Self> {
        POOL.with_borrow_mut(Vec::pop).or_else(Self::open)
    }

    /// Sees to it that `place` has one; false if none is to be had.
    pub(in crate::proxy) fn acquire_into(place: &mut Option<Self>) -> bool {
        if place.is_none() {
            *place = Self::acquire();
        }
        place.is_some()
    }

    /// Puts the one in `place` back into the pool. With bytes in it, it stays.
    pub(in crate::proxy) fn release_from(place: &mut Option<Self>) {
        if let Some(pipe) = place.take_if(|pipe| pipe.is_empty()) {
            pipe.release();
        }
    }

    fn open() -> Option<Self> {
        let most = MAX.min(descriptors::room_for_pipes());
        OPEN.fetch_update(Relaxed, Relaxed, |open| (open < most).then_some(open + 1)).ok()?;
        let Ok((read, write)) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK) else {
            OPEN.fetch_sub(1, Relaxed);
            return None;
        };
        let pipe = Self { read, write, holds: 0 };
        // Tunnels can do without: they copy.
        if descriptors::in_reserve(&pipe.write) {
            return None;
        }
        // The kernel gives an unprivileged user only so much for all pipes; a small one is worse than copying.
        fcntl(&pipe.write, FcntlArg::F_SETPIPE_SZ(SIZE as i32)).is_ok().then_some(pipe)
    }

    /// Whether nothing is in it.
    pub(in crate::proxy) const fn is_empty(&self) -> bool {
        self.holds == 0
    }

    /// Takes in what the source has received, at most `limit` bytes; 0 is its end.
    pub(in crate::proxy) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: Spliceable<'_>,
        limit: u64,
    ) -> Poll<io::Result<usize>> {
        let limit = usize::try_from(limit).unwrap_or(SIZE).min(SIZE);
        let moved = ready!(from.poll_receive(cx, |fd| splice(fd, None, &self.write, None, limit, flags())))?;
        self.holds += moved;
        Poll::Ready(Ok(moved))
    }

    /// Sends what is in it, and returns how much of it.
    pub(in crate::proxy) fn poll_drain<W: ByteStream>(
        &mut self,
        cx: &mut Context<'_>,
        to: &W,
    ) -> Poll<io::Result<usize>> {
        // It was filled for a side that may be spliced to, and that does not change.
        let Some(to) = to.spliceable() else { return Poll::Ready(Err(io::ErrorKind::Unsupported.into())) };
        let moved = ready!(to.poll_send(cx, |fd| splice(&self.read, None, fd, None, self.holds, flags())))?;
        self.holds = self.holds.saturating_sub(moved);
        Poll::Ready(Ok(moved))
    }

    /// Puts it back into the pool; with bytes in it, it is closed.
    pub(in crate::proxy) fn release(self) {
        if self.is_empty() {
            // Where there are enough, or the thread ends, it is closed.
            let _ = POOL.try_with(|pool| {
                let mut pool = pool.borrow_mut();
                if pool.len() < MAX_POOLED {
                    pool.push(self);
                }
            });
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
impl Pipe {
    pub(in crate::proxy) fn reading_end(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

/// How many are in this thread's pool.
#[cfg(test)]
pub(in crate::proxy) fn pooled() -> usize {
    POOL.with_borrow(Vec::len)
}

fn flags() -> SpliceFFlags {
    SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK
}
