//! The stream of a client's connection: counts the payload that it moves, whatever the transport.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::registry::Membership;
use super::splice::{ByteStream, Spliceable};
use super::tls::{Accept, ChannelBinding, ChannelBindingType, TlsServer};
use super::transport::Transport;
use super::{Connection, Seen};

/// The stream of a client's connection. It counts what moves, and takes itself out of the registry before its descriptor
/// closes.
///
/// What is counted is payload: what the proxy reads and writes. Under TLS the kernel side counts more for the same
/// connection, since it sees the TCP stream: handshake, record headers, and what else the protocol says for itself.
pub struct ClientStream {
    /// The first field, and so the first to be dropped.
    membership: Membership,
    transport: Transport,
}

impl fmt::Debug for ClientStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientStream").field(&self.connection().id()).finish()
    }
}

impl ClientStream {
    /// A connection as it was accepted.
    pub(super) const fn plain(membership: Membership, socket: TcpStream) -> Self {
        Self { membership, transport: Transport::Plain(socket) }
    }

    /// The connection.
    #[must_use]
    pub const fn connection(&self) -> &Arc<Connection> {
        self.membership.connection()
    }

    /// Whether the connection is no more: reset, or ended by both sides. A client that has only ended its own side is
    /// still there.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        // The kernel knows no peer of a closed socket.
        self.transport.socket().peer_addr().is_err()
    }

    /// Whether what happens on this connection is seen. Costs a system call.
    #[must_use]
    pub fn is_seen(&self) -> bool {
        self.membership.look(self.transport.socket().as_fd()) != Seen::No
    }

    /// What names the channel to both of its ends; `None` without TLS, or where there is none of that type.
    #[must_use]
    pub fn channel_binding(&self, kind: ChannelBindingType) -> Option<ChannelBinding> {
        self.transport.channel_binding(kind)
    }

    /// Waits until something has come, without taking it.
    #[cfg(test)]
    pub(super) async fn readable(&self) {
        self.transport.socket().readable().await.unwrap();
    }

    /// Begins a TLS handshake on a connection that was accepted just now and has been plain so far.
    ///
    /// # Errors
    /// The stream comes back if there is TLS on it already.
    pub fn secure(self, server: &TlsServer) -> Result<Handshake, Self> {
        let Self { membership, transport } = self;
        match transport {
            Transport::Plain(socket) => {
                Ok(Handshake { membership: Some(membership), accept: server.accept(socket) })
            }
            transport @ Transport::Tls(_) => Err(Self { membership, transport }),
        }
    }
}

/// A TLS handshake on a connection that is in the registry already: it counts as one, and can be ended from outside.
pub struct Handshake {
    /// The first field, and so the first to be dropped.
    membership: Option<Membership>,
    accept: Accept,
}

impl Handshake {
    /// The connection; `None` when the handshake is over.
    #[must_use]
    pub fn connection(&self) -> Option<&Arc<Connection>> {
        self.membership.as_ref().map(Membership::connection)
    }
}

impl Future for Handshake {
    type Output = io::Result<ClientStream>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let done = ready!(Pin::new(&mut self.accept).poll(cx));
        let Some(membership) = self.membership.take() else {
            return Poll::Ready(Err(io::Error::other("the handshake was over")));
        };
        Poll::Ready(match done {
            Ok(tls) => Ok(ClientStream { membership, transport: Transport::Tls(Box::new(tls)) }),
            Err((error, socket)) => {
                drop(ClientStream::plain(membership, socket));
                Err(error)
            }
        })
    }
}

impl ByteStream for ClientStream {
    fn spliceable(&self) -> Option<Spliceable<'_>> {
        match &self.transport {
            Transport::Plain(socket) => Some(Spliceable::of_client(socket, &self.membership)),
            Transport::Tls(_) => None,
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buf.filled().len(), buf.remaining());
        let result = Pin::new(&mut self.transport).poll_read(cx, buf);
        if matches!(result, Poll::Ready(Ok(()))) && room > 0 {
            self.membership.received(buf.filled().len().saturating_sub(before));
        }
        result
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.transport).poll_write(cx, buf);
        self.membership.sent(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.transport).poll_write_vectored(cx, bufs);
        self.membership.sent(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}
