//! Where connections are watched: an address of ours and a port, and whether what moves there shows on the wire.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tracker_ebpf::abi::{ANY_ADDRESS, ANY_V4, as_words, covers};

use crate::types::ClientAddr;

/// A port, at one address, at every IPv4 address, or at every address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// As the kernel side compares it.
    pub(super) address: [u64; 2],
    pub(super) port: u16,
    /// The streams there are not the payload: the kernel side takes nothing of them for traffic.
    pub(super) is_opaque: bool,
}

impl From<u16> for Place {
    /// At every address.
    fn from(port: u16) -> Self {
        Self { address: ANY_ADDRESS, port, is_opaque: false }
    }
}

impl From<SocketAddr> for Place {
    /// What a listener on this address gets. One on the unspecified IPv6 address gets IPv4 connections too.
    fn from(listener: SocketAddr) -> Self {
        let address = match listener.ip() {
            IpAddr::V6(v6) if v6.is_unspecified() => ANY_ADDRESS,
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) => ANY_V4,
            IpAddr::V4(v4) => as_words(ClientAddr::from(v4).0),
            IpAddr::V6(v6) => as_words(v6.octets()),
        };
        Self { address, port: listener.port(), is_opaque: false }
    }
}

impl Place {
    /// The same place, where the proxy itself says when payload moves ([`Watcher::payload`](crate::net::Watcher::payload)):
    /// under TLS the kernel cannot tell it from handshakes, tickets and pings.
    #[must_use]
    pub const fn opaque(self, is_opaque: bool) -> Self {
        Self { is_opaque, ..self }
    }

    /// Whether a connection with this end of ours is watched.
    pub(super) fn includes(&self, address: IpAddr, port: u16) -> bool {
        let octets = match address {
            IpAddr::V4(v4) => ClientAddr::from(v4).0,
            IpAddr::V6(v6) => v6.octets(),
        };
        self.port == port && covers(self.address, as_words(octets))
    }
}

/// The places of these listeners, and where the other proxies on these ports get their connections, each of them once.
#[must_use]
pub fn places(listeners: &[Place], others: &[u16]) -> Vec<Place> {
    let all = listeners.iter().copied().chain(others.iter().copied().map(Place::from));
    let mut places: Vec<Place> = all.collect();
    // The kernel side takes the first that has a connection: of one port, what the proxy speaks TLS at. Of those alike, what is
    // at every address comes first.
    places.sort_unstable_by_key(|place| (place.port, !place.is_opaque, place.address));
    places.dedup_by(|next, kept| next.port == kept.port && covers(kept.address, next.address));
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(listener: &str, address: &str, port: u16) -> bool {
        Place::from(listener.parse::<SocketAddr>().unwrap()).includes(address.parse().unwrap(), port)
    }

    #[test]
    fn a_listener_gets_what_is_meant_for_its_address() {
        for address in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "fe80::1"] {
            assert!(at("[::]:3128", address, 3128), "{address}");
            assert!(!at("[::]:3128", address, 3129), "{address}");
            assert!(Place::from(3128).includes(address.parse().unwrap(), 3128));
        }
        for (address, gets) in
            [("192.0.2.1", true), ("::ffff:192.0.2.1", true), ("2001:db8::1", false), ("::1", false)]
        {
            assert_eq!(at("0.0.0.0:3128", address, 3128), gets, "{address}");
            assert_eq!(at("192.0.2.1:3128", address, 3128), gets, "{address}");
        }
        assert!(at("[2001:db8::1]:3128", "2001:db8::1", 3128));
        assert!(!at("[2001:db8::1]:3128", "2001:db8::2", 3128));
        assert!(!at("192.0.2.1:3128", "192.0.2.2", 3128));
    }

    #[test]
    fn what_is_watched_anyway_takes_no_room() {
        let listeners =
            ["192.0.2.1:1", "0.0.0.0:1", "[2001:db8::1]:1", "[2001:db8::1]:2", "[::]:2", "192.0.2.1:3"];
        let listeners = listeners.map(|text| Place::from(text.parse::<SocketAddr>().unwrap()));
        let expected: Vec<Place> = ["0.0.0.0:1", "[2001:db8::1]:1", "[::]:2"]
            .iter()
            .map(|text| text.parse::<SocketAddr>().unwrap().into())
            .chain([3.into()])
            .collect();
        assert_eq!(places(&listeners, &[3]), expected);
    }

    #[test]
    fn what_is_opaque_comes_before_what_has_it_too() {
        let tls = |text: &str| Place::from(text.parse::<SocketAddr>().unwrap()).opaque(true);
        let plain = Place::from("192.0.2.2:1".parse::<SocketAddr>().unwrap());
        // Another proxy has the same port at the other addresses.
        let (one, other) = (tls("192.0.2.1:1"), tls("[2001:db8::1]:1"));
        assert_eq!(places(&[plain, other, one], &[1]), [one, other, 1.into()]);
        assert_eq!(places(&[tls("[::]:1"), plain], &[1]), [tls("[::]:1")]);
    }
}
