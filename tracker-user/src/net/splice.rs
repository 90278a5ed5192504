//! Which streams the kernel may move bytes of by itself (`splice(2)`).
//!
//! Spliced bytes go from socket to socket as they are on the wire. On a TLS connection that is ciphertext, so only the
//! stream itself can say whether it may be spliced, and it says so with a value that nothing else can make of it: there is
//! no way from a [`ClientStream`](super::ClientStream) to a descriptor but [`Spliceable`].

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::task::{Context, Poll, ready};

use nix::errno::Errno;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::TcpStream;
use tracker_ebpf::record::Direction;

use super::registry::Membership;

/// A stream of bytes both ways, one side of what the proxy moves bytes between. What was written reaches the peer for
/// certain only after a flush.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin {
    /// The stream for splicing; `None` if its bytes have to come through here: under TLS, or without a socket.
    fn spliceable(&self) -> Option<Spliceable<'_>>;
}

impl ByteStream for TcpStream {
    fn spliceable(&self) -> Option<Spliceable<'_>> {
        Some(Spliceable::from(self))
    }
}

/// A TCP socket whose bytes are the payload itself. What is moved through it is counted where the stream is a client's.
#[derive(Clone, Copy)]
pub struct Spliceable<'a> {
    socket: &'a TcpStream,
    client: Option<&'a Membership>,
}

impl<'a> From<&'a TcpStream> for Spliceable<'a> {
    fn from(socket: &'a TcpStream) -> Self {
        Self { socket, client: None }
    }
}

impl<'a> Spliceable<'a> {
    /// The socket of a client, whose bytes are counted.
    pub(super) const fn of_client(socket: &'a TcpStream, client: &'a Membership) -> Self {
        Self { socket, client: Some(client) }
    }

    /// Takes bytes out of the socket with `work` as soon as there are some, and returns how many it says; 0 is the end.
    ///
    /// # Errors
    /// Those of `work`. It may say EAGAIN only if the socket is empty: it is called again when there is more.
    pub fn poll_receive(
        self,
        cx: &mut Context<'_>,
        mut work: impl FnMut(BorrowedFd<'_>) -> Result<usize, Errno>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            match self.socket.try_io(Interest::READABLE, || Ok(work(self.socket.as_fd())?)) {
                Err(error) if is_transient(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(count) => {
                    if let Some(client) = self.client {
                        client.received(count);
                    }
                    return Poll::Ready(Ok(count));
                }
            }
        }
    }

    /// Puts bytes into the socket with `work` as soon as there is room, and returns how many it says.
    ///
    /// # Errors
    /// Those of `work`. It may say EAGAIN only if the socket is full: it is called again when there is room.
    pub fn poll_send(
        self,
        cx: &mut Context<'_>,
        mut work: impl FnMut(BorrowedFd<'_>) -> Result<usize, Errno>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            match self.socket.try_io(Interest::WRITABLE, || Ok(work(self.socket.as_fd())?)) {
                // A stream socket takes at least one byte, or says why not.
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Err(error) if is_transient(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(count) => {
                    if let Some(client) = self.client {
                        client.moved(Direction::Sent, count);
                    }
                    return Poll::Ready(Ok(count));
                }
            }
        }
    }
}

/// Not ready after all, or interrupted: no more than a reason to try again.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
