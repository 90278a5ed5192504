//! Which addresses the gateway does not reach out to on a client's behalf: itself, and what only it can reach.
//!
//! A client that could make the gateway connect to loopback, to link-local or metadata addresses, or to the gateway's own
//! addresses would act with the gateway's place in the network. Private ranges are where intranets are: they pass.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::options::AllowList;
use crate::clock::{BootTime, boot_now};

/// How long the list of the gateway's own addresses is believed.
const OWN_ADDRESSES_FOR: Duration = Duration::from_secs(5);

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    #[error("it is a loopback address")]
    Loopback,
    #[error("it is an unspecified address")]
    Unspecified,
    #[error("it is a link-local address")]
    LinkLocal,
    #[error("it is a multicast address")]
    Multicast,
    #[error("it is a broadcast address")]
    Broadcast,
    #[error("it is a cloud's metadata address")]
    Metadata,
    #[error("it is a reserved address")]
    Reserved,
    #[error("it is an address of the gateway itself")]
    Own,
}

/// The built-in list, with the gateway's own addresses.
#[derive(Debug, Default)]
pub(super) struct Guard {
    own: Mutex<Option<(BootTime, Arc<[IpAddr]>)>>,
}

impl Guard {
    /// Whether the gateway may connect to this address.
    pub(super) fn check(&self, address: IpAddr, allowed: &AllowList) -> Result<(), Denied> {
        let (forms, count) = forms(address);
        let forms = forms.get(..count).unwrap_or(&[]);
        if allowed.has_address(address) {
            return Ok(());
        }
        let own = self.own();
        for form in forms {
            if allowed.has_address(*form) {
                continue;
            }
            if let Some(denied) = built_in(*form) {
                return Err(denied);
            }
            if own.contains(form) {
                return Err(Denied::Own);
            }
        }
        Ok(())
    }

    fn own(&self) -> Arc<[IpAddr]> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let now = boot_now();
        match &*own {
            Some((at, addresses)) if now.since(*at) < OWN_ADDRESSES_FOR => Arc::clone(addresses),
            _ => {
                let addresses: Arc<[IpAddr]> = own_addresses().into();
                *own = Some((now, Arc::clone(&addresses)));
                addresses
            }
        }
    }
}

fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect()
}

/// The most forms that one address has.
const MAX_FORMS: usize = 4;

/// An address and the IPv4 addresses that are embedded in it, which some gateway on the way may turn it into.
fn forms(address: IpAddr) -> ([IpAddr; MAX_FORMS], usize) {
    let mut forms = [address; MAX_FORMS];
    let mut count = 1;
    if let IpAddr::V6(v6) = address {
        let [a, b, c, d, e, f, g, h] = v6.segments();
        let v4 = |high: u16, low: u16| {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        };
        let mut add = |embedded| {
            if let Some(slot) = forms.get_mut(count) {
                *slot = embedded;
                count += 1;
            }
        };
        match (a, b, c, d, e, f) {
            // Mapped, compatible and translated; ::1 and :: are no embedded forms of 0.0.0.1 and 0.0.0.0 but denied too.
            (0, 0, 0, 0, 0, 0 | 0xffff) | (0, 0, 0, 0, 0xffff, 0) => add(v4(g, h)),
            // NAT64, the well-known prefix.
            (0x64, 0xff9b, 0, 0, 0, 0) => add(v4(g, h)),
            // NAT64, a local prefix of 96 bits, or of 48, which leaves the end zero (RFC 8215, RFC 6052).
            (0x64, 0xff9b, 1, ..) if (g, h) != (0, 0) => add(v4(g, h)),
            (0x64, 0xff9b, 1, ..) => {
                let ([_, high], [low, _]) = (e.to_be_bytes(), f.to_be_bytes());
                add(v4(d, u16::from_be_bytes([high, low])));
            }
            // 6to4.
            (0x2002, ..) => add(v4(b, c)),
            // Teredo: the server, and the client with its bits turned.
            (0x2001, 0, ..) => {
                add(v4(c, d));
                add(v4(!g, !h));
            }
            _ => {}
        }
        // ISATAP, under any prefix.
        if e & !0x200 == 0 && f == 0x5efe {
            add(v4(g, h));
        }
    }
    (forms, count)
}

/// The built-in list.
fn built_in(address: IpAddr) -> Option<Denied> {
    match address {
        IpAddr::V4(v4) => built_in_v4(v4),
        IpAddr::V6(v6) => built_in_v6(v6),
    }
}

fn built_in_v4(address: Ipv4Addr) -> Option<Denied> {
    match address.octets() {
        // AWS, Azure, Google and most others; Alibaba; Azure's wire server; Oracle.
        [169, 254, 169, 254] | [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192] => {
            Some(Denied::Metadata)
        }
        // All of 0/8 is "this host" (RFC 1122).
        [0, ..] => Some(Denied::Unspecified),
        [127, ..] => Some(Denied::Loopback),
        [169, 254, ..] => Some(Denied::LinkLocal),
        [224..=239, ..] => Some(Denied::Multicast),
        [255, 255, 255, 255] => Some(Denied::Broadcast),
        [240..=255, ..] | [192, 0, 0, _] => Some(Denied::Reserved),
        _ => None,
    }
}

