//! Which addresses the gateway does not reach out to on a client's behalf: itself, and what only it can reach.
//!
//! A client that could make the gateway connect to loopback, to link-local or metadata addresses, or to the gateway's own
//! addresses would act with the gateway's place in the network. Private ranges are where intranets are: they pass. Which
//! addresses are the gateway's own is the kernel's to say, for each connection anew; while it does not say, none is made.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::options::AllowList;
use crate::observe::Route;

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

impl Denied {
    /// For the person at the client. Which addresses are the gateway's own is not said.
    pub(super) const fn user_words(self) -> &'static str {
        match self {
            Self::Loopback => "this proxy does not connect to loopback addresses.",
            Self::Unspecified => "this proxy does not connect to the unspecified address.",
            Self::LinkLocal => "this proxy does not connect to link-local addresses.",
            Self::Multicast => "this proxy does not connect to multicast addresses.",
            Self::Broadcast => "this proxy does not connect to broadcast addresses.",
            Self::Metadata => "this proxy does not connect to metadata addresses.",
            Self::Reserved => "this proxy does not connect to reserved addresses.",
            Self::Own => "this proxy does not connect to where it leads.",
        }
    }
}

/// Why an address is not connected to.
#[derive(Debug)]
pub(super) enum Barred {
    /// It must not be.
    Denied(Denied),
    /// It cannot be: there is no route.
    NoRoute(io::Error),
    /// Where it leads is not known.
    Unknown,
}

/// Whether the gateway may connect to this address; `route` asks the kernel where one leads.
pub(super) fn check(
    address: IpAddr,
    allowed: &AllowList,
    route: impl Fn(IpAddr) -> io::Result<Route>,
) -> Result<(), Barred> {
    // As it is connected to: a mapped address is an IPv4 connection.
    let address = address.to_canonical();
    if allowed.has_address(address) {
        return Ok(());
    }
    let (forms, count) = forms(address);
    for &form in forms.get(..count).unwrap_or(&[]) {
        if allowed.has_address(form) {
            continue;
        }
        if let Some(denied) = built_in(form) {
            return Err(Barred::Denied(denied));
        }
        match route(form).map_err(|_| Barred::Unknown)? {
            Route::Out => {}
            Route::Here => return Err(Barred::Denied(Denied::Own)),
            Route::Broadcast => return Err(Barred::Denied(Denied::Broadcast)),
            Route::Multicast => return Err(Barred::Denied(Denied::Multicast)),
            Route::Nowhere(number) if form == address => {
                return Err(Barred::NoRoute(io::Error::from_raw_os_error(number)));
            }
            // An embedded address that leads nowhere does not lead here.
            Route::Nowhere(_) => {}
        }
    }
    Ok(())
}

/// The most forms that one address has.
const MAX_FORMS: usize = 6;

