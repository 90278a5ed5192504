//! Bytes from socket to socket without a way through user space (`splice(2)`), where much comes at a time.
//!
//! Small messages are cheaper to copy: whoever moves bytes begins by copying, and goes by what the last move brought.
//! Where one of the two sides cannot be spliced (see [`Spliceable`]), everything is copied.

mod pipe;

use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use nix::errno::Errno;
use tokio::task::yield_now;

pub(super) use self::pipe::Pipe;
#[cfg(test)]
pub(super) use self::pipe::pooled;
use crate::net::{ByteStream, Spliceable};

/// A copying read that brings this many bytes (a full TLS record) is followed by splicing: more is waiting, or will be.
const SPLICE_THRESHOLD: usize = 16 * 1024;

/// Splicing that brings fewer bytes than this is followed by copying, which is cheaper up to some 6 KiB and pins no pages.
const COPY_THRESHOLD: usize = 4 * 1024;

/// After this many bytes, the other tasks of the thread have their turn: a few hundred microseconds.
pub(super) const YIELD_BYTES: u64 = 1024 * 1024;

/// How one direction moves its bytes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CopyMode {
    /// Through user space.
    #[default]
    Copy,
    /// Through a pipe, if both sides allow it.
    Splice,
    /// Through user space from now on: the kernel does not splice these sockets.
    CopyOnly,
}

impl CopyMode {
    /// This many bytes were copied at once.
    pub(super) fn copied(&mut self, count: usize) {
        if count >= SPLICE_THRESHOLD && *self == Self::Copy {
            *self = Self::Splice;
        }
    }

    /// This many bytes were spliced at once.
    pub(super) const fn spliced(&mut self, count: usize) {
        if count < COPY_THRESHOLD {
            *self = Self::Copy;
        }
    }

    /// Splicing failed: the error, unless copying will do.
    pub(super) fn failed(&mut self, error: io::Error) -> io::Result<()> {
        if error.raw_os_error() != Some(Errno::EINVAL as i32) {
            return Err(error);
        }
        *self = Self::CopyOnly;
        Ok(())
    }

    /// What to splice from, if that is what comes next and both sides allow it. Where one of them does not, it is not
    /// asked again.
    pub(super) fn source<'a, R: ByteStream, W: ByteStream>(
        &mut self,
        from: &'a R,
        to: &W,
    ) -> Option<Spliceable<'a>> {
        if *self != Self::Splice {
            return None;
        }
        let source = from.spliceable().filter(|_| to.spliceable().is_some());
        if source.is_none() {
            *self = Self::CopyOnly;
        }
        source
    }
}

/// Lets the other tasks of the thread have their turn, and the sockets be looked at.
pub(super) fn poll_yield(cx: &mut Context<'_>) -> Poll<()> {
    pin!(yield_now()).poll(cx)
}
