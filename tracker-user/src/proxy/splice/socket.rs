//! What splicing asks of its two sockets: readiness, and the descriptor while they are ready.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::net::ClientStream;

/// A stream socket of the runtime. `work` may say EAGAIN only if the socket itself is why: its readiness is forgotten then.
pub(in crate::proxy) trait Socket: AsFd {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Lets `work` take bytes from the socket, and answers how many.
    fn receive(&self, work: impl FnOnce() -> io::Result<usize>) -> io::Result<usize>;
    /// Lets `work` put bytes into the socket, and answers how many.
    fn send(&self, work: impl FnOnce() -> io::Result<usize>) -> io::Result<usize>;

    /// Tells the other end that nothing more will come.
    fn finish(&self) -> io::Result<()> {
        match shutdown(self.as_fd().as_raw_fd(), Shutdown::Write) {
            Ok(()) | Err(Errno::ENOTCONN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Socket for TcpStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(cx)
    }
    fn receive(&self, work: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        self.try_io(Interest::READABLE, work)
    }
    fn send(&self, work: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        self.try_io(Interest::WRITABLE, work)
    }
}

impl Socket for ClientStream {
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(cx)
    }
    fn receive(&self, work: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        self.try_receive(work)
    }
    fn send(&self, work: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        self.try_send(work)
    }
}

/// Receives with `work`, as soon as the socket is ready.
pub(in crate::proxy) fn poll_receive<S: Socket>(
    cx: &mut Context<'_>,
    socket: &S,
    mut work: impl FnMut(BorrowedFd<'_>) -> Result<usize, Errno>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_readable(cx))?;
        match socket.receive(|| Ok(work(socket.as_fd())?)) {
            Err(error) if is_passing(&error) => {}
            result => return Poll::Ready(result),
        }
    }
}

/// Sends with `work`, as soon as the socket is ready.
pub(in crate::proxy) fn poll_send<S: Socket>(
    cx: &mut Context<'_>,
    socket: &S,
    mut work: impl FnMut(BorrowedFd<'_>) -> Result<usize, Errno>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_writable(cx))?;
        match socket.send(|| Ok(work(socket.as_fd())?)) {
            // A stream socket takes at least one byte, or says why not.
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Err(error) if is_passing(&error) => {}
            result => return Poll::Ready(result),
        }
    }
}

/// Not ready after all, or interrupted: no more than a reason to look again.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