/// An address and the IPv4 addresses that are embedded in it, which some gateway on the way may turn it into.
fn forms(address: IpAddr) -> ([IpAddr; MAX_FORMS], usize) {
    let mut forms = [address; MAX_FORMS];
    let mut count = 1;
    if let IpAddr::V6(v6) = address {
        let [a, b, c, d, e, f, g, h] = v6.segments();
        let v4 = |high: u16, low: u16| {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Ipv4Addr::new(a, b, c, d)
        };
        let mut add = |embedded: Ipv4Addr| {
            if let Some(slot) = forms.get_mut(count) {
                *slot = embedded.into();
                count += 1;
            }
        };
        match (a, b, c, d, e, f) {
            // Mapped, compatible and translated; ::1 and :: are no embedded forms of 0.0.0.1 and 0.0.0.0 but denied too.
            (0, 0, 0, 0, 0, 0 | 0xffff) | (0, 0, 0, 0, 0xffff, 0) => add(v4(g, h)),
            // NAT64, the well-known prefix.
            (0x64, 0xff9b, 0, 0, 0, 0) => add(v4(g, h)),
            // NAT64, a local prefix (RFC 8215). Only the translator knows its length: each of those that RFC 6052 has and
            // that lie in this block is looked at. What comes out as 0/8 there is a piece of a longer prefix's padding.
            (0x64, 0xff9b, 1, ..) => {
                translated(v6).into_iter().filter(|v4| v4.octets()[0] != 0).for_each(&mut add);
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

/// The IPv4 address behind a prefix of 48, 56, 64 and 96 bits (RFC 6052, section 2.2; byte 8 is left out).
fn translated(v6: Ipv6Addr) -> [Ipv4Addr; 4] {
    let [_, _, _, _, _, _, b6, b7, _, b9, b10, b11, b12, b13, b14, b15] = v6.octets();
    [
        Ipv4Addr::new(b6, b7, b9, b10),
        Ipv4Addr::new(b7, b9, b10, b11),
        Ipv4Addr::new(b9, b10, b11, b12),
        Ipv4Addr::new(b12, b13, b14, b15),
    ]
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
    use crate::config::AllowedDestination;

    #[test]
    fn the_table_of_addresses() {
        use Denied::{Broadcast, LinkLocal, Loopback, Metadata, Multicast, Reserved, Unspecified};
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
            // With a suffix that should be zero, and by prefixes of 56 and 64 bits.
            ("64:ff9b:1:7f00:0:100:0:1", Some(Loopback)),
            ("64:ff9b:1:7f00:0:100:dead:beef", Some(Loopback)),
            ("64:ff9b:1:27f:0:1::", Some(Loopback)),
            ("64:ff9b:1:208:8:808::", None),
            ("64:ff9b:1:2:7f:0:100:0", Some(Loopback)),
            ("64:ff9b:1:2:a9:fea9:fe00:0", Some(Metadata)),
            ("64:ff9b:1:2:8:808:800:0", None),
            ("2002:7f00:1::", Some(Loopback)),
            ("2002:a9fe:a9fe::1", Some(Metadata)),
            ("2002:808:808::1", None),
            ("2001:0:7f00:1::1", Some(Loopback)),
            ("2001:0:808:808:0:0:80ff:fffe", Some(Loopback)),
            ("2001:db8::5efe:127.0.0.1", Some(Loopback)),
            ("2001:db8::200:5efe:169.254.1.1", Some(LinkLocal)),
        ] {
            assert_eq!(denied(address, |_| Ok(Route::Out)), expected, "{address}");
        }
    }

    fn denied(address: &str, route: impl Fn(IpAddr) -> io::Result<Route>) -> Option<Denied> {
        match check(address.parse().unwrap(), &AllowList::default(), route) {
            Ok(()) => None,
            Err(Barred::Denied(denied)) => Some(denied),
            Err(other) => panic!("{address}: {other:?}"),
        }
    }

    #[test]
    fn what_the_kernel_calls_its_own_is_refused_in_any_form() {
        let here: IpAddr = "192.0.2.7".parse().unwrap();
        let route = |asked: IpAddr| Ok(if asked == here { Route::Here } else { Route::Out });
        for address in [
            "192.0.2.7",
            "::ffff:192.0.2.7",
            "2002:c000:207::1",
            "64:ff9b::192.0.2.7",
            "64:ff9b:1::192.0.2.7",
            "64:ff9b:1:c000:2:700::",
            "64:ff9b:1:5c0:0:207::",
            "64:ff9b:1:5:c0:2:700:0",
            "2001:db8::5efe:192.0.2.7",
        ] {
            assert_eq!(denied(address, route), Some(Denied::Own), "{address}");
        }
        assert_eq!(denied("192.0.2.8", route), None);
    }

    #[test]
    fn broadcasts_and_groups_of_the_hosts_own_nets_are_refused() {
        for (route, why) in [(Route::Broadcast, Denied::Broadcast), (Route::Multicast, Denied::Multicast)] {
            assert_eq!(denied("192.0.2.255", |_| Ok(route)), Some(why));
        }
    }

    #[test]
    fn what_is_not_known_is_refused_and_what_leads_nowhere_is_only_not_reached() {
        let asks = |address: &str, route: &dyn Fn(IpAddr) -> io::Result<Route>| {
            check(address.parse().unwrap(), &AllowList::default(), route)
        };
        let exhausted = |_| Err(io::Error::from_raw_os_error(libc::EMFILE));
        assert!(matches!(asks("192.0.2.1", &exhausted), Err(Barred::Unknown)));
        assert!(matches!(asks("64:ff9b::192.0.2.1", &exhausted), Err(Barred::Unknown)));
        let nowhere = |_| Ok(Route::Nowhere(libc::ENETUNREACH));
        assert!(matches!(asks("2001:db8::1", &nowhere), Err(Barred::NoRoute(_))));
        let only_v6 =
            |asked: IpAddr| Ok(if asked.is_ipv6() { Route::Out } else { Route::Nowhere(libc::ENETUNREACH) });
        assert!(asks("64:ff9b::192.0.2.1", &only_v6).is_ok());
    }

    #[test]
    fn what_is_allowed_passes() {
        let route = |_| Ok(Route::Here);
        let network = |text: &str| AllowedDestination::Network(text.parse().unwrap());
        let host = AllowedDestination::Host("intranet.test".to_owned());
        let allowed = [network("127.0.0.0/8"), network("::1/128"), network("fe80::1/128"), host];
        let allowed = AllowList::new(&allowed);
        for address in ["127.0.0.1", "127.9.9.9", "::1", "fe80::1", "::ffff:127.0.0.1"] {
            assert!(check(address.parse().unwrap(), &allowed, route).is_ok(), "{address}");
        }
        assert!(check("fe80::2".parse().unwrap(), &allowed, route).is_err());
        assert!(allowed.has_name("intranet.test") && !allowed.has_name("x.intranet.test"));
    }
}
