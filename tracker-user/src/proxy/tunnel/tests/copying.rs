//! Sides that cannot be spliced: in memory, and under TLS. Everything is copied, and nothing else is different.

use tokio::io::{DuplexStream, duplex};

use super::*;
use crate::net::testing::secured;

impl ByteStream for DuplexStream {
    fn spliceable(&self) -> Option<Spliceable<'_>> {
        None
    }
}

/// Less than what is copied at once: most of it has to wait.
const ROOM: usize = 1_000;

#[tokio::test]
async fn in_memory_the_end_of_one_side_is_passed_on_and_the_other_goes_on() {
    let _alone = PIPES.lock().await;
    let before = pooled();
    let ((near, mut client), (far, mut origin)) = (duplex(ROOM), duplex(ROOM));
    let mut moved = Moved::default();
    let mut large = vec![0; 300_000];
    traffic::fill(3, 0, &mut large);
    let play = async {
        client.write_all(b"last word").await.unwrap();
        client.shutdown().await.unwrap();
        let mut all = Vec::new();
        origin.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"last word");
        let mut received = Vec::new();
        let (sent, _) = tokio::join!(
            async {
                origin.write_all(&large).await.unwrap();
                origin.shutdown().await
            },
            client.read_to_end(&mut received)
        );
        sent.unwrap();
        assert!(received == large);
    };
    let (result, ()) = tokio::join!(tunnel(side(near), side(far), &mut moved), play);
    result.unwrap();
    assert_eq!(moved, Moved { up: 9, down: 300_000 });
    assert_eq!(pooled(), before, "no pipe was used");
}

/// One side that cannot be spliced is enough.
#[tokio::test]
async fn between_memory_and_a_socket_much_is_copied_both_ways() {
    let _alone = PIPES.lock().await;
    let before = pooled();
    let ((near, client), (far, origin)) = (duplex(1 << 20), pair().await);
    let mut moved = Moved::default();
    let mut large = vec![0; 3_000_000];
    traffic::fill(4, 0, &mut large);
    let (mut client_reads, mut client_writes) = tokio::io::split(client);
    let (mut origin_reads, mut origin_writes) = origin.into_split();
    let (mut down, mut up) = (Vec::new(), Vec::new());
    let play = async {
        let send = async {
            let (one, two) = tokio::join!(client_writes.write_all(&large), origin_writes.write_all(&large));
            one.and(two).unwrap();
            let (one, two) = tokio::join!(client_writes.shutdown(), origin_writes.shutdown());
            one.and(two).unwrap();
        };
        let (_, one, two) =
            tokio::join!(send, client_reads.read_to_end(&mut down), origin_reads.read_to_end(&mut up));
        one.and(two).unwrap();
    };
    let (result, ()) = tokio::join!(tunnel(side(near), side(far), &mut moved), play);
    result.unwrap();
    assert!(down == large && up == large);
    assert_eq!(moved, Moved { up: 3_000_000, down: 3_000_000 });
    assert_eq!(pooled(), before, "no pipe was used");
}

/// A side that does not read is not read for: what waits is one buffer at most.
#[tokio::test]
async fn the_pace_of_one_side_is_passed_on_to_the_other() {
    let ((mut near, mut client), (mut far, origin)) = (duplex(ROOM), duplex(ROOM));
    let mut half = Half::new(Bytes::new());
    let mut moved = 0;
    let large = vec![5; 10 * ROOM];
    let mut sent = 0;
    let mut play = Box::pin(async {
        loop {
            sent += client.write(&large).await.unwrap();
        }
    });
    let waits = poll_fn(|cx| {
        let result = half.poll(cx, &mut near, &mut far, &mut moved);
        assert!(result.is_pending());
        let _: Poll<()> = Future::poll(play.as_mut(), cx);
        Poll::<()>::Pending
    });
    assert!(tokio::time::timeout(PAUSE, waits).await.is_err());
    drop(play);
    // What the reader has room for, what is copied and waits, and what the writer's own stream holds.
    assert_eq!((moved, half.rest.len(), sent), (ROOM as u64, ROOM, 3 * ROOM));
    assert!(half.mode == CopyMode::Copy && half.pipe.is_none());
    drop(origin);
    let end = poll_fn(|cx| half.poll(cx, &mut near, &mut far, &mut moved)).await;
    assert!(end.is_err(), "the reader is gone");
}

