//! Drift between records and sockets, and deleting records while connections open.

use std::io::Write as _;
use std::net::Ipv4Addr;
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

#[test]
fn a_lost_record_is_made_again() {
    observed(
        |_| (),
        |observer, _| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            let (mut client, server) = pair(&listener, A);
            let Source::Kernel(kernel) = &observer.source else { panic!("the kernel side runs") };
            kernel.lose(A.into());
            client.write_all(b"lost").unwrap();
            // Noticed with the acknowledgement.
            while counter(observer, Counter::DataWithoutRecord) == 0 {
                pause();
            }
            assert_eq!(observer.resync(|_, _| {}).unwrap().suspected, 1);
            assert_eq!(observer.resync(|_, _| {}).unwrap().repaired, 1);
            assert_eq!(
                observer.resync(|_, _| {}).unwrap(),
                Resync { clients: 1, connections: 1, ..Resync::default() }
            );
            assert_eq!(record(observer, A).open, 1);
            // The mark on the socket is still there: from here on everything is as before.
            client.write_all(b"found").unwrap();
            // With what could not be told before.
            assert_eq!(until(observer, A, |record| record.rx > 0).rx, 9);
            drop((client, server));
            until(observer, A, |record| record.connections() == 0);
            assert_eq!(counter(observer, Counter::DataWithoutRecord), 1);
            assert_eq!(counter(observer, Counter::CloseWithoutOpen), 0);
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
                open: 0,
                half: 0,
                at: boot_now().as_nanos(),
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
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            let done = AtomicBool::new(false);
            let mut missed = 0;
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        while !done.load(Ordering::Relaxed) {
                            observer.forget(A.into()).unwrap();
                        }
                    });
                }
                let _stop = Stop(&done);
                for _ in 0..2_000 {
                    let (mut client, server) = pair(&listener, A);
                    if find(observer, A).is_none_or(|record| record.open != 1) {
                        // It came in the very moment of the deletion, which is known, and repaired by the next resync.
                        missed += 1;
                        assert_eq!(counter(observer, Counter::RecordRetired), missed);
                        while observer.resync(|_, _| {}).unwrap().repaired == 0 {}
                        assert_eq!(record(observer, A).open, 1);
                    }
                    client.write_all(b"x").unwrap();
                    reset(client);
                    drop(server);
                    for _ in 0..2_000 {
                        if find(observer, A).is_none_or(|record| record.connections() == 0) {
                            break;
                        }
                        std::thread::yield_now();
                    }
                }
            });
            observer.forget(A.into()).unwrap();
            assert_eq!(find(observer, A), None);
            for what in Counter::ALL {
                let expected = if what == Counter::RecordRetired { missed } else { 0 };
                assert_eq!(counter(observer, what), expected, "{}", what.name());
            }
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
