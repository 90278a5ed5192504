//! What is traffic, what is not, and the gaps it ends.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, setsockopt, socket,
    sockopt,
};
use tracker_ebpf::abi::TRAFFIC_CLIENT;
use tracker_ebpf::mark::TELL_EVERY;

use super::super::*;
use super::lab::*;

#[test]
fn bytes_are_exact_both_ways() {
    observed(
        |_| (),
        |observer, _| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            let (mut total_up, mut total_down) = (0, 0);
            for (up, down) in [(5, 100_000), (0, 1), (1, 0), (20_000_000, 3), (1448, 30_000_000)] {
                exchange(pair(&listener, A), up, down);
                total_up += up as u64;
                total_down += down as u64;
                let closed = until(observer, A, |record| record.connections() == 0);
                assert_eq!((closed.rx, closed.tx), (total_up, total_down));
            }
            assert_clean(observer);
        },
    );
}

/// The record of an open connection may be behind, but only by what moved within a moment; nothing of it gets lost.
#[test]
fn what_moves_in_quick_succession_is_told_together() {
    observed(
        |_| (),
        |observer, _| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            let (mut client, mut server) = pair(&listener, A);
            client.set_nodelay(true).unwrap();
            let (mut earlier, mut before) = (0, boot_now().as_nanos());
            for _ in 0..1_000 {
                client.write_all(b"request").unwrap();
                server.read_exact(&mut [0; 7]).unwrap();
                let (now, record) = (boot_now().as_nanos(), record(observer, A));
                // Noticed with the next one at the latest.
                assert!(record.traffic_at <= now && record.traffic_at + TELL_EVERY > earlier, "{record:?}");
                (earlier, before) = (before, now);
            }
            pause();
            client.write_all(b"!").unwrap();
            assert_eq!(until(observer, A, |record| record.rx > 7_000).rx, 7_001);
            // And this is told by the end at the latest.
            for _ in 0..10 {
                server.write_all(b"answer").unwrap();
                client.read_exact(&mut [0; 6]).unwrap();
            }
            let last = boot_now().as_nanos();
            drop((client, server));
            let closed = until(observer, A, |record| record.connections() == 0);
            assert_eq!((closed.rx, closed.tx), (7_001, 60));
            assert!(closed.traffic_at < last && closed.traffic_at > before);
            assert_clean(observer);
        },
    );
}

/// The end of a stream takes a sequence number, and is no byte, in whatever order the ends come.
#[test]
fn the_end_of_a_stream_is_no_data() {
    observed(
        |_| (),
        |observer, _| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            let ways: [fn(TcpStream, TcpStream); 6] = [
                |client, server| drop((client, server)),
                |client, server| drop((server, client)),
                |client, server| {
                    client.shutdown(Shutdown::Write).unwrap();
                    server.shutdown(Shutdown::Write).unwrap();
                },
                |client, server| {
                    server.shutdown(Shutdown::Write).unwrap();
                    client.shutdown(Shutdown::Write).unwrap();
                },
                |client, server| {
                    server.shutdown(Shutdown::Write).unwrap();
                    reset(client);
                },
                |client, server| {
                    client.shutdown(Shutdown::Write).unwrap();
                    reset(server);
                },
            ];
            for (round, close) in (1..).zip(ways) {
                let (mut client, mut server) = pair(&listener, A);
                client.write_all(b"hello").unwrap();
                server.read_exact(&mut [0; 5]).unwrap();
                close(client, server);
                let closed = until(observer, A, |record| record.connections() == 0);
                assert_eq!((closed.rx, closed.tx), (5 * round, 0), "round {round}");
            }
            assert_clean(observer);
        },
    );
}

/// The client's kernel waits with its bare ACK for the first data, and sends both in one segment.
#[test]
fn data_that_completes_the_handshake_is_counted() {
    observed(
        |_| (),
        |observer, _| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            let socket = client_socket(A);
            set_option(socket.as_raw_fd(), libc::TCP_QUICKACK, 0);
            let mut client = connect_socket(socket, PORT);
            client.write_all(b"hello").unwrap();
            let server = listener.accept().unwrap().0;
            assert_eq!(until(observer, A, |record| record.rx > 0).rx, 5);
            pause();
            client.write_all(b"again").unwrap();
            assert_eq!(until(observer, A, |record| record.rx > 5).rx, 10);
            drop((client, server));
            until(observer, A, |record| record.connections() == 0);
            assert_clean(observer);
        },
    );
}

