//! What is behind client addresses, by the neighbour table of a namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::super::*;
use super::lab::*;
use crate::types::Device;

const V4: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 5);
const V6: Ipv6Addr = Ipv6Addr::new(0xfd09, 0, 0, 0, 0, 0, 0, 5);

/// Runs `ip -batch` with these lines.
fn ip(lines: &str) {
    let mut child = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), lines.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{lines}");
}

fn neighbour(address: impl Into<IpAddr>, device: u8, state: &str) {
    ip(&format!("neigh replace {} lladdr {} dev d0 nud {state}", address.into(), mac(device)));
}

fn mac(last: u8) -> Device {
    Device::new(&[2, 0, 0, 0, 0, last]).unwrap()
}

fn key(address: impl Into<IpAddr>) -> ClientAddr {
    address.into().into()
}

/// In a namespace with an interface and an observer that watches nothing but neighbours.
fn on_link(test: impl FnOnce(&Observer, DeviceWatch) + Send) {
    in_namespace(|| {
        ip("link add d0 type veth peer name d1
            link set d1 up
            link set d0 up
            addr add 10.9.0.1/24 dev d0
            addr add fd09::1/64 dev d0 nodad");
        neighbour(V4, 1, "permanent");
        let options = ObserveOptions {
            mode: ObserverMode::Proxy,
            places: vec![PORT.into()],
            ..ObserveOptions::default()
        };
        let (observer, events) = Observer::start(&options).unwrap();
        assert_eq!(observer.devices_problem(), None);
        test(&observer, events.devices);
    });
}

fn changes(observer: &Observer) -> Vec<(ClientAddr, Device)> {
    observer.device_changes(|_| true)
}

#[test]
fn changes_are_seen_in_both_families() {
    on_link(|observer, _| {
        assert_eq!(observer.device(key(V4)), Some(mac(1)), "it was there at the start");
        assert_eq!(observer.device(key(V6)), None);
        neighbour(V6, 2, "stale");
        neighbour(V4, 1, "reachable");
        assert_eq!(changes(observer), [(key(V6), mac(2))], "a state alone is no change");
        neighbour(V4, 3, "stale");
        neighbour(V4, 1, "stale");
        neighbour(V6, 4, "delay");
        let all = [(key(V4), mac(3)), (key(V4), mac(1)), (key(V6), mac(4))];
        assert_eq!(changes(observer), all, "none is skipped");
        assert_eq!(observer.device(key(V6)), Some(mac(4)));

        // What the kernel drops, or has no answer from, is there until something else is.
        ip("neigh del 10.9.0.5 dev d0");
        assert_eq!(changes(observer), []);
        assert_eq!(observer.device(key(V4)), Some(mac(1)));
        neighbour(V4, 1, "stale");
        neighbour(V4, 1, "failed");
        assert_eq!(changes(observer), [(key(V4), mac(1))]);
        assert_eq!(observer.device(key(V4)), Some(mac(1)));
        neighbour(V4, 9, "stale");
        assert_eq!(observer.device_changes(|_| false), []);
        assert_eq!(observer.device(key(V4)), Some(mac(9)), "noted, though nobody is concerned");
    });
}

#[test]
fn whose_connection_it_was_is_known_where_another_device_was_there() {
    on_link(|observer, _| {
        ip("addr add 169.254.0.1/16 dev d0");
        let client = Ipv4Addr::new(169, 254, 0, 5);
        let (long_ago, later) =
            (boot_now().before(Duration::from_secs(9)), boot_now().after(Duration::from_secs(9)));
        neighbour(client, 1, "stale");
        changes(observer);
        assert_eq!(observer.device(key(client)), Some(mac(1)));
        ip(&format!("neigh del {client} dev d0"));
        neighbour(client, 1, "stale");
        changes(observer);
        assert!(!observer.is_earlier_devices(key(client), long_ago), "it is the first, as far as is known");
        neighbour(client, 2, "stale");
        neighbour(client, 1, "stale");
        changes(observer);
        assert!(observer.is_earlier_devices(key(client), long_ago), "nobody knows which it was");
        assert!(!observer.is_earlier_devices(key(client), later));
    });
}

#[test]
fn a_change_wakes() {
    on_link(|observer, mut watch| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for device in 2..5 {
                let change = tokio::task::spawn_blocking(move || {
                    std::thread::sleep(Duration::from_millis(20));
                    device
                });
                let made = async { change.await.unwrap() };
                let (device, ()) = tokio::join!(
                    async {
                        let device = made.await;
                        neighbour(V4, device, "stale");
                        device
                    },
                    watch.changed()
                );
                assert_eq!(changes(observer), [(key(V4), mac(device))]);
            }
        });
    });
}

fn host(last: u8) -> ClientAddr {
    key(Ipv4Addr::new(10, 9, 0, last))
}

/// Its connection was established so long after now.
fn connects(observer: &Observer, client: ClientAddr, seconds: u64) {
    observer.opened(client, boot_now().after(Duration::from_secs(seconds)));
}

