//! What the registry promises.

use std::future::poll_fn;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tracker_ebpf::abi::{Settings, TRAFFIC_CLIENT};

use super::*;
use crate::net::ByteStream as _;
use crate::session::evidence::{Gap, Presence};

async fn pair(registry: &Arc<Connections>) -> (ClientStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (far, near) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (near, peer) = near.unwrap();
    (registry.accept(peer.ip().into(), peer, near), far.unwrap())
}

/// Whoever relays for somebody else says who that is; the wire is the one that it came by.
#[tokio::test]
async fn only_what_no_network_carries_is_private() {
    let registry = Arc::new(Connections::new(None));
    for (client, is_private) in
        [("127.0.0.1", true), ("127.9.9.9", true), ("::1", true), ("10.0.0.7", false), ("fd77::1", false)]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (_far, near) =
            tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let (near, peer) = near.unwrap();
        let stream = registry.accept(client.parse().unwrap(), peer, near);
        assert_eq!(stream.is_private(), is_private, "{client}");
    }
    let (secured, _far) = crate::net::testing::secured(&registry).await;
    assert!(secured.is_private());
}

#[derive(Default)]
struct Seen(Mutex<Vec<String>>);

impl ClientEvents for Seen {
    fn opened(&self, client: ClientAddr, _at: BootTime) {
        self.0.lock().unwrap().push(format!("open {client}"));
    }
    fn data(&self, _client: ClientAddr, direction: Direction, bytes: u64, ended: bool, _at: BootTime) {
        let ended = if ended { ", ended" } else { "" };
        self.0.lock().unwrap().push(format!("{direction:?} {bytes}{ended}"));
    }
    fn ended(&self, client: ClientAddr, _at: BootTime) {
        self.0.lock().unwrap().push(format!("end {client}"));
    }
    fn closed(&self, client: ClientAddr, ended: bool, _at: BootTime) {
        let ended = if ended { ", ended" } else { "" };
        self.0.lock().unwrap().push(format!("close {client}{ended}"));
    }
}

#[tokio::test]
async fn it_counts_and_tells_and_forgets() {
    let seen = Arc::new(Seen::default());
    let registry = Arc::new(Connections::new(Some(Arc::clone(&seen) as Arc<dyn ClientEvents>)));
    let (mut near, mut far) = pair(&registry).await;
    let client = near.connection().client();
    near.connection().begin_exchange(0, Carries::Request { method: "GET".into(), to: "a.test:80".into() });
    far.write_all(b"hello").await.unwrap();
    let mut buffer = [0; 5];
    near.read_exact(&mut buffer).await.unwrap();
    near.write_all(b"hi").await.unwrap();
    let info = registry.of(client).pop().unwrap();
    assert_eq!((info.rx, info.tx, info.carries.to_string().as_str()), (5, 2, "GET a.test:80"));
    assert_eq!(registry.len(), 1);
    drop(near);
    assert!(registry.is_empty() && registry.of(client).is_empty());
    assert_eq!(*seen.0.lock().unwrap(), ["open 127.0.0.1", "Received 5", "Sent 2", "close 127.0.0.1"]);
}

