//! Bytes both ways, until both sides have said their last word.
//!
//! An idle tunnel holds no buffer: what is read goes through a buffer of the thread, and only what the other side does
//! not take at once is kept. Everything that carries a tunnel goes through [`tunnel`], so that another way of moving
//! the bytes need only replace it.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// As much as is moved at once.
const BUFFER: usize = 64 * 1024;

thread_local! {
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// How many bytes have been moved; right also when the tunnel is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Moved {
    /// From the client.
    pub(super) up: u64,
    /// To the client.
    pub(super) down: u64,
}

/// One side, and what was read of it before it became a tunnel.
pub(super) struct Side<T> {
    pub(super) io: T,
    pub(super) early: Bytes,
}

/// Moves bytes until both sides have ended; the end of one is passed on to the other, which may go on.
pub(super) async fn tunnel<C, O>(client: Side<C>, origin: Side<O>, moved: &mut Moved) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    O: AsyncRead + AsyncWrite + Unpin,
{
    let (mut client_io, mut origin_io) = (client.io, origin.io);
    let mut up = Half { rest: client.early, ended: false, done: false };
    let mut down = Half { rest: origin.early, ended: false, done: false };
    poll_fn(|cx| {
        // Both directions are polled each time: whichever woke the task, the other has to stay registered.
        let up = up.poll(cx, Pin::new(&mut client_io), Pin::new(&mut origin_io), &mut moved.up)?;
        let down = down.poll(cx, Pin::new(&mut origin_io), Pin::new(&mut client_io), &mut moved.down)?;
        if up.is_ready() && down.is_ready() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await
}

/// One direction.
struct Half {
    /// Read and not yet written.
    rest: Bytes,
    /// There is nothing more to read.
    ended: bool,
    /// And the other side has been told.
    done: bool,
}

impl Half {
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        mut from: Pin<&mut R>,
        mut to: Pin<&mut W>,
        moved: &mut u64,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead,
        W: AsyncWrite,
    {
        if self.done {
            return Poll::Ready(Ok(()));
        }
        loop {
            while !self.rest.is_empty() {
                let written = ready!(to.as_mut().poll_write(cx, &self.rest))?;
                if written == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                let _ = self.rest.split_to(written);
                *moved += written as u64;
            }
            if self.ended {
                ready!(to.as_mut().poll_shutdown(cx))?;
                self.done = true;
                return Poll::Ready(Ok(()));
            }
            let mut scratch = SCRATCH.take().unwrap_or_else(|| vec![0; BUFFER].into());
            let result = self.once(cx, from.as_mut(), to.as_mut(), &mut scratch, moved);
            SCRATCH.set(Some(scratch));
            ready!(result)?;
        }
    }

    /// One read, and one try to write what was read.
    fn once<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: Pin<&mut R>,
        to: Pin<&mut W>,
        scratch: &mut [u8],
        moved: &mut u64,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead,
        W: AsyncWrite,
    {
        let mut buffer = ReadBuf::new(scratch);
        ready!(from.poll_read(cx, &mut buffer))?;
        let data = buffer.filled();
        if data.is_empty() {
            self.ended = true;
            return Poll::Ready(Ok(()));
        }
        let written = match to.poll_write(cx, data) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(written) => written?,
            Poll::Pending => 0,
        };
        *moved += written as u64;
        self.rest = data.get(written..).map(Bytes::copy_from_slice).unwrap_or_default();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn it_moves_both_ways_passes_ends_on_and_counts() {
        let (mut client, client_far) = duplex(100);
        let (mut origin, origin_far) = duplex(1000);
        let mut moved = Moved::default();
        let running = tunnel(
            Side { io: client_far, early: Bytes::from_static(b"early ") },
            Side { io: origin_far, early: Bytes::from_static(b"banner ") },
            &mut moved,
        );
        let play = async {
            let large = vec![7; 300_000];
            client.write_all(b"hello").await.unwrap();
            let mut got = [0; 11];
            origin.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"early hello");
            // The client has said its last word; the origin has not.
            client.shutdown().await.unwrap();
            assert_eq!(origin.read(&mut got).await.unwrap(), 0);
            let (sent, received) = tokio::join!(
                async {
                    origin.write_all(&large).await.unwrap();
                    origin.shutdown().await.unwrap();
                },
                async {
                    let mut all = Vec::new();
                    client.read_to_end(&mut all).await.unwrap();
                    all
                }
            );
            let () = sent;
            assert!(received.starts_with(b"banner ") && received.len() == 300_007);
        };
        let (result, ()) = tokio::join!(running, play);
        result.unwrap();
        assert_eq!(moved, Moved { up: 11, down: 300_007 });
    }
}
