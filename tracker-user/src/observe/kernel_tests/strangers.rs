//! Clients without a session, in numbers: the records of those with one are theirs alone.

use std::io::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn6, bind, connect, socket};
use tokio::io::AsyncReadExt as _;

use super::super::*;
use super::lab::*;
use crate::net::{ClientStream, Connections, Watcher};

/// Room for so few that a crowd fills it.
const ROOM: u32 = 8;
/// Strangers.
fn crowd() -> impl Iterator<Item = Ipv4Addr> {
    (1..=40).map(|number| Ipv4Addr::new(127, 0, 2, number))
}

fn small(options: &mut ObserveOptions) {
    options.max_records = ROOM;
    options.settings = limit(Duration::from_millis(500));
}

fn used(observer: &Observer) -> (u64, u64) {
    let used = observer.used().unwrap();
    (used.held, used.strangers)
}

#[test]
fn strangers_fill_their_own_share_only() {
    observed(small, |observer, _| {
        let listener = listen(Ipv4Addr::UNSPECIFIED);
        let strangers: Vec<_> = crowd().map(|from| pair(&listener, from)).collect();
        assert_eq!(used(observer), (0, 2));
        assert_eq!(counter(observer, Counter::StrangerUncounted), 38);
        // All of the room for users is free, and no more than that.
        let user = |number| ClientAddr::from(Ipv4Addr::new(127, 0, 3, number));
        for number in 1..=8 {
            observer.ensure(user(number), boot_now()).unwrap();
            observer.ensure(user(number), boot_now()).unwrap();
        }
        let full = observer.ensure(user(9), boot_now());
        assert!(matches!(full, Err(ObserveError::Full(Full { max_records: ROOM }))), "{full:?}");
        assert_eq!(used(observer), (8, 2));
        // A stranger who becomes a user needs one of those, too, and leaves his own to others.
        let [first, second, third, ..] = strangers.as_slice() else { panic!("a crowd") };
        let name = |(client, _): &(TcpStream, TcpStream)| ClientAddr::from(client.local_addr().unwrap().ip());
        assert!(observer.ensure(name(first), boot_now()).is_err());
        observer.release(user(1)).unwrap();
        assert_eq!(used(observer), (7, 2), "there are strangers enough: it is gone");
        assert_eq!(observer.record(user(1)).unwrap(), None);
        observer.ensure(name(first), boot_now()).unwrap();
        assert_eq!((used(observer), observer.record(name(first)).unwrap().unwrap().open), ((8, 1), 1));
        observer.release(user(2)).unwrap();
        assert_eq!((used(observer), observer.record(user(2)).unwrap().is_some()), ((7, 2), true));
        observer.release(user(2)).unwrap();
        observer.forget(user(2)).unwrap();
        observer.forget(name(second)).unwrap();
        assert_eq!(used(observer), (7, 1), "who has a connection stays");
        let Source::Kernel(kernel) = &observer.source else { panic!("the kernel side runs") };
        assert!(kernel.evict(name(second)).unwrap() && !kernel.evict(name(first)).unwrap());
        assert_eq!(used(observer), (7, 0));
        // His next data makes him known again only if he becomes somebody.
        observer.ensure(name(third), boot_now()).unwrap();
        assert_eq!(observer.held().unwrap().len(), 8);
        drop(strangers);
    });
}

#[test]
fn one_network_does_not_take_all_that_strangers_may_have() {
    observed(
        |options| options.max_records = 64,
        |observer, _| {
            let listener = listen(Ipv6Addr::UNSPECIFIED);
            let ip = |line: &str| {
                assert!(std::process::Command::new("ip").args(line.split(' ')).status().unwrap().success());
            };
            ip("-6 route add local 2001:db8::/64 dev lo");
            std::fs::write("/proc/sys/net/ipv6/ip_nonlocal_bind", "1").unwrap();
            let strangers: Vec<_> = (1..=40)
                .map(|number| {
                    let from = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, number);
                    let socket =
                        socket(AddressFamily::Inet6, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
                    bind(socket.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(from, 0, 0, 0))).unwrap();
                    let to = SocketAddrV6::new(Ipv6Addr::LOCALHOST, PORT, 0, 0);
                    connect(socket.as_raw_fd(), &SockaddrIn6::from(to)).unwrap();
                    (TcpStream::from(socket), listener.accept().unwrap())
                })
                .collect();
            assert_eq!(used(observer), (0, 16));
            observer.resync(|_, _| {}).unwrap();
            assert_eq!(used(observer), (0, 4));
            let others: Vec<_> = crowd().take(12).map(|from| pair(&listener, from)).collect();
            assert!(crowd().take(12).all(|from| record(observer, from).open == 1));
            assert_eq!(used(observer), (0, 16));
            for _ in 0..4 {
                observer.resync(|_, _| {}).unwrap();
                assert_eq!(observer.blindness(), None);
            }
            assert_eq!(used(observer), (0, 16));
            drop((strangers, others));
        },
    );
}

