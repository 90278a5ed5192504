//! Sets of client addresses, as operators write them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// A set of client addresses, in `PortalGuard`'s notation with stars or as a network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AddressPattern {
    /// Every address of a network.
    Network(IpNet),
    /// IPv4 with stars: `192.168.*.*`. `None` is a star.
    Stars([Option<u8>; 4]),
}

impl AddressPattern {
    /// Whether `address` is one of the set.
    #[must_use]
    pub fn matches(&self, address: IpAddr) -> bool {
        match (self, address.to_canonical()) {
            (Self::Network(network), address) => network.contains(&address),
            (Self::Stars(parts), IpAddr::V4(address)) => {
                parts.iter().zip(address.octets()).all(|(part, octet)| part.is_none_or(|part| part == octet))
            }
            (Self::Stars(_), IpAddr::V6(_)) => false,
        }
    }
}

impl fmt::Display for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => f.write_str(&show_network(network)),
            Self::Stars(parts) => {
                let parts = parts.map(|part| part.map_or_else(|| "*".to_owned(), |octet| octet.to_string()));
                f.write_str(&parts.join("."))
            }
        }
    }
}

/// A network as people write it: a single address without its prefix.
#[must_use]
pub fn show_network(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}

/// `192.168.*.*`: four parts, at least one of them a star.
#[must_use]
pub fn parse_stars(text: &str) -> Option<AddressPattern> {
    if !text.contains('*') {
        return None;
    }
    let mut parts = text.split('.');
    let mut octets = [None; 4];
    for octet in &mut octets {
        match parts.next()? {
            "*" => {}
            // Through the whole-address parser, which refuses signs and leading zeros.
            part => *octet = Some(format!("0.0.0.{part}").parse::<Ipv4Addr>().ok()?.octets()[3]),
        }
    }
    parts.next().is_none().then_some(AddressPattern::Stars(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_any_octet_of_ipv4_only() {
        let pattern = parse_stars("192.168.*.*").unwrap();
        assert_eq!(pattern.to_string(), "192.168.*.*");
        assert!(pattern.matches("192.168.7.255".parse().unwrap()));
        assert!(pattern.matches("::ffff:192.168.7.255".parse().unwrap()));
        assert!(!pattern.matches("192.169.7.255".parse().unwrap()));
        assert!(!pattern.matches("2001:db8::1".parse().unwrap()));
        for bad in ["192.168.*", "192.168.*.*.*", "192.168.*.256", "192.168.*.01", "1*.2.3.4", "192.168.1.1"]
        {
            assert_eq!(parse_stars(bad), None, "{bad}");
        }
    }
}
