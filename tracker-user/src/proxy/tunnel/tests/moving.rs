//! Bytes arrive, all of them, in order, and are counted.

use std::os::fd::OwnedFd;
use std::thread;

use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::io::{AsyncRead, AsyncWrite};

use super::*;

/// Far more than is on its way at any moment.
const LARGE: usize = 12_000_000;

/// Arrives in one piece, and is worth splicing.
const MESSAGE: usize = 40_000;

#[tokio::test]
async fn both_ways_at_once_in_pieces_of_any_size_with_stalls() {
    let lab = lab().await;
    let connection = Arc::clone(lab.near.connection());
    let (client, origin) = (lab.client.into_std().unwrap(), lab.origin.into_std().unwrap());
    // One side takes and gives little at once: the other's bytes have to wait in the tunnel.
    setsockopt(&client, sockopt::RcvBuf, &20_000).unwrap();
    setsockopt(&client, sockopt::SndBuf, &20_000).unwrap();
    let mut moved = Moved::default();
    let far: Vec<_> = [(client, 1, LARGE, 2), (origin, 2, LARGE + 12_345, 1)]
        .into_iter()
        .flat_map(|(socket, own, length, others)| {
            socket.set_nonblocking(false).unwrap();
            let reading = socket.try_clone().unwrap();
            [
                thread::spawn(move || {
                    send(&socket, own, length);
                    0
                }),
                thread::spawn(move || receive(&reading, others)),
            ]
        })
        .collect();
    tunnel(side(lab.near), side(lab.origin_near), &mut moved).await.unwrap();
    let received: Vec<usize> = far.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(received, [0, LARGE + 12_345, 0, LARGE]);
    let (up, down) = (LARGE as u64, LARGE as u64 + 12_345);
    assert_eq!(moved, Moved { up, down });
    assert_eq!(connection.bytes(), (up, down), "what is spliced is counted like what is copied");
}

/// The far ends are on other threads, so that both sockets may be ready all the time.
#[tokio::test]
async fn a_busy_tunnel_leaves_the_thread_to_others() {
    let lab = lab().await;
    let (client, origin) = (lab.client.into_std().unwrap(), lab.origin.into_std().unwrap());
    let far = [client, origin].map(|socket| {
        socket.set_nonblocking(false).unwrap();
        socket
    });
    let [client, origin] = far;
    let sending = thread::spawn(move || {
        send(&origin, 3, LARGE);
        receive(&origin, 4)
    });
    let receiving = thread::spawn(move || {
        client.shutdown(std::net::Shutdown::Write).unwrap();
        receive(&client, 3)
    });
    let mut moved = Moved::default();
    let mut turns = 0_u64;
    tokio::select! {
        biased;
        () = async { loop { turns += 1; yield_now().await } } => {}
        result = tunnel(side(lab.near), side(lab.origin_near), &mut moved) => result.unwrap(),
    }
    assert_eq!((sending.join().unwrap(), receiving.join().unwrap()), (0, LARGE));
    // A turn is over with the pipeful that exceeds it.
    assert!(turns >= LARGE as u64 / (YIELD_BYTES + (1 << 20)), "{turns} turns");
}

/// What came before the tunnel comes first, also if it is more than the other side takes at once.
#[tokio::test]
async fn early_bytes_come_first() {
    let lab = lab().await;
    let mut early = vec![0; 9_000_000];
    traffic::fill(5, 0, &mut early);
    let mut moved = Moved::default();
    let client = Side { io: lab.near, early: early.clone().into() };
    let origin = Side { io: lab.origin_near, early: Bytes::from_static(b"banner") };
    let (mut behind_client, mut behind_origin) = (lab.client, lab.origin);
    let play = async {
        behind_client.write_all(b" and more").await.unwrap();
        behind_client.shutdown().await.unwrap();
        let mut all = Vec::new();
        behind_origin.read_to_end(&mut all).await.unwrap();
        assert!(all.strip_suffix(b" and more") == Some(&early));
        behind_origin.shutdown().await.unwrap();
        let mut banner = Vec::new();
        behind_client.read_to_end(&mut banner).await.unwrap();
        assert_eq!(banner, b"banner");
    };
    let (result, ()) = tokio::join!(tunnel(client, origin, &mut moved), play);
    result.unwrap();
    assert_eq!(moved, Moved { up: 9_000_009, down: 6 });
}

/// Much makes it splice, little makes it copy again, and neither keeps anything when all is delivered.
#[tokio::test]
async fn the_way_follows_what_comes() {
    let _alone = PIPES.lock().await;
    let before = pooled();
    let Lab { mut near, mut origin_near, mut client, mut origin, .. } = lab().await;
    let mut half = Half::new(Bytes::new());
    let mut moved = 0;
    let ways = [
        (100, CopyMode::Copy),
        (MESSAGE, CopyMode::Splice),
        (MESSAGE, CopyMode::Splice),
        (3, CopyMode::Copy),
        (9, CopyMode::Copy),
    ];
    for (message, way) in ways.into_iter().chain(ways) {
        let mut sent = vec![0; message];
        traffic::fill(6, moved as usize, &mut sent);
        client.write_all(&sent).await.unwrap();
        let goal = moved + message as u64;
        let arrive = poll_fn(|cx| match half.poll(cx, &mut near, &mut origin_near, &mut moved) {
            Poll::Pending if moved < goal => Poll::Pending,
            other => Poll::Ready(other.is_pending()),
        });
        assert!(arrive.await, "it has not ended");
        let mut received = vec![0; message];
        origin.read_exact(&mut received).await.unwrap();
        assert!(received == sent);
        assert!(half.mode == way, "after {message} bytes");
        assert!(half.pipe.is_none() && half.rest.is_empty(), "idle, it holds nothing");
    }
    assert_eq!(pooled(), before.max(1), "one was used again and again");
}

/// An event counter can be read, but not spliced.
#[tokio::test]
async fn what_the_kernel_does_not_splice_is_copied() {
    let (mut near, mut far) = pair().await;
    let counter = EventFd::from_value_and_flags(7, EfdFlags::EFD_NONBLOCK).unwrap();
    let socket = std::net::TcpStream::from(OwnedFd::from(counter));
    let mut counter = Counter(TcpStream::from_std(socket).unwrap());
    let mut half = Half { mode: CopyMode::Splice, ..Half::new(Bytes::new()) };
    let mut moved = 0;
    let idle = poll_fn(|cx| match half.poll(cx, &mut counter, &mut near, &mut moved) {
        Poll::Pending if moved == 0 => Poll::Pending,
        other => Poll::Ready(other.is_pending()),
    });
    assert!(idle.await, "it goes on");
    assert_eq!((far.read_u64_le().await.unwrap(), moved), (7, 8));
    assert!(half.mode == CopyMode::CopyOnly && half.pipe.is_none());
}

/// Takes itself for a socket.
struct Counter(TcpStream);

impl AsyncRead for Counter {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut value = [0; 8];
        let spliceable = Spliceable::from(&self.get_mut().0);
        let count = ready!(spliceable.poll_receive(cx, |fd| nix::unistd::read(fd, &mut value)))?;
        buf.put_slice(&value[..count]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counter {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, _buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl ByteStream for Counter {
    fn spliceable(&self) -> Option<Spliceable<'_>> {
        Some(Spliceable::from(&self.0))
    }
}
