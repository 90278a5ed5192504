//! Connections of other proxies on this host: ended for the client that is meant, and for nobody else.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

use super::super::*;
use super::lab::*;

/// The other proxy's port.
const FOREIGN: u16 = 8080;

fn watching(options: &mut ObserveOptions) {
    options.places = vec![PORT.into(), FOREIGN.into()];
    options.foreign_ports = vec![FOREIGN];
}

fn foreign(listener: &TcpListener, from: Ipv4Addr) -> (TcpStream, TcpStream) {
    (connect_socket(client_socket(from), FOREIGN), listener.accept().unwrap().0)
}

fn is_alive((client, server): &mut (TcpStream, TcpStream)) -> bool {
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let moved = client.write_all(b"x").is_ok() && server.read(&mut [0]).is_ok_and(|count| count == 1);
    moved && server.write_all(b"y").is_ok() && client.read(&mut [0]).is_ok_and(|count| count == 1)
}

fn only(client: impl Into<IpAddr>) -> HashSet<ClientAddr> {
    HashSet::from([client.into().into()])
}

#[test]
fn only_the_clients_connections_to_the_other_proxy_end() {
    observed(watching, |observer, _| {
        // A dual-stack listener, whose IPv4 clients have mapped addresses, as Squid's.
        let there = TcpListener::bind((Ipv6Addr::UNSPECIFIED, FOREIGN)).unwrap();
        let here = listen(Ipv4Addr::UNSPECIFIED);
        let mut own = pair(&here, A);
        let mut others = foreign(&there, B);
        let mut sixth =
            (TcpStream::connect((Ipv6Addr::LOCALHOST, FOREIGN)).unwrap(), there.accept().unwrap().0);
        let mut doomed: Vec<_> = (0..50).map(|_| foreign(&there, A)).collect();
        // Unread data in both directions makes no difference.
        doomed.iter_mut().for_each(|(client, server)| {
            client.write_all(&[0; 10_000]).unwrap();
            server.write_all(&[0; 10_000]).unwrap();
        });
        assert_eq!(record(observer, A).open, 51);

        let before = boot_now();
        let ended = observer.destroy(&only(A));
        println!("50 of 53 connections ended in {:?}", boot_now().since(before));
        assert_eq!(ended.get(&A.into()), Some(&50));
        assert_eq!(ended.len(), 1);
        assert!(!doomed.iter_mut().any(is_alive));
        assert!(is_alive(&mut own) && is_alive(&mut others) && is_alive(&mut sixth));
        // The records learn of it as of any other end.
        until(observer, A, |record| record.open == 1);
        assert_eq!(observer.destroy(&only(A)).len(), 0);

        assert_eq!(observer.destroy(&only(Ipv6Addr::LOCALHOST)).values().sum::<usize>(), 1);
        assert!(!is_alive(&mut sixth) && is_alive(&mut others));
        let both = HashSet::from([B.into(), C.into(), A.into()]);
        assert_eq!(observer.destroy(&both), HashMap::from([(B.into(), 1)]));
        assert!(is_alive(&mut own) && !is_alive(&mut others));
        assert!(!observer.warnings().iter().any(|text| text.contains("other proxies")));
        drop((own, here));
        until(observer, A, |record| record.connections() == 0);
        assert_clean(observer);
    });
}

/// The port of which the program below takes the callbacks.
const TAKEN: u16 = 3999;

/// A sock_ops program of somebody else's, attached after ours, that sets the callbacks of each connection to none.
fn taker(cgroup: &std::path::Path) -> (OwnedFd, OwnedFd) {
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log: [u64; 2],
        version: u32,
        flags: u32,
        name: [u8; 16],
        interface: u32,
        attach_type: u32,
    }
    let instruction = |code: u8, registers: u8, offset: i16, value: i32| {
        let [a, b] = offset.to_le_bytes();
        let [w, x, y, z] = value.to_le_bytes();
        u64::from_le_bytes([code, registers, a, b, w, x, y, z])
    };
    let program = [
        // r2 = op; if it is not BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, end.
        instruction(0x61, 0x12, 0, 0),
        instruction(0x55, 0x02, 4, 5),
        // r2 = local_port; if it is not the port, end.
        instruction(0x61, 0x12, 68, 0),
        instruction(0x55, 0x02, 2, i32::from(TAKEN)),
        // bpf_sock_ops_cb_flags_set(r1, 0)
        instruction(0xb7, 0x02, 0, 0),
        instruction(0x85, 0, 0, 59),
        instruction(0xb7, 0, 0, 1),
        instruction(0x95, 0, 0, 0),
    ];
    let license = c"GPL";
    let mut load = Load {
        kind: 13,
        count: program.len() as u32,
        instructions: program.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
        log: [0; 2],
        version: 0,
        flags: 0,
        name: [0; 16],
        interface: 0,
        attach_type: bpf::Hook::SockOps as u32,
    };
    #[expect(unsafe_code, reason = "a program that nobody else would write")]
    // SAFETY: the pointers are to the program and to a string, which outlive the call; the descriptor is nobody else's.
    let program = unsafe { OwnedFd::from_raw_fd(bpf::bpf(5, &mut load).unwrap()) };
    let cgroup = std::fs::File::open(cgroup).unwrap();
    let link = bpf::link(program.as_fd(), cgroup.as_fd(), bpf::Hook::SockOps).unwrap();
    (program, link)
}

#[test]
fn a_closing_that_another_program_has_hidden_is_found() {
    observed(
        |options| options.places = vec![TAKEN.into()],
        |observer, _| {
            let Source::Kernel(kernel) = &observer.source else { panic!("the kernel side runs") };
            let _taker = taker(kernel.cgroup());
            let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, TAKEN)).unwrap();
            let (client, server) = (connect_socket(client_socket(A), TAKEN), listener.accept().unwrap().0);
            observer.ensure(A.into(), boot_now()).unwrap();
            assert_eq!(record(observer, A).open, 1);
            drop((client, server));
            while observer.connections(A.into()).unwrap() != vec![] {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(record(observer, A).open, 1, "nobody was told");
            assert!(observer.has_missed_the_end(A.into()));
            let before = boot_now();
            observer.resync(|_, _| {}).unwrap();
            observer.resync(|_, _| {}).unwrap();
            let after = record(observer, A);
            assert!(after.open == 0 && after.left_at >= before.as_nanos(), "{after:?}");
            assert!(!observer.has_missed_the_end(A.into()));
            assert_eq!(observer.blindness(), None);
        },
    );
}

#[test]
fn a_plain_ipv4_listener_is_reached_too() {
    observed(watching, |observer, _| {
        let there = TcpListener::bind((Ipv4Addr::UNSPECIFIED, FOREIGN)).unwrap();
        let (mut a, mut b) = (foreign(&there, A), foreign(&there, B));
        assert_eq!(observer.destroy(&only(A)).values().sum::<usize>(), 1);
        assert!(!is_alive(&mut a) && is_alive(&mut b));
    });
}

#[test]
fn without_other_proxies_nothing_is_ended() {
    observed(
        |_| (),
        |observer, _| {
            let listener = listen(Ipv4Addr::UNSPECIFIED);
            let mut own = pair(&listener, A);
            assert_eq!(observer.destroy(&only(A)).len(), 0);
            assert!(is_alive(&mut own));
        },
    );
}
