//! Bytes from socket to socket without a way through user space (`splice(2)`), where much comes at a time.
//!
//! Small messages are cheaper to copy: whoever moves bytes begins by copying, and goes by what the last move brought.

mod pipe;
mod socket;

use std::io;
use std::pin::pin;
use std::task::{Context, Poll};

use nix::errno::Errno;
use tokio::task::yield_now;

pub(super) use self::pipe::Pipe;
#[cfg(test)]
pub(super) use self::pipe::kept;
pub(super) use self::socket::{Socket, poll_receive, poll_send};

/// A copying read that brings so much (a full TLS record) is followed by splicing: more is waiting, or will be.
const MUCH: usize = 16 * 1024;

/// Splicing that brings less is followed by copying, which is cheaper up to some 6 KiB and pins no pages.
const LITTLE: usize = 4 * 1024;

/// After so much, the other tasks of the thread have their turn: a few hundred microseconds.
pub(super) const TURN: u64 = 1024 * 1024;

/// How one direction moves its bytes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Way {
    #[default]
    Copy,
    Splice,
    /// The kernel does not splice these sockets.
    OnlyCopy,
}

impl Way {
    /// So much was copied at once.
    pub(super) fn copied(&mut self, count: usize) {
        if count >= MUCH && *self == Self::Copy {
            *self = Self::Splice;
        }
    }

    /// So much was spliced at once.
    pub(super) const fn spliced(&mut self, count: usize) {
        if count < LITTLE {
            *self = Self::Copy;
        }
    }

    /// Splicing failed: the error, unless copying will do.
    pub(super) fn failed(&mut self, error: io::Error) -> io::Result<()> {
        if error.raw_os_error() != Some(Errno::EINVAL as i32) {
            return Err(error);
        }
        *self = Self::OnlyCopy;
        Ok(())
    }
}

/// Lets the other tasks of the thread have their turn, and the sockets be looked at.
pub(super) fn poll_yield(cx: &mut Context<'_>) -> Poll<()> {
    pin!(yield_now()).poll(cx)
}
