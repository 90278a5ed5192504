//! Drift between records and sockets, and deleting records while connections open.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown};
use std::sync::atomic::{AtomicBool, Ordering};

use tracker_ebpf::abi::HINT_CLOSED;

use super::super::*;
use super::lab::*;

#[test]
fn connections_older_than_the_observer_are_counted_and_their_end_is_noticed() {
    in_namespace(|| {
        let listener = listen(Ipv4Addr::UNSPECIFIED);
        let old = (pair(&listener, A), pair(&listener, A));
        let Some((observer, mut hints)) = start(|_| ()) else { return };
        assert_eq!(find(&observer, A), None, "a stranger's connections matter to nobody");
        observer.ensure(A.into(), boot_now()).unwrap();
        assert_eq!(observer.resync(|_, _| {}).unwrap().suspected, 1);
        assert_eq!(observer.resync(|_, _| {}).unwrap().repaired, 1);
        assert_eq!(record(&observer, A).open, 2);
        // A new one of the same client is seen by the kernel side.
        let new = pair(&listener, A);
        assert_eq!(record(&observer, A).open, 3);
        drop(old);
        assert_eq!(record(&observer, A).open, 3, "nobody saw them close");
        assert_eq!(observer.resync(|_, _| {}).unwrap().suspected, 1);
        assert_eq!(observer.resync(|_, _| {}).unwrap().repaired, 1);
        assert_eq!(record(&observer, A).open, 1);
        drop(new);
        until(&observer, A, |record| record.connections() == 0);
        assert_clean(&observer);

        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert_eq!(hints.next().await.client, A.into());
            assert_eq!(hints.next().await.kind, HINT_CLOSED);
        });
    });
}

/// Deletes a client's record as nobody should.
fn lose(observer: &Observer, client: Ipv4Addr) {
    let Source::Kernel(kernel) = &observer.source else { panic!("the kernel side runs") };
    kernel.lose(client.into());
}

#[test]
fn a_connection_is_counted_in_whatever_record_there_is() {
    observed(
        |_| (),
        |observer, _| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            let (mut client, mut server) = pair(&listener, A);
            let (other, other_server) = pair(&listener, A);
            let ended = pair(&listener, A);
            lose(observer, A);
            client.write_all(b"lost").unwrap();
            ended.0.shutdown(Shutdown::Write).unwrap();
            pause();
            assert_eq!(find(observer, A), None);

            let since = boot_now();
            observer.ensure(A.into(), since).unwrap();
            let new = record(observer, A);
            assert_eq!((new.open, new.half, new.left_at), (0, 0, since.as_nanos()));
            // The next packet that tells of data tells of the connection.
            client.write_all(b"found").unwrap();
            server.read_exact(&mut [0; 9]).unwrap();
            server.write_all(b"answer").unwrap();
            assert_eq!(until(observer, A, |record| record.open == 1).rx, 9, "with what could not be told");
            // So does the end of one that was silent, which takes away no more than it brings.
            drop((other, other_server));
            let after = until(observer, A, |record| record.changes > 2);
            assert_eq!((after.open, after.half), (1, 0));
            drop(ended.1);
            let after = until(observer, A, |record| record.changes > 4);
            assert_eq!((after.open, after.half, after.left_at), (1, 0, since.as_nanos()));
            drop((client, server));
            until(observer, A, |record| record.open == 0 && record.half == 0);
            assert_clean(observer);
        },
    );
}

#[test]
fn a_count_that_was_put_right_is_not_counted_again() {
    observed(
        |_| (),
        |observer, _| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            let (mut one, mut one_server) = pair(&listener, A);
            let two = pair(&listener, A);
            lose(observer, A);
            observer.ensure(A.into(), boot_now()).unwrap();
            assert_eq!(observer.resync(|_, _| {}).unwrap().suspected, 1);
            assert_eq!(observer.resync(|_, _| {}).unwrap().repaired, 1);
            assert_eq!(record(observer, A).open, 2);
            one.write_all(b"data").unwrap();
            one_server.read_exact(&mut [0; 4]).unwrap();
            one_server.write_all(b"answer").unwrap();
            until(observer, A, |record| record.rx == 4);
            assert_eq!(record(observer, A).open, 2);
            let three = pair(&listener, A);
            assert_eq!(record(observer, A).open, 3);
            drop(three);
            until(observer, A, |record| record.open == 2);
            drop((one, one_server));
            until(observer, A, |record| record.open == 1);
            drop(two);
            until(observer, A, |record| record.open == 0);
            assert_clean(observer);
        },
    );
}

#[test]
fn a_connection_that_comes_in_between_is_not_taken_for_drift() {
    observed(
        |_| (),
        |observer, _| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            let first = pair(&listener, A);
            let Source::Kernel(kernel) = &observer.source else { panic!("the kernel side runs") };
            let now = record(observer, A);
            let wrong = tracker_ebpf::abi::Amendment {
                client: A.into(),
                kind: tracker_ebpf::abi::AMEND_OPEN,
                changes: now.changes,
                at: boot_now().as_nanos(),
                ..tracker_ebpf::abi::Amendment::default()
            };
            let second = pair(&listener, A);
            assert!(!kernel.amend(&wrong).unwrap(), "the decision was made on an older record");
            assert_eq!(record(observer, A).open, 2);
            assert!(!kernel.amend(&tracker_ebpf::abi::Amendment { kind: 9, ..wrong }).unwrap());
            drop((first, second));
            until(observer, A, |record| record.connections() == 0);
            assert_clean(observer);
        },
    );
}

#[test]
fn forgetting_a_client_who_is_just_coming_back_loses_nothing() {
    observed(
        |_| (),
        |observer, _| {
            let Source::Kernel(kernel) = &observer.source else { panic!("the kernel side runs") };
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            // One with a session, and a stranger.
            observer.ensure(A.into(), boot_now()).unwrap();
            let done = &AtomicBool::new(false);
            std::thread::scope(|scope| {
                for client in [A, B] {
                    scope.spawn(move || {
                        while !done.load(Ordering::Relaxed) {
                            observer.forget(client.into()).unwrap();
                            kernel.evict(client.into()).unwrap();
                        }
                    });
                }
                let _stop = Stop(done);
                for round in 0..2_000 {
                    let ((mut user, user_server), (mut stranger, mut stranger_server)) =
                        (pair(&listener, A), pair(&listener, B));
                    assert_eq!(record(observer, A).open, 1, "{round}");
                    user.write_all(b"x").unwrap();
                    stranger.write_all(b"x").unwrap();
                    stranger_server.read_exact(&mut [0]).unwrap();
                    reset(user);
                    reset(stranger);
                    drop((user_server, stranger_server));
                    until(observer, A, |record| record.open == 0);
                }
            });
            assert_eq!(record(observer, A).changes, 4_000);
            observer.forget(B.into()).unwrap();
            assert_eq!(find(observer, B), None, "nothing of it is open any more");
            assert_eq!(kernel.used().map(|used| (used.held, used.strangers)).unwrap(), (1, 0));
            // Nobody reads the hints, of which there are more than there is room for.
            assert_eq!(counter(observer, Counter::CloseWithoutOpen), 0);
        },
    );
}

/// Lets the other threads end, also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
