//! The small types that configuration values have.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::session::settings::words;

words! {
    /// Where passwords may be asked for (Basic authentication sends them in the clear).
    pub enum Basic {
        /// Nowhere.
        Never = "never",
        /// On connections under TLS, and from this host itself.
        #[default]
        TlsAndLoopback = "tls-and-loopback",
        /// Everywhere: whoever can read the network reads the passwords.
        Always = "always",
    }
}

words! {
    /// Which observer watches the clients' connections.
    pub enum ObserverMode {
        /// eBPF where it can be had, else the proxy's own connections.
        #[default]
        Auto = "auto",
        /// eBPF, or the daemon refuses to start.
        Ebpf = "ebpf",
        /// Only the proxy's own connections; needs no privilege.
        Proxy = "proxy",
    }
}

words! {
    /// Whether computers' own accounts are users.
    pub enum MachineAccounts {
        /// They are not: their tickets log nobody in.
        #[default]
        Refuse = "refuse",
        /// They are users like others.
        Accept = "accept",
    }
}

words! {
    /// Whether the users of a domain need a second factor.
    pub enum SecondFactorPolicy {
        /// Nobody is asked.
        #[default]
        Off = "off",
        /// Who has enrolled is asked.
        Optional = "optional",
        /// Everybody is asked, and has to enrol.
        Required = "required",
    }
}

words! {
    /// Whether a Kerberos login needs a second factor too.
    pub enum KerberosTrust {
        /// The domain login is proof enough.
        #[default]
        Trust = "trust",
        /// The second factor is asked for after Kerberos as well.
        StepUp = "step-up",
    }
}

/// The ports from `first` to `last`, both among them; one port where they are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest, not below the lowest.
    pub last: u16,
}

impl PortRange {
    /// One port.
    #[must_use]
    pub const fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// Whether this names one port and no other.
    #[must_use]
    pub const fn is_one(self) -> bool {
        self.first == self.last
    }

    /// Whether `port` is one of these.
    #[must_use]
    pub const fn has(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// `443` or `1025-65535`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let port = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse::<u16>().ok().filter(|port| plain && *port != 0)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = Self { first: port(first.trim_end())?, last: port(last.trim_start())? };
        (range.first <= range.last).then_some(range)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_one() { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// A destination that is let through although the built-in deny list names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Destination {
    /// Every address of a network.
    Network(IpNet),
    /// One host name, in lower case and without a final dot, whatever address it has.
    Host(String),
}

impl Destination {
    /// Whether this lets requests to `address` through.
    #[must_use]
    pub fn allows_address(&self, address: IpAddr) -> bool {
        match self {
            Self::Network(network) => network.contains(&address.to_canonical()),
            Self::Host(_) => false,
        }
    }

    /// Whether this lets requests to the host called `name` through.
    #[must_use]
    pub fn allows_host(&self, name: &str) -> bool {
        match self {
            Self::Network(_) => false,
            Self::Host(host) => host.eq_ignore_ascii_case(name.strip_suffix('.').unwrap_or(name)),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => f.write_str(&show_network(network)),
            Self::Host(host) => f.write_str(host),
        }
    }
}

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
pub(super) fn show_network(network: &IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}

/// `192.168.*.*`: four parts, at least one of them a star.
pub(super) fn parse_stars(text: &str) -> Option<AddressPattern> {
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
    fn ports_and_ranges() {
        for (text, shown) in
            [("443", "443"), ("1025-65535", "1025-65535"), ("8000 - 8009", "8000-8009"), ("7-7", "7")]
        {
            assert_eq!(PortRange::parse(text).unwrap().to_string(), shown);
        }
        for text in ["", "-", "0", "0-9", "1-", "-1", "9-8", "65536", "1-65536", "+1", "1-2-3", "x"] {
            assert_eq!(PortRange::parse(text), None, "{text}");
        }
        let range = PortRange { first: 8000, last: 8009 };
        assert!(range.has(8000) && range.has(8009) && !range.has(7999) && !range.has(8010));
    }

    #[test]
    fn a_mapped_address_is_the_address_itself() {
        let loopback = Destination::Network("127.0.0.0/8".parse().unwrap());
        assert!(loopback.allows_address("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!loopback.allows_address("::1".parse().unwrap()));
    }

    #[test]
    fn a_host_is_known_in_any_case_and_with_a_final_dot() {
        let host = Destination::Host("wiki.example.test".to_owned());
        assert!(host.allows_host("Wiki.Example.Test."));
        assert!(!host.allows_host("example.test"));
    }

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
