//! The small types that configuration values have.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::session::settings::words;
use crate::types::show_network;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