/// To the kernel a connection through a balancer is the balancer's: it is told to others, and not looked for there.
#[tokio::test]
async fn what_comes_through_a_balancer_is_seen_by_the_proxy_alone() {
    struct Blind;
    impl Watcher for Blind {
        fn look(&self, _socket: BorrowedFd<'_>) -> crate::net::Seen {
            crate::net::Seen::No
        }
        fn payload(&self, client: ClientAddr) -> Option<Box<dyn crate::net::Payload>> {
            panic!("{client}'s record in the kernel is not of this connection");
        }
    }
    let (direct, relayed) = (Arc::new(Seen::default()), Arc::new(Seen::default()));
    let registry = Connections::new(Some(Arc::clone(&direct) as Arc<dyn ClientEvents>))
        .relayed_to(Arc::clone(&relayed) as Arc<dyn ClientEvents>)
        .watched_by(Arc::new(Blind));
    let registry = Arc::new(registry);
    let client: ClientAddr = "192.0.2.7".parse().unwrap();
    let unknown = ConnectionId::new(NonZeroU64::MAX);
    assert!(registry.is_direct(client, unknown), "there is no balancer");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (far, near) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let ((near, balancer), mut far) = (near.unwrap(), far.unwrap());
    let caller = Caller::relayed("192.0.2.7:4660".parse().unwrap(), balancer).unwrap();
    let limits = Limits { all: 2, of_client: 1 };
    let mut near = registry.accept_within(caller, near, limits).unwrap();
    let info = registry.of(client).pop().unwrap();
    assert_eq!((info.peer.to_string().as_str(), info.via), ("192.0.2.7:4660", Some(balancer)));

    let id = near.connection().id();
    assert!(registry.is_seen(near.connection()) && !registry.is_direct(client, id));
    assert!(!registry.is_direct(client, unknown), "it may have come through a balancer");
    far.write_all(b"hello").await.unwrap();
    near.read_exact(&mut [0; 5]).await.unwrap();
    assert!(!registry.holds_unseen(boot_now().after(Duration::from_secs(9))));
    far.shutdown().await.unwrap();
    assert_eq!(near.read(&mut [0; 1]).await.unwrap(), 0);
    let seen = SeenConnection { id, seen: crate::net::Seen::Half, is_relayed: true };
    assert_eq!(registry.seen(client), [seen]);

    let (own, mut own_far) = pair(&registry).await;
    own_far.write_all(b"hello").await.unwrap();
    let mut own = own;
    own.read_exact(&mut [0; 5]).await.unwrap();
    drop(near);
    assert!(registry.holds_unseen(boot_now().after(Duration::from_secs(9))), "this one has to be seen");
    drop(own);
    let expected = ["open 192.0.2.7", "Received 5", "end 192.0.2.7", "close 192.0.2.7, ended"];
    assert_eq!(*relayed.0.lock().unwrap(), expected);
    assert_eq!(*direct.0.lock().unwrap(), ["open 127.0.0.1", "Received 5", "close 127.0.0.1"]);
}

/// The end of the client's side is told once, and what moves after it is told apart.
#[tokio::test]
async fn the_clients_end_is_told() {
    let seen = Arc::new(Seen::default());
    let registry = Arc::new(Connections::new(Some(Arc::clone(&seen) as Arc<dyn ClientEvents>)));
    let (mut near, mut far) = pair(&registry).await;
    far.shutdown().await.unwrap();
    near.readable().await;
    assert_eq!(near.read(&mut []).await.unwrap(), 0);
    assert_eq!(*seen.0.lock().unwrap(), ["open 127.0.0.1"], "no room is no end");
    assert_eq!(near.read(&mut [0; 5]).await.unwrap(), 0);
    assert_eq!(near.read(&mut [0; 5]).await.unwrap(), 0);
    near.write_all(b"hi").await.unwrap();
    drop(near);
    let expected = ["open 127.0.0.1", "end 127.0.0.1", "Sent 2, ended", "close 127.0.0.1, ended"];
    assert_eq!(*seen.0.lock().unwrap(), expected);
}

/// What is spliced is counted and told like what the stream moves itself.
#[tokio::test]
async fn what_is_spliced_is_counted_and_told() {
    let seen = Arc::new(Seen::default());
    let registry = Arc::new(Connections::new(Some(Arc::clone(&seen) as Arc<dyn ClientEvents>)));
    let (near, mut far) = pair(&registry).await;
    far.write_all(b"hello").await.unwrap();
    let socket = near.spliceable().unwrap();
    let mut buffer = [0; 10];
    let receive = |cx: &mut Context<'_>| socket.poll_receive(cx, |fd| nix::unistd::read(fd, &mut buffer));
    assert_eq!(poll_fn(receive).await.unwrap(), 5);
    // Empty: nothing is counted, and it is not asked again before more comes.
    let mut asked = 0;
    for _ in 0..2 {
        let receive = |cx: &mut Context<'_>| {
            let work = |fd: BorrowedFd<'_>| {
                asked += 1;
                nix::unistd::read(fd, &mut [0; 10])
            };
            Poll::Ready(socket.poll_receive(cx, work).is_pending())
        };
        assert!(poll_fn(receive).await);
    }
    assert_eq!(asked, 1);
    let send = |cx: &mut Context<'_>| socket.poll_send(cx, |fd| nix::unistd::write(fd, b"hi"));
    assert_eq!(poll_fn(send).await.unwrap(), 2);
    assert_eq!(near.connection().bytes(), (5, 2));
    assert_eq!(*seen.0.lock().unwrap(), ["open 127.0.0.1", "Received 5", "Sent 2"]);
}