#[test]
fn keep_alives_are_no_traffic() {
    observed(
        |_| (),
        |observer, _| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            let (mut client, server) = pair(&listener, A);
            client.write_all(b"hello").unwrap();
            let before = until(observer, A, |record| record.rx == 5);
            for end in [&client, &server] {
                setsockopt(end, sockopt::KeepAlive, &true).unwrap();
                setsockopt(end, sockopt::TcpKeepIdle, &1).unwrap();
                setsockopt(end, sockopt::TcpKeepInterval, &1).unwrap();
            }
            std::thread::sleep(Duration::from_millis(3_300));
            assert_eq!(record(observer, A), before);
            assert_clean(observer);
        },
    );
}

/// Segments that are not new, made by hand: a keep-alive with a byte of garbage, and a retransmission.
#[test]
fn old_segments_are_no_traffic() {
    observed(
        |_| (),
        |observer, _| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            let (mut client, server) = pair(&listener, A);
            client.write_all(b"hello").unwrap();
            let before = until(observer, A, |record| record.rx == 5);
            let raw = Raw::of(&client);
            raw.send(-1, b"x");
            raw.send(-5, b"hello");
            raw.send(0, b"");
            std::thread::sleep(Duration::from_millis(100));
            assert_eq!(record(observer, A), before);
            // The same by hand with one new byte: the test would notice.
            raw.send(-4, b"ello!");
            let after = until(observer, A, |record| record.rx > 5);
            assert_eq!(after.rx, 6);
            assert!(after.traffic_at > before.traffic_at);
            drop((client, server));
            assert_clean(observer);
        },
    );
}

#[test]
fn the_end_of_a_silence_is_latched() {
    observed(
        |options| options.settings = limit(Duration::from_millis(300)),
        |observer, _| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            let (mut client, mut server) = pair(&listener, A);
            client.write_all(b"a").unwrap();
            let first = until(observer, A, |record| record.rx == 1);
            assert_eq!(first.traffic_gap_end, 0);
            std::thread::sleep(Duration::from_millis(350));
            server.write_all(b"b").unwrap();
            let second = until(observer, A, |record| record.tx == 1);
            assert_eq!(second.traffic_gap_end, second.traffic_at);
            client.write_all(b"c").unwrap();
            let third = until(observer, A, |record| record.rx == 2);
            assert_eq!(third.traffic_gap_end, second.traffic_gap_end);
            assert!(third.traffic_at > second.traffic_at);

            // With a longer limit the same silence is none.
            observer.apply(limit(Duration::from_secs(3600))).unwrap();
            std::thread::sleep(Duration::from_millis(350));
            client.write_all(b"d").unwrap();
            let fourth = until(observer, A, |record| record.rx == 3);
            assert_eq!(fourth.traffic_gap_end, second.traffic_gap_end);
        },
    );
}

#[test]
fn only_the_clients_data_counts_when_so_set() {
    let client_only = Settings { direction: TRAFFIC_CLIENT, ..limit(Duration::from_secs(3600)) };
    observed(
        move |options| options.settings = client_only,
        |observer, _| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            let (mut client, mut server) = pair(&listener, A);
            let before = record(observer, A);
            server.write_all(b"a download").unwrap();
            let after = until(observer, A, |record| record.tx == 10);
            assert_eq!(after.traffic_at, before.traffic_at);
            client.write_all(b"more").unwrap();
            assert!(until(observer, A, |record| record.rx == 4).traffic_at > before.traffic_at);
        },
    );
}

#[test]
fn the_end_of_a_closed_period_is_latched() {
    observed(
        |options| options.settings = limit(Duration::from_millis(300)),
        |observer, _| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            drop(pair(&listener, A));
            until(observer, A, |record| record.connections() == 0);
            let (client, server) = pair(&listener, A);
            assert_eq!(record(observer, A).closed_gap_end, 0);
            drop((client, server));
            until(observer, A, |record| record.connections() == 0);
            std::thread::sleep(Duration::from_millis(350));
            let _third = pair(&listener, A);
            let third = record(observer, A);
            assert_eq!(third.closed_gap_end, third.opened_at);
        },
    );
}