/// An idle tunnel waits for either side without holding anything.
#[tokio::test]
async fn an_idle_tunnel_in_memory_waits() {
    let ((mut near, mut client), (mut far, mut origin)) = (duplex(ROOM), duplex(ROOM));
    let mut half = Half::new(Bytes::new());
    let mut moved = 0;
    for word in ["one", "two"] {
        client.write_all(word.as_bytes()).await.unwrap();
        let goal = moved + 3;
        let arrive = poll_fn(|cx| match half.poll(cx, &mut near, &mut far, &mut moved) {
            Poll::Pending if moved < goal => Poll::Pending,
            other => Poll::Ready(other.is_pending()),
        });
        assert!(arrive.await, "it goes on");
        let mut got = [0; 3];
        origin.read_exact(&mut got).await.unwrap();
        assert_eq!(got, word.as_bytes());
        assert!(half.rest.is_empty() && half.pipe.is_none());
    }
}

#[tokio::test]
async fn under_tls_much_is_copied_both_ways_and_the_payload_is_counted() {
    let _alone = PIPES.lock().await;
    let before = pooled();
    let registry = Arc::new(Connections::new(None));
    let ((near, client), (far, origin)) = (secured(&registry).await, pair().await);
    let connection = Arc::clone(near.connection());
    let mut moved = Moved::default();
    let mut large = vec![0; 3_000_000];
    traffic::fill(8, 0, &mut large);
    let (mut client_reads, mut client_writes) = tokio::io::split(client);
    let (mut origin_reads, mut origin_writes) = origin.into_split();
    let (mut down, mut up) = (Vec::new(), Vec::new());
    let play = async {
        // The client ends first, and goes on receiving.
        let send = async {
            client_writes.write_all(&large).await.unwrap();
            client_writes.shutdown().await.unwrap();
        };
        let (_, received) = tokio::join!(send, origin_reads.read_to_end(&mut up));
        received.unwrap();
        let send = async {
            origin_writes.write_all(&large).await.unwrap();
            origin_writes.write_all(b"!").await.unwrap();
            origin_writes.shutdown().await.unwrap();
        };
        let (_, received) = tokio::join!(send, client_reads.read_to_end(&mut down));
        received.unwrap();
    };
    let (result, ()) = tokio::join!(tunnel(side(near), side(far), &mut moved), play);
    result.unwrap();
    assert!(up == large && down.strip_suffix(b"!") == Some(&large));
    assert_eq!(moved, Moved { up: 3_000_000, down: 3_000_001 });
    assert_eq!(connection.bytes(), (3_000_000, 3_000_001), "payload, not what TLS adds");
    assert_eq!(pooled(), before, "no pipe was used");
    assert!(registry.is_empty());
}

/// Small messages arrive although nothing follows them: what TLS holds back is flushed.
#[tokio::test]
async fn under_tls_a_client_that_reads_late_gets_everything() {
    let registry = Arc::new(Connections::new(None));
    let ((near, mut client), (far, mut origin)) = (secured(&registry).await, pair().await);
    let mut moved = Moved::default();
    let large = vec![6; 20_000_000];
    let play = async {
        let send = async {
            origin.write_all(&large).await.unwrap();
            // The tunnel stands still before the client begins to read; nothing else comes from the origin.
        };
        let receive = async {
            tokio::time::sleep(PAUSE).await;
            let mut received = vec![0; large.len()];
            client.read_exact(&mut received).await.unwrap();
            assert!(received == large);
        };
        tokio::join!(send, receive);
    };
    tokio::select! {
        _ = tunnel(side(near), side(far), &mut moved) => panic!("it ended too early"),
        done = tokio::time::timeout(Duration::from_secs(30), play) => done.unwrap(),
    }
}

#[tokio::test]
async fn under_tls_a_kick_out_ends_a_tunnel_at_once() {
    let registry = Arc::new(Connections::new(None));
    assert_a_kick_out_ends_it(&registry, secured(&registry).await, pair().await).await;
}
