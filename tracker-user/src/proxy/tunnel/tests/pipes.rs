//! A pipe serves one tunnel after the other. What one left in it must never reach the next.

use nix::errno::Errno;
use nix::unistd::read;

use super::*;

/// A tunnel to a client that does not read, with bytes in its pipe.
async fn stuck() -> (Half, Lab) {
    let mut lab = lab().await;
    let (mut half, mut moved) = (Half::new(Bytes::new()), 0);
    let large = vec![0xee; 1 << 20];
    tokio::select! {
        () = async { loop { lab.origin.write_all(&large).await.unwrap() } } => {}
        () = poll_fn(|cx| {
            assert!(half.poll(cx, &mut lab.origin_near, &mut lab.near, &mut moved).is_pending(), "it ended");
            if half.pipe.as_ref().is_some_and(|pipe| !pipe.is_empty()) { Poll::Ready(()) } else { Poll::Pending }
        }) => {}
    }
    (half, lab)
}

/// Pipes that other tests on this thread left.
fn drop_pooled() {
    while pooled() > 0 {
        drop(Pipe::acquire());
    }
}

#[tokio::test]
async fn a_tunnel_that_is_dropped_with_bytes_in_its_pipe_takes_the_pipe_along() {
    let _alone = PIPES.lock().await;
    drop_pooled();
    drop(stuck().await);
    assert_eq!(pooled(), 0);
    the_next_tunnel_gets_its_own_bytes_only().await;
}

#[tokio::test]
async fn a_tunnel_that_breaks_with_bytes_in_its_pipe_takes_the_pipe_along() {
    let _alone = PIPES.lock().await;
    drop_pooled();
    let (mut half, mut lab) = stuck().await;
    reset(lab.client);
    let end = poll_fn(|cx| half.poll(cx, &mut lab.origin_near, &mut lab.near, &mut 0)).await;
    assert!(end.is_err());
    drop(half);
    assert_eq!(pooled(), 0);
    the_next_tunnel_gets_its_own_bytes_only().await;
}

async fn the_next_tunnel_gets_its_own_bytes_only() {
    let mut lab = lab().await;
    let mut moved = Moved::default();
    let running = tunnel(side(lab.near), side(lab.origin_near), &mut moved);
    let mut large = vec![0; 2_000_000];
    traffic::fill(9, 0, &mut large);
    let play = async {
        let (_, received) = tokio::join!(
            async {
                lab.origin.write_all(&large).await.unwrap();
                lab.origin.shutdown().await.unwrap();
            },
            async {
                let mut all = Vec::new();
                lab.client.read_to_end(&mut all).await.unwrap();
                lab.client.shutdown().await.unwrap();
                all
            }
        );
        assert!(received == large);
    };
    let (result, ()) = tokio::join!(running, play);
    result.unwrap();
    assert!(pooled() > 0, "it had spliced");
    each_pooled_pipe_is_empty();
}

fn each_pooled_pipe_is_empty() {
    for _ in 0..pooled() {
        let pipe = Pipe::acquire().unwrap();
        assert_eq!(read(pipe.reading_end(), &mut [0; 1]), Err(Errno::EAGAIN));
    }
    assert_eq!(pooled(), 0);
}

/// The last guard: whatever its owner believed, a pipe that is not empty is closed.
#[tokio::test]
async fn a_pipe_that_is_not_empty_is_not_pooled() {
    let _alone = PIPES.lock().await;
    drop_pooled();
    let (near, mut far) = pair().await;
    far.write_all(b"secret").await.unwrap();
    let mut full = Pipe::acquire().unwrap();
    poll_fn(|cx| full.poll_fill(cx, Spliceable::from(&near), u64::MAX)).await.unwrap();
    full.release();
    assert_eq!(pooled(), 0);
    Pipe::acquire().unwrap().release();
    assert_eq!(pooled(), 1);
    each_pooled_pipe_is_empty();
}

#[tokio::test]
async fn where_there_are_too_many_pipes_tunnels_copy() {
    let _alone = PIPES.lock().await;
    let taken: Vec<_> = std::iter::from_fn(Pipe::acquire).collect();
    assert!(!taken.is_empty());
    let mut lab = lab().await;
    let mut moved = Moved::default();
    let large = vec![3; 2_000_000];
    let play = async {
        let (_, received) = tokio::join!(
            async {
                lab.client.write_all(&large).await.unwrap();
                lab.client.shutdown().await.unwrap();
            },
            async {
                let mut all = Vec::new();
                lab.origin.read_to_end(&mut all).await.unwrap();
                lab.origin.shutdown().await.unwrap();
                all
            }
        );
        assert!(received == large);
    };
    let (result, ()) = tokio::join!(tunnel(side(lab.near), side(lab.origin_near), &mut moved), play);
    result.unwrap();
    drop(taken);
    Pipe::acquire().unwrap().release();
}
