//! How a tunnel ends: by both sides' last words, by a reset, by a kick-out, by being dropped.

use super::*;

#[tokio::test]
async fn the_end_of_one_side_is_passed_on_and_the_other_goes_on() {
    for client_first in [true, false] {
        let lab = lab().await;
        let mut moved = Moved::default();
        let (mut first, mut second) =
            if client_first { (lab.client, lab.origin) } else { (lab.origin, lab.client) };
        let play = async {
            first.write_all(b"last word").await.unwrap();
            first.shutdown().await.unwrap();
            let mut all = Vec::new();
            second.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, b"last word");
            // Much, and then a little: spliced and copied, after the other direction's end.
            let large = vec![7; 3_000_000];
            let (sent, received) = tokio::join!(
                async {
                    second.write_all(&large).await?;
                    second.write_all(b"!").await?;
                    second.shutdown().await
                },
                async {
                    let mut all = Vec::new();
                    first.read_to_end(&mut all).await.unwrap();
                    all
                }
            );
            sent.unwrap();
            assert!(received.strip_suffix(b"!") == Some(&large));
        };
        let (result, ()) = tokio::join!(tunnel(side(lab.near), side(lab.origin_near), &mut moved), play);
        result.unwrap();
        let (up, down) = if client_first { (9, 3_000_001) } else { (3_000_001, 9) };
        assert_eq!(moved, Moved { up, down });
    }
}

/// The reset meets a tunnel that waits, and one that has bytes it cannot get rid of.
#[tokio::test]
async fn a_reset_breaks_the_tunnel_and_ends_the_other_side() {
    for client_breaks in [true, false] {
        for sends_first in [0, 8_000_000] {
            let lab = lab().await;
            let (breaks, mut stays) =
                if client_breaks { (lab.client, lab.origin) } else { (lab.origin, lab.client) };
            let mut moved = Moved::default();
            let mut running = Box::pin(tunnel(side(lab.near), side(lab.origin_near), &mut moved));
            let large = vec![1; sends_first];
            // Nobody reads: it goes on until nothing moves any more.
            tokio::select! {
                _ = &mut running => panic!("it ended too early"),
                () = async {
                    let _ = tokio::time::timeout(PAUSE, stays.write_all(&large)).await;
                } => {}
            }
            reset(breaks);
            assert!(running.await.is_err());
            // Closed with unread bytes, it is a reset here too.
            let mut rest = Vec::new();
            let _ = stays.read_to_end(&mut rest).await;
            assert!(rest.is_empty());
        }
    }
}

/// What the tunnel holds for a client whose session was ended does not reach it.
#[tokio::test]
async fn a_kicked_out_client_gets_nothing_more() {
    let lab = lab().await;
    assert_a_kick_out_ends_it(&lab.registry, (lab.near, lab.client), (lab.origin_near, lab.origin)).await;
}

/// Whoever drops a tunnel midway finds everything counted that was delivered.
#[tokio::test]
async fn a_dropped_tunnel_has_counted() {
    let lab = lab().await;
    let connection = Arc::clone(lab.near.connection());
    let (mut client, mut origin) = (lab.client, lab.origin);
    let mut moved = Moved::default();
    tokio::select! {
        _ = tunnel(side(lab.near), side(lab.origin_near), &mut moved) => panic!("it ended too early"),
        () = async {
            client.write_all(b"hello").await.unwrap();
            let mut got = vec![0; 500_000];
            origin.read_exact(&mut got[..5]).await.unwrap();
            let large = vec![2; 500_000];
            tokio::join!(async { origin.write_all(&large).await.unwrap() }, async {
                client.read_exact(&mut got).await.unwrap();
            });
        } => {}
    }
    assert_eq!(moved, Moved { up: 5, down: 500_000 });
    assert_eq!(connection.bytes(), (5, 500_000));
    assert!(lab.registry.is_empty(), "dropped, it has closed its sockets");
    assert_eq!(client.read(&mut [0; 1]).await.unwrap(), 0);
}
