//! The small types that configuration values have.

use std::fmt;

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
    /// What tickets that come under TLS must say of the TLS connection (channel bindings, RFC 5929).
    pub enum ChannelBindings {
        /// What they say is not looked at.
        Off = "off",
        /// Those that were made for another connection are refused; those that say nothing are accepted.
        #[default]
        Accept = "accept",
        /// Those that say nothing are refused too: no browser on Linux could log in.
        Require = "require",
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

words! {
    /// What passkeys are good for.
    pub enum PasskeyUse {
        /// Nothing: none is asked for, and none can be added.
        Off = "off",
        /// After a password, in place of a code.
        #[default]
        Second = "second",
        /// Alone, too: they are a factor that somebody has, unlocked by one that they know or are.
        Alone = "alone",
    }
}

/// A destination that is let through although the built-in deny list names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum AllowedDestination {
    /// Every address of a network.
    Network(IpNet),
    /// One host name, in lower case and without a final dot, whatever address it has.
    Host(String),
}

impl fmt::Display for AllowedDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => f.write_str(&show_network(network)),
            Self::Host(host) => f.write_str(host),
        }
    }
}
