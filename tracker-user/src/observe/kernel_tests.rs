//! The kernel side on this very kernel: each test in a network namespace of its own, with real TCP over loopback.
//!
//! They need root, and the eBPF object of `cargo xtask build`. Without them they say "skipped: ...", unless
//! `TRACKER_REQUIRE_PRIVILEGED=1`, which makes that a failure.

mod device;
mod foreign;
mod lab;
mod payload;
mod pinned;
mod places;
mod price;
mod repair;
mod sight;
mod strangers;
mod taken;
mod traffic;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream};

use tracker_ebpf::abi::{HINT_CLOSED, HINT_OPENED};
use tracker_ebpf::record::GRACE;

use super::*;
use lab::*;

#[test]
fn a_connection_is_seen_from_establishment_to_fin() {
    observed(
        |_| (),
        |observer, _| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            let before = boot_now().as_nanos();
            let (client, mut server) = pair(&listener, A);
            let (other, _other_server) = pair(&listener, A);
            let open = record(observer, A);
            assert_eq!(open.open, 2);
            assert!(open.opened_at >= before && open.opened_at <= boot_now().as_nanos());
            assert_eq!(observer.connections(A.into()).unwrap().len(), 2);

            reset(other);
            until(observer, A, |record| record.open == 1);
            // The client's end is closed, ours is not: the connection lasts, as one that its client has ended.
            let before = boot_now().as_nanos();
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(server.read(&mut [0]).unwrap(), 0);
            let half = record(observer, A);
            assert_eq!((half.open, half.half), (0, 1));
            assert!(half.left_at >= before && half.left_at <= boot_now().as_nanos());
            assert_eq!(half.closes_at(), Some(half.left_at + GRACE));
            assert_eq!(observer.resync(|_, _| {}).unwrap().suspected, 0);
            assert_eq!(observer.connections(A.into()).unwrap().first().unwrap().state, "CLOSE-WAIT");
            let before = boot_now().as_nanos();
            drop((client, server));
            let closed = until(observer, A, |record| record.connections() == 0);
            assert!(closed.closed_at >= before && closed.closed_at <= boot_now().as_nanos());
            assert_eq!((closed.left_at, closed.changes), (half.left_at, 5));
            assert_clean(observer);
        },
    );
}

#[test]
fn every_way_of_closing_ends_the_connection_once() {
    observed(
        |_| (),
        |observer, _| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            type Way = fn(TcpStream, TcpStream);
            // How often each of them changes the record after its opening.
            let ways: [(Way, u32); 5] = [
                (|client, server| drop((client, server)), 2),
                (|client, server| drop((server, client)), 1),
                (
                    |client, server| {
                        reset(client);
                        drop(server);
                    },
                    1,
                ),
                (
                    |client, server| {
                        reset(server);
                        drop(client);
                    },
                    1,
                ),
                // Unread data turns the close into a reset.
                (
                    |mut client, server| {
                        client.write_all(b"unread").unwrap();
                        drop((server, client));
                    },
                    1,
                ),
            ];
            let mut changes = 0;
            for (close, closing) in ways {
                let (client, server) = pair(&listener, A);
                assert_eq!(record(observer, A).open, 1);
                close(client, server);
                changes += 1 + closing;
                let closed = until(observer, A, |record| record.connections() == 0);
                assert_eq!(closed.changes, changes);
                // What stays behind in TIME_WAIT is no connection.
                assert_eq!(observer.resync(|_, _| {}).unwrap().suspected, 0);
            }
            assert_clean(observer);
        },
    );
}

#[test]
fn hints_come_for_the_first_connection_and_both_ends_of_the_last_only() {
    observed(
        |_| (),
        |observer, mut hints| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            let first = pair(&listener, A);
            let second = pair(&listener, A);
            exchange(first, 10, 10);
            exchange(second, 10, 10);
            let closed = until(observer, A, |record| record.connections() == 0);
            let third = pair(&listener, B);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (opened, left, last) = (hints.next().await, hints.next().await, hints.next().await);
                assert_eq!((opened.client, opened.kind), (A.into(), HINT_OPENED));
                assert_eq!((left.client, left.kind, left.at), (A.into(), HINT_CLOSED, closed.left_at));
                assert_eq!((last.client, last.kind, last.at), (A.into(), HINT_CLOSED, closed.closed_at));
                let other = hints.next().await;
                assert_eq!((other.client, other.kind), (B.into(), HINT_OPENED));
                // Waiting for one that comes later.
                let (last, ()) = tokio::join!(hints.next(), async { drop(third) });
                assert_eq!((last.client, last.kind), (B.into(), HINT_CLOSED));
            });
            assert_clean(observer);
        },
    );
}

