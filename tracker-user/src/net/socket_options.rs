//! Options of TCP sockets, the same for clients and origins.

use std::io;
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};

/// A peer that says nothing is asked after this many seconds whether it is still there.
pub(super) const KEEPALIVE_IDLE: u32 = 30;

/// After the first such probe, seconds from one to the next.
pub(super) const KEEPALIVE_INTERVAL: u32 = 10;

/// Milliseconds after which a peer that has acknowledged nothing is given up.
pub(super) const USER_TIMEOUT: u32 = 60_000;

/// Sends small writes without delay, and notices dead peers. What is accepted from a listener inherits all of it, without
/// further calls.
///
/// # Errors
/// If the kernel does not know one of the options.
pub fn tune(socket: &impl AsFd) -> io::Result<()> {
    setsockopt(socket, sockopt::TcpNoDelay, &true)?;
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    setsockopt(socket, sockopt::TcpKeepIdle, &KEEPALIVE_IDLE)?;
    setsockopt(socket, sockopt::TcpKeepInterval, &KEEPALIVE_INTERVAL)?;
    setsockopt(socket, sockopt::TcpUserTimeout, &USER_TIMEOUT)?;
    Ok(())
}