#[tokio::test]
async fn destroy_ends_what_the_session_holds_and_nothing_else() {
    let registry = Arc::new(Connections::new(None));
    let (mut bound, mut bound_far) = pair(&registry).await;
    let (mut spared, mut spared_far) = pair(&registry).await;
    let (mut other, mut other_far) = pair(&registry).await;
    bound.connection().bind(SessionId::test(7));
    spared.connection().bind(SessionId::test(7));
    other.connection().bind(SessionId::test(8));
    let client = bound.connection().client();

    assert_eq!(registry.destroy(client, SessionId::test(7), Some(spared.connection().id())), 1);
    assert!(bound.connection().signal() == Signal::End);
    assert!(bound.write_all(b"x").await.is_err() || bound.flush().await.is_err());
    assert!(bound_far.read_u8().await.is_err());
    for (near, far) in [(&mut spared, &mut spared_far), (&mut other, &mut other_far)] {
        assert!(near.connection().signal() != Signal::End);
        near.write_all(b"x").await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'x');
    }
    assert_eq!(
        registry.destroy(client, SessionId::test(7), Some(spared.connection().id())),
        0,
        "it has ended"
    );
}

/// What the kernel had buffered for the previous user must not arrive after the kick-out.
#[tokio::test]
async fn no_byte_moves_after_destroy_not_even_from_the_send_queue() {
    let registry = Arc::new(Connections::new(None));
    let (mut near, mut far) = pair(&registry).await;
    near.connection().bind(SessionId::test(1));
    let chunk = vec![1_u8; 1 << 16];
    let mut sent = 0;
    while let Ok(result) = tokio::time::timeout(Duration::from_millis(50), near.write(&chunk)).await {
        sent += result.unwrap();
    }
    registry.destroy(near.connection().client(), SessionId::test(1), None);
    let mut received = 0;
    let mut buffer = vec![0; 1 << 16];
    while let Ok(bytes) = far.read(&mut buffer).await {
        assert!(bytes > 0, "it ended with a reset, not with a clean end");
        received += bytes;
    }
    assert!(received < sent, "{received} of {sent} bytes arrived");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn accepts_closes_and_destroys_in_any_order_leave_nothing_behind() {
    let registry = Arc::new(Connections::new(None));
    let mut tasks = Vec::new();
    for task in 0..8_u64 {
        let registry = Arc::clone(&registry);
        tasks.push(tokio::spawn(async move {
            for _ in 0..20 {
                let (near, far) = pair(&registry).await;
                near.connection().bind(SessionId::test(task % 2));
                registry.destroy(near.connection().client(), SessionId::test((task + 1) % 2), None);
                drop((near, far));
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert!(registry.is_empty());
}

/// For a session that is of one connection: what happens on that, and that it is closed.
#[tokio::test]
async fn a_record_of_its_own_latches_silences_and_ends_with_the_connection() {
    const LIMIT: Duration = Duration::from_millis(20);
    let registry = Arc::new(Connections::new(None));
    registry.apply(Settings {
        limit: LIMIT.as_nanos() as u64,
        direction: TRAFFIC_CLIENT,
        ..Settings::default()
    });
    let (mut near, mut far) = pair(&registry).await;
    let (other, _other_far) = pair(&registry).await;
    let (client, id) = (near.connection().client(), near.connection().id());
    assert_eq!(registry.evidence(client, id), None, "nothing is kept unless it is asked for");
    assert_eq!(registry.peer(client, id), Some(far.local_addr().unwrap()));

    let begun = boot_now();
    let record = registry.watch(client, id, begun).unwrap();
    assert_eq!((record.open, record.traffic_at, record.traffic_gap), (1, Some(begun), None));
    tokio::time::sleep(LIMIT * 2).await;
    near.write_all(b"hi").await.unwrap();
    assert_eq!(registry.evidence(client, id).unwrap().traffic_at, Some(begun), "not in this direction");
    far.write_all(b"hello").await.unwrap();
    let before = boot_now();
    near.read_exact(&mut [0; 5]).await.unwrap();
    let record = registry.evidence(client, id).unwrap();
    let moved = record.traffic_at.unwrap();
    assert!(moved >= before && moved <= boot_now());
    assert_eq!(record.traffic_gap, Some(Gap { start: begun, end: moved }));
    assert_eq!((record.received, record.sent), (5, 2));
    let again = registry.watch(client, id, boot_now()).unwrap();
    assert_eq!(again, record, "it goes on");

    drop(other);
    drop(near);
    let closed = registry.left().await;
    assert!(closed.len() == 1 && (closed[0].client, closed[0].connection) == (client, id), "{closed:?}");
    assert_eq!(closed[0].closed_after, Some(Traffic { rx: 5, tx: 2 }));
    assert!(closed[0].at >= before);
    assert_eq!((registry.evidence(client, id), registry.watch(client, id, before)), (None, None));
}

#[tokio::test]
async fn what_its_client_has_ended_is_told_and_recorded_whichever_comes_first() {
    for is_watched_first in [true, false] {
        let registry = Arc::new(Connections::new(None));
        let (mut near, mut far) = pair(&registry).await;
        let (client, id) = (near.connection().client(), near.connection().id());
        let begun = boot_now();
        if is_watched_first {
            assert_eq!(registry.watch(client, id, begun).unwrap().presence(), Presence::Open);
        }
        far.shutdown().await.unwrap();
        assert_eq!(near.read(&mut [0; 1]).await.unwrap(), 0);
        if is_watched_first {
            let left = registry.left().await;
            assert!(
                left.len() == 1 && left[0].connection == id && left[0].closed_after.is_none(),
                "{left:?}"
            );
        }
        let record = registry.watch(client, id, begun).unwrap();
        assert_eq!((record.open, record.half_closed), (0, 1));
        near.write_all(b"more").await.unwrap();
        let later = registry.evidence(client, id).unwrap();
        assert!(later.closed_from > record.closed_from && later.half_closed == 1);
    }
}

#[tokio::test]
async fn a_session_of_one_connection_ends_that_one_only() {
    let registry = Arc::new(Connections::new(None));
    let (one, _one) = pair(&registry).await;
    let (two, _two) = pair(&registry).await;
    let client = one.connection().client();
    for stream in [&one, &two] {
        stream.connection().bind(SessionId::test(7));
    }
    assert_eq!(registry.destroy_one(client, one.connection().id(), SessionId::test(8)), 0);
    assert_eq!(registry.destroy_one(client, one.connection().id(), SessionId::test(7)), 1);
    assert_eq!(registry.watch(client, one.connection().id(), boot_now()), None, "it is over");
    assert_eq!(two.connection().signal(), Signal::None);
    assert!(one.connection().is_gone() && !two.connection().is_gone());
}

/// A proof that was read on a connection counts only if that was still there.
#[tokio::test]
async fn a_reset_connection_is_gone_and_a_half_closed_one_is_not() {
    let registry = Arc::new(Connections::new(None));
    let (near, mut far) = pair(&registry).await;
    assert!(!near.connection().is_gone());
    far.shutdown().await.unwrap();
    near.readable().await;
    assert!(!near.connection().is_gone(), "it waits for its answer");
    let (mut near, mut far) = pair(&registry).await;
    far.write_all(b"hello").await.unwrap();
    far.set_zero_linger().unwrap();
    drop(far);
    let gone = async {
        while !near.connection().is_gone() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();
    near.read_exact(&mut [0; 5]).await.unwrap();
}

#[tokio::test]
async fn a_limit_gives_the_stream_back_and_counts_nothing() {
    let registry = Arc::new(Connections::new(None));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let limits = Limits { all: 3, of_client: 2 };
    let mut held = Vec::new();
    for (client, over) in [
        ("10.0.0.1", None),
        ("10.0.0.1", None),
        ("10.0.0.1", Some(Over::Client)),
        ("10.0.0.2", None),
        ("10.0.0.3", Some(Over::All)),
    ] {
        let far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, peer) = listener.accept().await.unwrap();
        let caller = Caller { client: client.parse().unwrap(), peer, via: None };
        match registry.accept_within(caller, near, limits) {
            Ok(near) => {
                assert_eq!(over, None);
                held.push((near, far));
            }
            Err((found, _)) => assert_eq!(Some(found), over, "{client}"),
        }
    }
    assert_eq!((registry.len(), registry.clients.len()), (3, 2));
    drop(held);
    assert!(registry.is_empty() && registry.clients.is_empty());
}

#[tokio::test]
async fn the_oldest_on_which_nothing_happens_are_given_up() {
    let registry = Arc::new(Connections::new(None));
    let mut all = Vec::new();
    for _ in 0..6 {
        all.push(pair(&registry).await);
    }
    all[0].0.connection().bind(SessionId::test(1));
    all[1]
        .0
        .connection()
        .begin_exchange(0, Carries::Request { method: "GET".into(), to: "a.test:80".into() });
    assert_eq!(registry.shed(2), 2);
    let ended = |all: &Vec<(ClientStream, TcpStream)>| -> Vec<bool> {
        all.iter().map(|(near, _)| near.connection().signal() == Signal::End).collect()
    };
    assert_eq!(ended(&all), [false, false, true, true, false, false]);
    assert_eq!(registry.shed(9), 2);
    assert_eq!(registry.shed(9), 0);
    assert_eq!(ended(&all), [false, false, true, true, true, true]);
}