#[test]
fn thousands_of_connections_on_all_cpus_leave_no_trace_but_exact_sums() {
    const THREADS: u32 = 8;
    const ROUNDS: u32 = 250;
    const UP: usize = 300;
    const DOWN: usize = 5_000;
    observed(
        |_| (),
        |observer, _| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            std::thread::scope(|scope| {
                for _ in 0..THREADS {
                    scope.spawn(|| serve(&listener, ROUNDS, UP, DOWN));
                }
                for thread in 0..THREADS {
                    scope.spawn(move || {
                        for round in 0..ROUNDS {
                            // All of them on one address half of the time: that is where counts would be lost.
                            let own = Ipv4Addr::new(127, 0, 1, 1 + thread as u8);
                            ask(if round % 2 == 0 { A } else { own }, UP, DOWN, round);
                        }
                    });
                }
            });
            let all = until(observer, A, |record| record.connections() == 0);
            let rounds = u64::from(THREADS * ROUNDS / 2);
            assert_eq!((all.rx, all.tx), (rounds * UP as u64, rounds * DOWN as u64));
            // Of those that the client does not reset, its end and the close are two.
            let resets =
                (0..ROUNDS).step_by(2).filter(|round| round.is_multiple_of(3)).count() as u32 * THREADS;
            assert_eq!(u64::from(all.changes), 3 * rounds - u64::from(resets));
            for (client, _) in observer.all_recorded().unwrap() {
                let one = until(observer, client.ip(), |record| record.connections() == 0);
                assert_eq!(one.rx % UP as u64, 0);
            }
            assert_eq!(observer.all_recorded().unwrap().len(), 1 + THREADS as usize);
            let resync = observer.resync(|_, _| {}).unwrap();
            assert_eq!((resync.connections, resync.suspected, resync.repaired), (0, 0, 0));
            assert_clean(observer);
        },
    );
}

fn serve(listener: &TcpListener, rounds: u32, up: usize, down: usize) {
    let (mut request, answer) = (vec![0; up], vec![0; down]);
    for _ in 0..rounds {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut request).unwrap();
        stream.write_all(&answer).unwrap();
        // The client ends it, by FIN or RST.
        let _ = stream.read(&mut [0]);
    }
}

fn ask(from: Ipv4Addr, up: usize, down: usize, round: u32) {
    let mut stream = connect_from(from);
    stream.write_all(&vec![0; up]).unwrap();
    stream.read_exact(&mut vec![0; down]).unwrap();
    if round.is_multiple_of(3) {
        reset(stream);
    }
}

#[test]
fn both_families_and_the_mapped_one_are_told_apart_by_client_only() {
    observed(
        |_| (),
        |observer, _| {
            let listener = listen(Ipv6Addr::UNSPECIFIED);
            let (v4, v4_server) = pair(&listener, A);
            assert_eq!(record(observer, A).open, 1);
            let v6 = TcpStream::connect((Ipv6Addr::LOCALHOST, PORT)).unwrap();
            let v6_server = listener.accept().unwrap().0;
            assert_eq!(record(observer, Ipv6Addr::LOCALHOST).open, 1);
            assert_eq!(observer.connections(IpAddr::from(A).into()).unwrap().len(), 1);
            let resync = observer.resync(|_, _| {}).unwrap();
            assert_eq!((resync.clients, resync.connections, resync.suspected), (2, 2, 0));

            exchange((v4, v4_server), 1_000, 3_000_000);
            exchange((v6, v6_server), 3_000_000, 1_000);
            let v4 = until(observer, A, |record| record.connections() == 0);
            let v6 = until(observer, Ipv6Addr::LOCALHOST, |record| record.connections() == 0);
            assert_eq!((v4.rx, v4.tx), (1_000, 3_000_000));
            assert_eq!((v6.rx, v6.tx), (3_000_000, 1_000));
            assert_clean(observer);
        },
    );
}

#[test]
fn other_ports_and_other_namespaces_are_not_seen() {
    observed(
        |_| (),
        |observer, _| {
            let other = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 8080)).unwrap();
            let mut client = connect_socket(client_socket(A), 8080);
            client.write_all(b"not for us").unwrap();
            drop((client, other));
            in_namespace(|| {
                let listener = listen(Ipv4Addr::UNSPECIFIED);
                exchange(pair(&listener, B), 10, 10);
            });
            assert_eq!(observer.all_recorded().unwrap(), vec![]);
            assert_clean(observer);
        },
    );
}

#[test]
fn what_cannot_be_attached_is_said_and_auto_falls_back() {
    in_namespace(|| {
        let options = |mode| ObserveOptions {
            mode,
            cgroup: Some("/nonexistent".into()),
            places: vec![PORT.into()],
            ..ObserveOptions::default()
        };
        if start(|_| ()).is_none() {
            return;
        }
        let error = Observer::start(&options(ObserverMode::Ebpf)).err().expect("there is no such cgroup");
        assert!(error.to_string().contains("observer.cgroup"), "{error}");
        let (observer, _hints) = Observer::start(&options(ObserverMode::Auto)).unwrap();
        assert!(observer.eyes().is_some());
        assert!(matches!(observer.kind(), Kind::Proxy { because } if because.contains("/nonexistent")));
        let none = ObserveOptions { places: vec![], cgroup: None, ..options(ObserverMode::Ebpf) };
        assert!(matches!(Observer::start(&none).err(), Some(ObserveError::Ports(0))));
    });
}
