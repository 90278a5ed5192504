//! The pipes that bytes are spliced through: lent while bytes are on their way, and lent again only if they are empty.
//!
//! A pipe goes from tunnel to tunnel. A byte left in it would be told to somebody else, so only [`Pipe::give_back`] puts
//! one aside, and closes it unless everything that went in has come out.

use std::cell::RefCell;
#[cfg(test)]
use std::os::fd::AsFd;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;

use crate::proxy::descriptors;

/// A pipe's size in bytes, if each of its places held a page; also as much as is asked for at once. A place may hold no more
/// than one small segment: with frames of 1,500 bytes, smaller pipes cost more per byte, down to more than copying. It is
/// what the kernel gives an unprivileged user at most (`fs.pipe-max-size`).
const SIZE: usize = 1024 * 1024;

/// Each takes two descriptors, and holds up to its size for a side that does not read. Beyond that many in the whole process
/// (or less, where there are few descriptors: see [`descriptors::room_for_pipes`]), tunnels copy.
const MAX: usize = if cfg!(test) { 32 } else { 256 };

/// A thread keeps so many for the next tunnel.
const KEPT: usize = 32;

static OPEN: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static FREE: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
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
    pub(in crate::proxy) fn lend() -> Option<Self> {
        FREE.with_borrow_mut(Vec::pop).or_else(Self::open)
    }

    /// Sees to it that `place` has one; false if none is to be had.
    pub(in crate::proxy) fn lend_to(place: &mut Option<Self>) -> bool {
        if place.is_none() {
            *place = Self::lend();
        }
        place.is_some()
    }

    /// Takes it back from `place`, to be lent again. With bytes in it, it stays.
    pub(in crate::proxy) fn take_back(place: &mut Option<Self>) {
        if let Some(pipe) = place.take_if(|pipe| pipe.is_empty()) {
            pipe.give_back();
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

    /// Takes in what a socket has received, at most `limit` bytes; 0 is its end.
    pub(in crate::proxy) fn fill(&mut self, from: BorrowedFd<'_>, limit: u64) -> Result<usize, Errno> {
        let limit = usize::try_from(limit).unwrap_or(SIZE).min(SIZE);
        let moved = splice(from, None, &self.write, None, limit, flags())?;
        self.holds += moved;
        Ok(moved)
    }

    /// Sends what is in it.
    pub(in crate::proxy) fn drain(&mut self, to: BorrowedFd<'_>) -> Result<usize, Errno> {
        let moved = splice(&self.read, None, to, None, self.holds, flags())?;
        self.holds = self.holds.saturating_sub(moved);
        Ok(moved)
    }

    /// To be lent again.
    pub(in crate::proxy) fn give_back(self) {
        if self.is_empty() {
            // Where there are enough, or the thread ends, it is closed.
            let _ = FREE.try_with(|free| {
                let mut free = free.borrow_mut();
                if free.len() < KEPT {
                    free.push(self);
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

/// How many this thread keeps.
#[cfg(test)]
pub(in crate::proxy) fn kept() -> usize {
    FREE.with_borrow(Vec::len)
}

fn flags() -> SpliceFFlags {
    SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK
}