/// AWS over IPv6; Google over IPv6.
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

fn built_in_v6(address: Ipv6Addr) -> Option<Denied> {
    if METADATA_V6.contains(&address) {
        return Some(Denied::Metadata);
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some(Denied::Unspecified),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some(Denied::Loopback),
        [0xfe80..=0xfebf, ..] => Some(Denied::LinkLocal),
        [0xff00..=0xffff, ..] => Some(Denied::Multicast),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_addresses() {
        use Denied::{Broadcast, LinkLocal, Loopback, Metadata, Multicast, Reserved, Unspecified};
        let guard = Guard::default();
        *guard.own.lock().unwrap() = Some((boot_now().after(Duration::from_secs(3600)), Arc::new([])));
        for (address, expected) in [
            ("127.0.0.1", Some(Loopback)),
            ("127.255.255.254", Some(Loopback)),
            ("0.0.0.0", Some(Unspecified)),
            ("0.1.2.3", Some(Unspecified)),
            ("169.254.0.1", Some(LinkLocal)),
            ("169.254.169.254", Some(Metadata)),
            ("100.100.100.200", Some(Metadata)),
            ("168.63.129.16", Some(Metadata)),
            ("192.0.0.192", Some(Metadata)),
            ("192.0.0.8", Some(Reserved)),
            ("224.0.0.1", Some(Multicast)),
            ("239.255.255.255", Some(Multicast)),
            ("240.0.0.1", Some(Reserved)),
            ("255.255.255.255", Some(Broadcast)),
            ("10.0.0.1", None),
            ("172.16.0.1", None),
            ("192.168.1.1", None),
            ("100.64.0.1", None),
            ("192.0.2.1", None),
            ("198.18.0.1", None),
            ("8.8.8.8", None),
            ("::", Some(Unspecified)),
            ("::1", Some(Loopback)),
            ("fe80::1", Some(LinkLocal)),
            ("febf::1", Some(LinkLocal)),
            ("ff02::1", Some(Multicast)),
            ("fd00:ec2::254", Some(Metadata)),
            ("fd20:ce::254", Some(Metadata)),
            ("fd00::1", None),
            ("2001:db8::1", None),
            ("2606:4700::1111", None),
            ("::ffff:127.0.0.1", Some(Loopback)),
            ("::ffff:169.254.169.254", Some(Metadata)),
            ("::ffff:8.8.8.8", None),
            ("::ffff:0:127.0.0.1", Some(Loopback)),
            ("::127.0.0.1", Some(Loopback)),
            ("::0.0.0.2", Some(Unspecified)),
            ("64:ff9b::127.0.0.1", Some(Loopback)),
            ("64:ff9b::8.8.8.8", None),
            ("64:ff9b:1::127.0.0.1", Some(Loopback)),
            ("64:ff9b:1::8.8.8.8", None),
            ("64:ff9b:1:808:8:800::", None),
            ("64:ff9b:1:7f00:0:100::", Some(Loopback)),
            ("2002:7f00:1::", Some(Loopback)),
            ("2002:a9fe:a9fe::1", Some(Metadata)),
            ("2002:808:808::1", None),
            ("2001:0:7f00:1::1", Some(Loopback)),
            ("2001:0:808:808:0:0:80ff:fffe", Some(Loopback)),
            ("2001:db8::5efe:127.0.0.1", Some(Loopback)),
            ("2001:db8::200:5efe:169.254.1.1", Some(LinkLocal)),
        ] {
            let checked = guard.check(address.parse().unwrap(), &AllowList::default());
            assert_eq!(checked.err(), expected, "{address}");
        }
    }

    #[test]
    fn the_gateways_own_addresses_in_any_form() {
        let guard = Guard::default();
        let own: IpAddr = "192.0.2.7".parse().unwrap();
        *guard.own.lock().unwrap() = Some((boot_now().after(Duration::from_secs(3600)), Arc::new([own])));
        for address in ["192.0.2.7", "::ffff:192.0.2.7", "2002:c000:207::1", "64:ff9b::192.0.2.7"] {
            let checked = guard.check(address.parse().unwrap(), &AllowList::default());
            assert_eq!(checked, Err(Denied::Own), "{address}");
        }
        assert!(guard.check("192.0.2.8".parse().unwrap(), &AllowList::default()).is_ok());
    }

    #[test]
    fn the_real_list_holds_loopback() {
        assert!(own_addresses().contains(&"127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_allowed_passes() {
        let guard = Guard::default();
        let allowed = AllowList::new(["127.0.0.0/8", "[::1]", "fe80::1", "intranet.test."]);
        for address in ["127.0.0.1", "127.9.9.9", "::1", "fe80::1", "::ffff:127.0.0.1"] {
            assert!(guard.check(address.parse().unwrap(), &allowed).is_ok(), "{address}");
        }
        assert!(guard.check("fe80::2".parse().unwrap(), &allowed).is_err());
        assert!(allowed.has_name("intranet.test") && !allowed.has_name("x.intranet.test"));
    }
}