fn set_option(fd: i32, option: i32, value: i32) {
    #[expect(unsafe_code, reason = "nix does not know these options")]
    // SAFETY: the pointer is to a live integer of the size that is given.
    let outcome = unsafe { libc::setsockopt(fd, libc::IPPROTO_TCP, option, (&raw const value).cast(), 4) };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
}

fn get_option(fd: i32, option: i32) -> u32 {
    let (mut value, mut length) = (0_u32, 4);
    #[expect(unsafe_code, reason = "nix does not know these options")]
    // SAFETY: the pointers are to live integers, the second with the size of the first.
    let outcome =
        unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, option, (&raw mut value).cast(), &raw mut length) };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
    value
}

/// How much of what was written has not been sent at all.
fn not_sent(fd: i32) -> u32 {
    const SIOCOUTQNSD: libc::c_ulong = 0x894b;
    let mut bytes = 0_i32;
    #[expect(unsafe_code, reason = "nix does not know this request")]
    // SAFETY: the pointer is to a live integer, which the kernel writes.
    let outcome = unsafe { libc::ioctl(fd, SIOCOUTQNSD, &raw mut bytes) };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
    bytes.unsigned_abs()
}

/// Sends segments in the client's name.
pub(super) struct Raw {
    from: std::net::SocketAddrV4,
    next: u32,
    ack: u32,
}

impl Raw {
    /// Asks the kernel for the sequence numbers of a connection.
    pub(super) fn of(client: &TcpStream) -> Self {
        let std::net::SocketAddr::V4(from) = client.local_addr().unwrap() else { panic!("IPv4 only") };
        let fd = client.as_raw_fd();
        set_option(fd, libc::TCP_REPAIR, 1);
        set_option(fd, libc::TCP_REPAIR_QUEUE, 2);
        let written = get_option(fd, libc::TCP_QUEUE_SEQ);
        set_option(fd, libc::TCP_REPAIR_QUEUE, 1);
        let ack = get_option(fd, libc::TCP_QUEUE_SEQ);
        // Leaves without a window probe.
        set_option(fd, libc::TCP_REPAIR, -1);
        Self { from, next: written.wrapping_sub(not_sent(fd)), ack }
    }

    pub(super) fn send(&self, offset: i32, payload: &[u8]) {
        self.send_with(offset, payload, 0x10);
    }

    /// The same with a FIN.
    pub(super) fn send_end(&self, offset: i32, payload: &[u8]) {
        self.send_with(offset, payload, 0x11);
    }

    fn send_with(&self, offset: i32, payload: &[u8], flags: u8) {
        let mut segment = Vec::new();
        segment.extend(self.from.port().to_be_bytes());
        segment.extend(PORT.to_be_bytes());
        segment.extend(self.next.wrapping_add_signed(offset).to_be_bytes());
        segment.extend(self.ack.to_be_bytes());
        // Five words of header; flags; a window; the checksum; no urgent data.
        segment.extend([0x50, flags, 0x20, 0, 0, 0, 0, 0]);
        segment.extend(payload);
        let sum = checksum(&self.from.ip().octets(), &[127, 0, 0, 1], &segment);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());

        let raw =
            socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Tcp).unwrap();
        let [a, b, c, d] = self.from.ip().octets();
        nix::sys::socket::bind(raw.as_raw_fd(), &SockaddrIn::new(a, b, c, d, 0)).unwrap();
        sendto(raw.as_raw_fd(), &segment, &SockaddrIn::new(127, 0, 0, 1, 0), MsgFlags::empty()).unwrap();
    }
}

/// RFC 9293, section 3.1.
fn checksum(from: &[u8; 4], to: &[u8; 4], segment: &[u8]) -> u16 {
    let length = (segment.len() as u16).to_be_bytes();
    let all = [from.as_slice(), to, &[0, 6], &length, segment].concat();
    let mut sum: u32 = all
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
