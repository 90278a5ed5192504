//! What is behind client addresses, by the neighbour table of a namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::super::*;
use super::lab::*;
use crate::session::Device;

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

        ip("neigh del 10.9.0.5 dev d0");
        assert_eq!(changes(observer), []);
        assert_eq!(observer.device(key(V4)), None);
        // Who does not answer any more is nobody, until somebody answers.
        neighbour(V4, 1, "stale");
        neighbour(V4, 1, "failed");
        assert_eq!(changes(observer), [(key(V4), mac(1))]);
        assert_eq!(observer.device(key(V4)), None);
        neighbour(V4, 9, "stale");
        assert_eq!(observer.device_changes(|_| false), []);
        assert_eq!(observer.device(key(V4)), Some(mac(9)), "noted, though nobody is concerned");
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

#[test]
fn a_router_is_told_from_a_host() {
    on_link(|observer, _| {
        let address = |last| Ipv4Addr::new(10, 9, 0, last);
        let now = boot_now();
        let login = |last: u8| observer.ensure(key(address(last)), now).unwrap();
        for last in 10..13 {
            neighbour(address(last), 7, "stale");
        }
        neighbour(V6, 7, "stale");
        changes(observer);
        login(10);
        assert_eq!(observer.device(key(address(10))), Some(mac(7)));
        login(11);
        observer.ensure(key(V6), now).unwrap();
        assert_eq!(observer.device(key(address(10))), Some(mac(7)), "the other family does not count");
        assert_eq!(observer.device(key(V6)), Some(mac(7)));
        // The third client. (The third address alone would be any host with privacy extensions.)
        login(12);
        for last in 10..13 {
            assert_eq!(observer.device(key(address(last))), None);
            assert!(observer.is_router(mac(7), key(address(last))));
        }
        // Its clients move to another router, one by one or all at once.
        for last in 10..13 {
            neighbour(address(last), 8, "stale");
        }
        assert_eq!(changes(observer).len(), 3);
        for last in 10..13 {
            assert!(observer.is_router(mac(7), key(address(last))));
        }
    });
}

#[test]
fn clients_that_leave_a_router_before_anybody_asked_are_recognised_as_well() {
    on_link(|observer, _| {
        let address = |last| Ipv4Addr::new(10, 9, 0, last);
        for last in 10..13 {
            neighbour(address(last), 7, "stale");
            observer.ensure(key(address(last)), boot_now()).unwrap();
        }
        changes(observer);
        for last in 10..13 {
            neighbour(address(last), 8, "stale");
        }
        assert_eq!(changes(observer).len(), 3);
        assert!(observer.is_router(mac(7), key(address(12))));
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
        assert_eq!(observer.device(key(V4)), None);
        for last in 10..110 {
            // 500 rounds over 100 addresses: the last device of each is in the last hundred.
            let round = 400 + u32::from(last) - 10;
            assert_eq!(observer.neighbour(key(Ipv4Addr::new(10, 9, 0, last))), Some(mac(round as u8)));
        }
        neighbour(V4, 77, "stale");
        assert_eq!(changes(observer), [(key(V4), mac(77))]);
    });
}
