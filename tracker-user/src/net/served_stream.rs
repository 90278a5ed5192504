//! The stream of a connection that the gateway itself answers on: plain or under TLS. It is in no registry: what moves on it is
//! nobody's traffic.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::tls::{ChannelBinding, ChannelBindingType, HandshakeError, PAGES_HINT, TlsServer};
use super::transport::Transport;

/// See the module.
pub struct ServedStream(Transport);

impl ServedStream {
    /// A connection as it was accepted.
    #[must_use]
    pub const fn plain(socket: TcpStream) -> Self {
        Self(Transport::Plain(socket))
    }

    /// The same behind a TLS handshake. The caller bounds the time.
    ///
    /// # Errors
    /// When the handshake comes to nothing.
    pub async fn secure(socket: TcpStream, server: &TlsServer) -> Result<Self, HandshakeError> {
        match server.accept(socket, PAGES_HINT).await {
            Ok(stream) => Ok(Self(Transport::Tls(Box::new(stream)))),
            Err((error, _)) => Err(error),
        }
    }

    /// Whether it is under TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        matches!(self.0, Transport::Tls(_))
    }

    /// What names the channel to both of its ends; `None` without TLS.
    #[must_use]
    pub fn channel_binding(&self, kind: ChannelBindingType) -> Option<ChannelBinding> {
        self.0.channel_binding(kind)
    }
}

impl AsyncRead for ServedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for ServedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
