//! Where the stream is not the payload (TLS): what the kernel side makes of it, and what it is told.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown};
use std::time::Duration;

use tracker_ebpf::abi::TRAFFIC_CLIENT;
use tracker_ebpf::record::GRACE;

use super::super::*;
use super::lab::*;

const LIMIT: Duration = Duration::from_millis(320);

fn opaque() -> Vec<Place> {
    vec![Place::from(PORT).opaque(true)]
}

/// What the record says, whatever is kept in user space.
fn as_told(observer: &Observer) -> Evidence {
    observer.all_recorded().unwrap().into_iter().find(|(client, _)| *client == A.into()).unwrap().1
}

fn payload(observer: &Observer) -> Box<dyn Payload> {
    observer.payload(A.into()).unwrap()
}

#[test]
fn where_the_stream_is_not_the_payload_it_is_counted_and_no_traffic() {
    for direction in [0, TRAFFIC_CLIENT] {
        observed(
            |options| {
                options.places = opaque();
                options.settings = Settings { direction, ..limit(LIMIT) };
            },
            |observer, _| {
                let listener = listen(Ipv4Addr::UNSPECIFIED);
                let (mut client, mut server) = pair(&listener, A);
                let begin = record(observer, A);
                for _ in 0..5 {
                    std::thread::sleep(LIMIT / 4);
                    client.write_all(b"ping").unwrap();
                    server.read_exact(&mut [0; 4]).unwrap();
                    server.write_all(b"a pong").unwrap();
                    client.read_exact(&mut [0; 6]).unwrap();
                }
                let pinged = until(observer, A, |record| (record.rx, record.tx) == (20, 30));
                assert_eq!((pinged.open, pinged.traffic_at), (1, begin.traffic_at));

                // What is delivered to who has ended their side holds them, as anywhere.
                client.shutdown(Shutdown::Write).unwrap();
                let half = until(observer, A, |record| record.half == 1);
                std::thread::sleep(LIMIT / 4);
                server.write_all(b"a slow answer").unwrap();
                client.read_exact(&mut [0; 13]).unwrap();
                let delivered = until(observer, A, |record| record.held_at > half.held_at);
                assert_eq!(delivered.closes_at(), Some(delivered.held_at + GRACE));
                drop((client, server));
                let closed = until(observer, A, |record| record.connections() == 0);
                assert_eq!((closed.rx, closed.tx, closed.left_at), (20, 43, half.left_at));
                assert_eq!((closed.traffic_at, closed.traffic_gap_end), (begin.traffic_at, 0));
                assert_clean(observer);
            },
        );
    }
}

#[test]
fn beside_a_place_that_is_opaque_all_is_as_ever() {
    const TLS: u16 = PORT + 1;
    observed(
        |options| options.places = vec![PORT.into(), Place::from(TLS).opaque(true)],
        |observer, _| {
            let plain = listen(Ipv4Addr::UNSPECIFIED);
            let tls = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, TLS)).unwrap();
            let under_tls = (connect_socket(client_socket(A), TLS), tls.accept().unwrap().0);
            exchange(under_tls, 100, 100);
            let first = until(observer, A, |record| record.connections() == 0);
            assert_eq!((first.rx, first.tx, first.traffic_at), (100, 100, first.opened_at));
            let before = boot_now().as_nanos();
            exchange(pair(&plain, A), 10, 10);
            let second = until(observer, A, |record| record.connections() == 0 && record.rx == 110);
            assert!(second.traffic_at > before);
        },
    );
}

#[test]
fn payload_is_told_at_once_then_kept_and_told_to_who_looks() {
    observed(
        |options| {
            options.places = opaque();
            options.settings = limit(LIMIT);
        },
        |observer, _| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            let _open = pair(&listener, A);
            let (one, other) = (payload(observer), payload(observer));
            let first = boot_now();
            one.moved(first);
            assert_eq!(as_told(observer).traffic_at, Some(first));
            let second = boot_now();
            other.moved(second);
            assert_eq!(as_told(observer).traffic_at, Some(first), "it is kept");
            assert_eq!(record(observer, A).traffic_at, second.as_nanos(), "but not from who decides");

            // Now it is kept for the event loop.
            let third = boot_now();
            one.moved(third);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(observer.stamps_due());
            assert!(boot_now().since(first) >= LIMIT / 64);
            observer.tell_stamps(10).unwrap();
            assert_eq!(as_told(observer).traffic_at, Some(third));
            let nothing = async {
                tokio::time::timeout(LIMIT / 8, observer.stamps_due()).await.expect_err("all is told");
            };
            runtime.block_on(nothing);

            // A silence begins with the last of what was kept.
            let last = boot_now();
            one.moved(last);
            other.moved(boot_now().max(last));
            std::thread::sleep(LIMIT);
            let end = boot_now();
            other.moved(end);
            let gap = as_told(observer).traffic_gap.unwrap();
            assert!(gap.start >= last && gap.start < end && gap.end == end, "{gap:?}");

            // What is kept when a connection goes is told then; the other one keeps going.
            let kept = boot_now();
            one.moved(kept);
            drop(one);
            assert_eq!(as_told(observer).traffic_at, Some(kept));
            drop(other);
            let again = boot_now();
            payload(observer).moved(again);
            assert_eq!(as_told(observer).traffic_at, Some(again));
        },
    );
}

#[test]
fn stamps_never_take_back_what_the_kernel_saw_later_and_make_no_record() {
    observed(
        |_| (),
        |observer, _| {
            let stamp = payload(observer);
            stamp.moved(boot_now());
            assert_eq!(find(observer, A), None, "nobody has to know");
            let early = boot_now();
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            let (mut client, mut server) = pair(&listener, A);
            client.write_all(b"plain").unwrap();
            server.read_exact(&mut [0; 5]).unwrap();
            let plain = until(observer, A, |record| record.rx == 5);
            payload(observer).moved(early);
            stamp.moved(early);
            assert_eq!(record(observer, A), plain);
        },
    );
}

/// A daemon that is killed leaves what it has told, and that is all but the last rhythm.
#[test]
fn the_next_daemon_knows_of_payload_up_to_a_rhythm() {
    in_namespace(|| {
        let pins = Pins::new();
        let change = |options: &mut ObserveOptions| {
            options.places = opaque();
            options.settings = limit(LIMIT);
        };
        let Some((observer, _hints)) = pins.start(change) else { return };
        let listener = listen(Ipv4Addr::UNSPECIFIED);
        let _open = pair(&listener, A);
        let stamp = payload(&observer);
        let begun = boot_now();
        let mut last = begun;
        while last.since(begun) < LIMIT {
            last = boot_now();
            stamp.moved(last);
        }
        // Nothing of it says good-bye.
        std::mem::forget(stamp);
        drop(observer);
        let (observer, _hints) = pins.start(change).unwrap();
        assert!(is_adopted(&observer));
        let known = BootTime::from_nanos(record(&observer, A).traffic_at);
        assert!(known <= last && last.since(known) <= LIMIT / 64, "{:?}", last.since(known));
    });
}
