//! What counts is what TCP has taken or sent, and what a client that has ended its side still holds.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::time::Duration;

use tracker_ebpf::record::GRACE;

use super::super::*;
use super::lab::*;
use super::traffic::Raw;

/// Long enough for a receiver to acknowledge.
const NOTICED: Duration = Duration::from_millis(300);

/// A filter of the socket's own is asked after our program, as another program in the cgroup may be.
fn refuse_all(socket: &TcpStream) {
    let program = [libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 }];
    let program = libc::sock_fprog { len: 1, filter: program.as_ptr().cast_mut() };
    set(socket, libc::SO_ATTACH_FILTER, &program);
}

fn accept_all(socket: &TcpStream) {
    set(socket, libc::SO_DETACH_FILTER, &0_i32);
}

fn set<T>(socket: &TcpStream, option: i32, value: &T) {
    #[expect(unsafe_code, reason = "nix knows only its own form of this option")]
    // SAFETY: the pointer is to a live value of the size that is given, and what it points to lives as long.
    let outcome = unsafe {
        let length = size_of::<T>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, option, (&raw const *value).cast(), length)
    };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
}

fn tc(words: &[&str]) {
    assert!(Command::new("tc").args(words).status().unwrap().success());
}

/// A request and its answer have moved, and that is known.
fn at_work(observer: &Observer, client: &mut TcpStream, server: &mut TcpStream) -> Record {
    client.write_all(b"hello").unwrap();
    server.read_exact(&mut [0; 5]).unwrap();
    server.write_all(b"hi").unwrap();
    client.read_exact(&mut [0; 2]).unwrap();
    std::thread::sleep(NOTICED);
    client.write_all(b"!").unwrap();
    until(observer, A, |record| (record.rx, record.tx) == (6, 2))
}

#[test]
fn what_another_program_refuses_is_no_traffic_until_it_gets_through() {
    observed(
        |_| (),
        |observer, _| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            let (mut client, mut server) = pair(&listener, A);
            let before = at_work(observer, &mut client, &mut server);
            refuse_all(&server);
            client.write_all(b"more").unwrap();
            std::thread::sleep(NOTICED);
            assert_eq!(record(observer, A), before);
            accept_all(&server);
            let after = until(observer, A, |record| record.rx > 6);
            assert_eq!((after.rx, after.tx), (10, 2));
            assert!(after.traffic_at > before.traffic_at);

            // On its way out as well: this queue has no room.
            tc(&["qdisc", "add", "dev", "lo", "root", "pfifo", "limit", "0"]);
            server.write_all(b"more").unwrap();
            std::thread::sleep(NOTICED);
            let refused = record(observer, A);
            tc(&["qdisc", "del", "dev", "lo", "root"]);
            assert_eq!(refused, after);
            assert_eq!(until(observer, A, |record| record.tx > 2).tx, 6);
            assert_clean(observer);
        },
    );
}

/// A window that is closed takes nothing, though what comes is the next byte.
#[test]
fn probes_of_a_closed_window_are_no_traffic() {
    observed(
        |_| (),
        |observer, _| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            let (mut client, mut server) = pair(&listener, A);
            client.set_nonblocking(true).unwrap();
            // Until nothing has fitted in for a while.
            let mut written = 0;
            for _ in 0..20 {
                while let Ok(count) = client.write(&[1; 1 << 16]) {
                    written += count as u64;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            let before = record(observer, A);
            let raw = Raw::of(&client);
            for _ in 0..5 {
                raw.send(0, b"x");
                std::thread::sleep(Duration::from_millis(50));
            }
            assert_eq!(record(observer, A), before);
            // All of it gets there in the end, and nothing else.
            server.set_nonblocking(true).unwrap();
            let (mut read, mut buffer) = (0, vec![0; 1 << 16]);
            while read < written {
                match server.read(&mut buffer) {
                    Ok(count) => read += count as u64,
                    Err(_) => std::thread::yield_now(),
                }
            }
            drop((client, server));
            assert_eq!(until(observer, A, |record| record.connections() == 0).rx, written);
        },
    );
}

#[test]
fn a_forged_end_beyond_the_clients_own_is_neither_an_end_nor_a_byte() {
    observed(
        |_| (),
        |observer, _| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            for (bytes, ends_first) in [(5, true), (10, false)] {
                let (mut client, mut server) = pair(&listener, A);
                client.write_all(b"hello").unwrap();
                server.read_exact(&mut [0; 5]).unwrap();
                let before = until(observer, A, |record| record.rx == bytes);
                if ends_first {
                    client.shutdown(Shutdown::Write).unwrap();
                    until(observer, A, |record| record.half == 1);
                }
                let raw = Raw::of(&client);
                // Out of order before the end, and too late after it.
                raw.send_end(if ends_first { 0 } else { 10 }, b"x");
                raw.send_end(if ends_first { 1 } else { 11 }, b"");
                std::thread::sleep(NOTICED);
                let now = record(observer, A);
                assert_eq!((now.rx, now.traffic_at), (before.rx, before.traffic_at));
                assert_eq!(now.half, u32::from(ends_first));
                reset(client);
                drop(server);
                assert_eq!(until(observer, A, |record| record.connections() == 0).rx, before.rx);
            }
            assert_clean(observer);
        },
    );
}

#[test]
fn what_its_client_has_ended_holds_while_something_is_delivered() {
    observed(
        |options| options.settings = limit(Duration::from_millis(300)),
        |observer, _| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            let (mut client, mut server) = pair(&listener, A);
            client.write_all(b"a").unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let left = until(observer, A, |record| record.half == 1);
            std::thread::sleep(Duration::from_millis(100));
            server.write_all(b"b").unwrap();
            client.read_exact(&mut [0]).unwrap();
            let held = until(observer, A, |record| record.held_at > left.held_at);
            assert_eq!(
                (held.open, held.left_at, held.closes_at()),
                (0, left.left_at, Some(held.held_at + GRACE))
            );
            // The first delivery after that opens it again: what was closed in between is a gap.
            std::thread::sleep(Duration::from_nanos(GRACE) + Duration::from_millis(400));
            assert!(!record(observer, A).is_open(boot_now().as_nanos()));
            server.write_all(b"c").unwrap();
            let again = until(observer, A, |record| record.held_at > held.held_at);
            assert_eq!(
                (again.closed_gap_start, again.closed_gap_end),
                (held.held_at + GRACE, again.opened_at)
            );
            assert_eq!(again.opened_at, again.held_at);
            assert!(again.is_open(boot_now().as_nanos()));
            let before = boot_now().as_nanos();
            drop((client, server));
            let closed = until(observer, A, |record| record.connections() == 0);
            assert!(closed.closed_at > before && closed.left_at == left.left_at);
            assert_clean(observer);
        },
    );
}
