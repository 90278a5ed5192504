//! Where connections are watched, and by which address and link a client is known.

use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::process::Command;

use std::time::Duration;

use nix::net::if_::if_nametoindex;
use nix::sched::CloneFlags;

use super::super::*;
use super::lab::*;

const OURS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
/// Another program's address, on the same port.
const THEIRS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn at(address: impl Into<IpAddr>) -> SocketAddr {
    SocketAddr::new(address.into(), PORT)
}

#[test]
fn what_another_program_gets_on_our_port_at_its_own_address_is_not_watched() {
    let places = places(&[at(OURS).into()], &[]);
    observed(
        |options| options.places = places,
        |observer, _| {
            let (ours, theirs) = (listen(OURS), listen(THEIRS));
            let (client, server) = (TcpStream::connect(at(THEIRS)).unwrap(), theirs.accept().unwrap().0);
            assert_eq!(observer.all_recorded().unwrap(), vec![]);
            let resync = observer.resync(|_, _| {}).unwrap();
            assert_eq!(
                (resync.clients, resync.connections),
                (0, 0),
                "nor does the list of sockets know of it"
            );

            let own = pair(&ours, A);
            assert_eq!(record(observer, A).open, 1);
            assert_eq!(observer.connections(A.into()).unwrap().len(), 1);
            exchange(own, 10, 10);
            until(observer, A, |record| record.open == 0);
            exchange((client, server), 10, 10);
            assert_eq!(observer.all_recorded().unwrap().len(), 1);
            assert_clean(observer);
        },
    );
}

#[test]
fn a_listener_at_every_ipv4_address_leaves_ipv6_alone() {
    let places = places(&[at(Ipv4Addr::UNSPECIFIED).into()], &[]);
    observed(
        |options| options.places = places,
        |observer, _| {
            let theirs = TcpListener::bind(at(Ipv6Addr::LOCALHOST)).unwrap();
            let ours = listen(Ipv4Addr::UNSPECIFIED);
            let _sixth = (TcpStream::connect(at(Ipv6Addr::LOCALHOST)).unwrap(), theirs.accept().unwrap());
            let own = pair(&ours, A);
            let watched: Vec<_> =
                observer.all_recorded().unwrap().into_iter().map(|(client, _)| client).collect();
            assert_eq!(watched, [A.into()]);
            drop(own);
        },
    );
}

/// Two links to two hosts with the same link-local address. `nsenter` is not needed: what is sent through the other end of
/// a pair of interfaces comes in by this one.
#[test]
fn hosts_with_one_link_local_address_on_two_links_are_two_clients() {
    const OUR_END: &str = "fe80::a";
    const THEIR_END: &str = "fe80::b";
    observed(
        |_| (),
        |observer, _| {
            let ip =
                |line: &str| assert!(Command::new("ip").args(line.split(' ')).status().unwrap().success());
            let far = Far::new();
            for link in ["one", "two"] {
                std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0").unwrap();
                ip(&format!("link add {link} type veth peer name {link} netns {}", far.pid()));
                ip(&format!("addr add {OUR_END}/64 dev {link} nodad"));
                ip(&format!("link set {link} up"));
                far.ip(&format!("addr add {THEIR_END}/64 dev {link} nodad"));
                far.ip(&format!("link set {link} up"));
            }
            let listener = listen(Ipv6Addr::UNSPECIFIED);
            let links = ["one", "two"].map(|link| if_nametoindex(link).unwrap());
            let client =
                |link| ClientAddr::from_v6(THEIR_END.parse::<Ipv6Addr>().unwrap().octets(), link).unwrap();
            let mut open = Vec::new();
            for (link, name) in links.iter().zip(["one", "two"]) {
                let there = far.connect(SocketAddrV6::new(OUR_END.parse().unwrap(), PORT, 0, 0), name);
                let (here, peer) = listener.accept().unwrap();
                assert_eq!(ClientAddr::from_peer(peer), Some(client(*link)), "{peer}");
                let record = observer.record(client(*link)).unwrap().expect("it has a record");
                assert_eq!(record.open, 1);
                assert_eq!(observer.connections(client(*link)).unwrap().len(), 1);
                open.push((there, here));
            }
            assert_eq!(observer.all_recorded().unwrap().len(), 2);
            let resync = observer.resync(|_, _| {}).unwrap();
            assert_eq!((resync.clients, resync.connections, resync.suspected), (2, 2, 0));
            // One of them leaves; the other stays.
            drop(open.remove(0));
            for _ in 0..1000 {
                if observer.record(client(links[0])).unwrap().unwrap().open == 0 {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            assert_eq!(observer.record(client(links[0])).unwrap().unwrap().open, 0);
            assert_eq!(observer.record(client(links[1])).unwrap().unwrap().open, 1);
            assert_clean(observer);
        },
    );
}

/// Another network namespace, held by a process that waits for the end of its input.
struct Far(std::process::Child);

impl Far {
    fn new() -> Self {
        let mut holder = Command::new("unshare")
            .args([
                "--net",
                "sh",
                "-ec",
                "echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad; echo ready; exec cat",
            ])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        holder.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        Self(holder)
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn ip(&self, line: &str) {
        let pid = self.pid().to_string();
        let ip =
            Command::new("nsenter").args(["--target", &pid, "--net", "ip"]).args(line.split(' ')).status();
        assert!(ip.unwrap().success());
    }

    /// A connection that begins there, by this link.
    fn connect(&self, to: SocketAddrV6, link: &str) -> TcpStream {
        std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                let ns = std::fs::File::open(format!("/proc/{}/ns/net", self.pid())).unwrap();
                nix::sched::setns(ns, CloneFlags::CLONE_NEWNET).unwrap();
                let link = if_nametoindex(link).unwrap();
                TcpStream::connect(SocketAddrV6::new(*to.ip(), to.port(), 0, link)).unwrap()
            });
            there.join().unwrap()
        })
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