/// The proxy's registry of connections, and a connection in it.
fn registered(
    registry: &Arc<Connections>,
    (client, server): (TcpStream, TcpStream),
) -> (TcpStream, ClientStream) {
    let peer = server.peer_addr().unwrap();
    server.set_nonblocking(true).unwrap();
    let server = tokio::net::TcpStream::from_std(server).unwrap();
    (client, registry.accept(ClientAddr::from_peer(peer).unwrap(), peer, server))
}

/// In a crowd, with the observer in an `Arc`, as the daemon has it.
fn among_strangers(test: impl AsyncFnOnce(&Arc<Observer>, &Arc<Connections>, &std::net::TcpListener) + Send) {
    in_namespace(|| {
        let Some((observer, _hints)) = start(small) else { return };
        let observer = Arc::new(observer);
        let listener = listen(Ipv4Addr::UNSPECIFIED);
        let _strangers: Vec<_> = crowd().map(|from| pair(&listener, from)).collect();
        let registry = Arc::new(
            Connections::new(None).watched_by(Arc::<Observer>::clone(&observer) as Arc<dyn Watcher>),
        );
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(&observer, &registry, &listener));
    });
}

#[test]
fn who_logs_in_among_strangers_is_known_with_all_connections() {
    among_strangers(async |observer, registry, listener| {
        let proved = registered(registry, pair(listener, A));
        let idle = registered(registry, pair(listener, A));
        let ended = registered(registry, pair(listener, A));
        ended.0.shutdown(std::net::Shutdown::Write).unwrap();
        pause();
        assert_eq!(find(observer, A), None);
        assert!(registry.is_seen(proved.1.connection()));
        let since = boot_now();
        observer.track(A.into(), since, registry, Some(proved.1.connection().id())).unwrap();
        let known = record(observer, A);
        assert_eq!((known.open, known.half), (2, 1));
        assert_eq!((known.left_at, known.closed_gap_end, known.traffic_gap_end), (since.as_nanos(), 0, 0));
        // Each of them is counted once, whatever it says and however it ends.
        let (mut client, mut server) = proved;
        client.write_all(b"data").unwrap();
        server.read_exact(&mut [0; 4]).await.unwrap();
        until(observer, A, |record| record.rx == 4);
        assert_eq!(record(observer, A).open, 2);
        drop((client, server));
        until(observer, A, |record| record.open == 1);
        drop(ended);
        until(observer, A, |record| record.half == 0);
        assert_eq!(record(observer, A).left_at, since.as_nanos());
        let before = boot_now();
        drop(idle);
        assert!(until(observer, A, |record| record.open == 0).left_at >= before.as_nanos());
        // And nobody was taken for blind because of strangers, at whatever look.
        for _ in 0..6 {
            observer.resync(|_, _| {}).unwrap();
            assert_eq!(observer.blindness(), None);
        }
    });
}

#[test]
fn who_has_left_before_the_login_was_admitted_has_left() {
    among_strangers(async |observer, registry, listener| {
        let (client, server) = registered(registry, pair(listener, A));
        let id = server.connection().id();
        let since = boot_now();
        reset(client);
        while registry.is_seen(server.connection()) {
            std::thread::sleep(Duration::from_millis(1));
        }
        observer.track(A.into(), since, registry, Some(id)).unwrap();
        let known = record(observer, A);
        assert!(known.open == 0 && known.left_at > since.as_nanos(), "{known:?}");

        // Whoever is there by then may be the next one.
        let (client, server) = registered(registry, pair(listener, B));
        let id = server.connection().id();
        let since = boot_now();
        reset(client);
        while registry.is_seen(server.connection()) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let next = registered(registry, pair(listener, B));
        observer.track(B.into(), since, registry, Some(id)).unwrap();
        let known = record(observer, B);
        assert!(known.open == 1 && known.left_at > since.as_nanos(), "{known:?}");
        drop((server, next));
        until(observer, B, |record| record.open == 0);
    });
}

#[test]
fn a_flood_is_no_blindness_and_blindness_in_a_flood_is_seen() {
    among_strangers(async |observer, registry, listener| {
        for _ in 0..6 {
            let resync = observer.resync(|_, _| {}).unwrap();
            assert_eq!((resync.connections, resync.unrecorded), (40, 38));
            assert!(observer.check());
            assert_eq!(observer.blindness(), None);
        }
        let seen = registered(registry, pair(listener, A));
        assert!(!registry.holds_unseen(boot_now()));
        let Source::Kernel(kernel) = &observer.source else { panic!("the kernel side runs") };
        let links: Vec<_> = kernel.links.lock().unwrap().drain(..).collect();
        drop(links);
        let (mut client, mut server) = registered(registry, pair(listener, B));
        assert!(registry.is_seen(seen.1.connection()) && !registry.is_seen(server.connection()));
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0; 1]).await.unwrap();
        drop(seen);
        assert!(registry.holds_unseen(boot_now()));
    });
}
