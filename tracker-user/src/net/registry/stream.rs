//! The stream of a connection, which counts what it moves.

use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Relaxed};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tracker_ebpf::record::Direction;

use crate::clock::boot_now;
use crate::net::{Connection, Connections, Left};

/// The stream of a connection: counts what moves, and takes itself out of the registry before its descriptor closes.
pub struct ClientStream {
    pub(super) registry: Arc<Connections>,
    pub(super) connection: Arc<Connection>,
    pub(super) stream: TcpStream,
}

impl fmt::Debug for ClientStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientStream").field(&self.connection.id).finish()
    }
}

impl ClientStream {
    /// The connection.
    #[must_use]
    pub const fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// Whether there may be something to read; wakes the task when there is. See [`TcpStream::poll_read_ready`].
    ///
    /// # Errors
    /// If the runtime shuts down.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_read_ready(cx)
    }

    /// Whether there may be room to write; wakes the task when there is. See [`TcpStream::poll_write_ready`].
    ///
    /// # Errors
    /// If the runtime shuts down.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_write_ready(cx)
    }

    /// Lets `work` take bytes out of the socket by a system call of its own, and counts as many as it answers; 0 means
    /// that the client has ended its side.
    ///
    /// # Errors
    /// Those of `work`. It may say [`io::ErrorKind::WouldBlock`] only if the socket is empty: then it is taken for that,
    /// and so it is without `work` having been called while there is nothing to read.
    pub fn try_receive(&self, work: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        let bytes = self.stream.try_io(Interest::READABLE, work)?;
        self.received(bytes);
        Ok(bytes)
    }

    /// Lets `work` put bytes into the socket by a system call of its own, and counts as many as it answers.
    ///
    /// # Errors
    /// Those of `work`. It may say [`io::ErrorKind::WouldBlock`] only if the socket is full: then it is taken for that,
    /// and so it is without `work` having been called while there is no room.
    pub fn try_send(&self, work: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
        let bytes = self.stream.try_io(Interest::WRITABLE, work)?;
        self.moved(Direction::Sent, bytes);
        Ok(bytes)
    }

    /// So much was read, and there was room for more than nothing.
    #[inline]
    fn received(&self, bytes: usize) {
        if bytes > 0 {
            return self.moved(Direction::Received, bytes);
        }
        if self.connection.ended.swap(true, AcqRel) {
            return;
        }
        let (client, at) = (self.connection.client, boot_now());
        if self.connection.note_end(at) {
            let connection = self.connection.id;
            self.registry.closings.tell(Left { client, connection, at, is_closed: false });
        }
        if let Some(eyes) = &self.registry.eyes {
            eyes.ended(client, at);
        }
    }

    #[inline]
    fn moved(&self, direction: Direction, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let bytes = bytes as u64;
        match direction {
            Direction::Received => &self.connection.rx,
            Direction::Sent => &self.connection.tx,
        }
        .fetch_add(bytes, Relaxed);
        self.connection.note_traffic(direction, &self.registry.rules, boot_now);
        if let Some(eyes) = &self.registry.eyes {
            let ended = self.connection.ended.load(Relaxed);
            eyes.data(self.connection.client, direction, bytes, ended, boot_now());
        }
    }

    #[inline]
    fn sent(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = result {
            self.moved(Direction::Sent, bytes);
        }
        result
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        // The stream, a field, closes the descriptor after this function.
        self.connection.guarded().fd = None;
        self.registry.forget(&self.connection);
    }
}

impl AsFd for ClientStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buf.filled().len(), buf.remaining());
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if matches!(result, Poll::Ready(Ok(()))) && room > 0 {
            self.received(buf.filled().len().saturating_sub(before));
        }
        result
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.sent(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.sent(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