#[test]
fn a_router_is_told_from_a_host() {
    on_link(|observer, _| {
        for last in 10..13 {
            neighbour(Ipv4Addr::new(10, 9, 0, last), 7, "stale");
        }
        neighbour(V6, 7, "stale");
        changes(observer);
        assert_eq!(observer.device(host(10)), Some(mac(7)), "addresses alone are any host's");
        connects(observer, host(10), 140);
        connects(observer, host(11), 140);
        connects(observer, key(V6), 140);
        assert_eq!(observer.device(host(10)), Some(mac(7)), "the other family does not count");
        assert_eq!(observer.device(key(V6)), Some(mac(7)));
        // The third client.
        connects(observer, host(12), 140);
        for last in 10..13 {
            assert_eq!(observer.device(host(last)), None);
            assert_eq!(observer.neighbour(host(last)), Some(mac(7)), "but it is there");
        }
    });
}

#[test]
fn nobody_makes_a_router_of_a_host_by_what_they_say_of_addresses() {
    on_link(|observer, _| {
        neighbour(V4, 7, "stale");
        for last in 10..14 {
            neighbour(Ipv4Addr::new(10, 9, 0, last), last, "stale");
        }
        changes(observer);
        for last in 10..13 {
            connects(observer, host(last), 0);
        }
        connects(observer, key(V4), 140);
        // Whose connections go on: their answers went elsewhere when they were established.
        for last in 10..14 {
            neighbour(Ipv4Addr::new(10, 9, 0, last), 7, "reachable");
        }
        assert_eq!(changes(observer).len(), 4);
        assert_eq!(observer.device(key(V4)), Some(mac(7)));
        // Nor do they by saying it twice, or while it was accepted late.
        neighbour(Ipv4Addr::new(10, 9, 0, 10), 7, "stale");
        changes(observer);
        connects(observer, host(13), 0);
        assert_eq!(observer.device(key(V4)), Some(mac(7)));
        // Nor by completing late what was answered before, as long as the kernel takes it.
        for last in 10..13 {
            connects(observer, host(last), 120);
        }
        assert_eq!(observer.device(key(V4)), Some(mac(7)));
        // Nor are they there for what is sent to them, or found of theirs.
        let later = boot_now().after(Duration::from_secs(300));
        for last in 10..13 {
            for _ in 0..2 {
                observer.ended(host(last), boot_now());
            }
            observer.data(host(last), tracker_ebpf::record::Direction::Sent, 1, true, later);
            let record = observer.record(host(last)).unwrap().unwrap();
            assert_eq!(record.opened_at, later.as_nanos(), "it counts as open again");
        }
        assert_eq!(observer.device(key(V4)), Some(mac(7)));
    });
}

/// A second link, on which somebody says to be who is on the first.
#[test]
fn what_is_said_on_another_link_is_nobodys_device() {
    on_link(|observer, _| {
        ip("link add e0 type veth peer name e1
            link set e1 up
            link set e0 up
            addr add 10.10.0.1/24 dev e0
            addr add fd10::1/64 dev e0 nodad");
        let elsewhere = |address: IpAddr, device| {
            ip(&format!("neigh replace {address} lladdr {} dev e0 nud reachable", mac(device)));
        };
        neighbour(V6, 2, "reachable");
        changes(observer);
        for (address, there) in [(IpAddr::from(V4), 1), (IpAddr::from(V6), 2)] {
            elsewhere(address, 66);
            assert_eq!(changes(observer), []);
            assert_eq!(observer.device(key(address)), Some(mac(there)));
            assert_eq!(observer.another_device(key(address), mac(there)), None);
            assert_eq!(observer.another_device(key(address), mac(9)), Some(mac(there)));
        }
        // Not even where the kernel knows nothing of it on its own link any more, or never did.
        ip("neigh del 10.9.0.5 dev d0");
        elsewhere(Ipv4Addr::new(10, 9, 0, 6).into(), 66);
        changes(observer);
        assert_eq!(observer.neighbour(key(V4)), Some(mac(1)));
        assert_eq!(observer.another_device(key(V4), mac(1)), None);
        assert_eq!(observer.neighbour(host(6)), None);
        assert_eq!(observer.another_device(host(6), mac(1)), None);
        // Its route decides, and may change.
        ip("route add 10.9.0.5/32 dev e0");
        assert_eq!(observer.another_device(key(V4), mac(1)), Some(mac(66)));
        neighbour(V4, 3, "stale");
        assert_eq!(changes(observer), []);
        // Behind a next hop it has no hardware address, whoever says so.
        ip("route replace 10.9.0.5/32 via 10.10.0.9 dev e0");
        assert_eq!(observer.neighbour(key(V4)), None);
        elsewhere(V4.into(), 67);
        assert_eq!(changes(observer), []);
        ip("route replace unreachable 10.9.0.5/32");
        assert_eq!(observer.neighbour(key(V4)), None);
    });
}

#[test]
fn lost_changes_are_made_up_for() {
    on_link(|observer, _| {
        observer.devices.with(|table| table.leave_no_room());
        let lines: Vec<String> = (0..500)
            .map(|round| {
                format!(
                    "neigh replace 10.9.0.{} lladdr {} dev d0 nud stale",
                    10 + round % 100,
                    mac(round as u8)
                )
            })
            .collect();
        ip(&format!("{}\nneigh del {V4} dev d0", lines.join("\n")));
        changes(observer);
        assert_eq!(observer.devices_problem(), None);
        for last in 10..110 {
            // 500 rounds over 100 addresses: the last device of each is in the last hundred.
            let round = 400 + u32::from(last) - 10;
            assert_eq!(observer.neighbour(key(Ipv4Addr::new(10, 9, 0, last))), Some(mac(round as u8)));
        }
        neighbour(V4, 77, "stale");
        assert_eq!(changes(observer), [(key(V4), mac(77))]);
    });
}
