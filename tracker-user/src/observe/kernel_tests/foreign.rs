//! Connections of other proxies on this host: ended for the client that is meant, and for nobody else.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
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
