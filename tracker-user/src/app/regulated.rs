//! What the configuration says of regulation: what is counted, and which addresses many people come from.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use nix::ifaddrs::getifaddrs;
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::auth::regulation::Settings;
use crate::config::Config;
use crate::types::ClientAddr;

/// See the module; follows the configuration.
#[derive(Clone)]
pub(super) struct Regulated(Arc<ArcSwap<Config>>);

impl Regulated {
    pub(super) fn new(config: &Config) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(config.clone())))
    }

    pub(super) fn configure(&self, config: &Arc<Config>) {
        self.0.store(Arc::clone(config));
    }

    pub(super) fn settings(&self) -> Settings {
        settings(&self.0.load())
    }

    /// Whether many people may come from this address: it is one of the gateway's own, a balancer's that tells whom it
    /// speaks for, or is said to be shared.
    pub(super) fn is_unbannable(&self, client: ClientAddr) -> bool {
        let (config, address) = (self.0.load(), client.ip());
        address.is_loopback()
            || config.timeouts.is_shared(client)
            || config.proxy.proxy_protocol.iter().any(|balancer| balancer.contains(&address))
            || is_own(address)
    }
}

pub(super) fn settings(config: &Config) -> Settings {
    let crate::config::Regulation { max_retries, find_time, ban_time } = config.regulation;
    Settings { max_retries, find_time, ban_time }
}

/// Whether an interface of this host has this address.
fn is_own(address: IpAddr) -> bool {
    // Where the kernel does not say, an address is anybody's.
    getifaddrs().into_iter().flatten().any(|interface| {
        let Some(own) = interface.address else { return false };
        let v4 = own.as_sockaddr_in().map(|own| IpAddr::V4(own.ip()));
        v4.or_else(|| own.as_sockaddr_in6().map(|own| IpAddr::V6(own.ip()))) == Some(address)
    })
}

/// Random bytes.
pub(super) fn secret() -> io::Result<[u8; 32]> {
    let mut secret = [0; 32];
    SystemRandom::new().fill(&mut secret).map_err(|_| io::Error::other("the system gives none"))?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_bans_an_address_that_many_come_from() {
        let mut config = Config::default();
        config.timeouts.shared_hosts = vec!["192.0.2.0/28".parse().unwrap()];
        config.proxy.proxy_protocol = vec!["198.51.100.7/32".parse().unwrap()];
        let regulated = Regulated::new(&config);
        let is_unbannable = |text: &str| regulated.is_unbannable(text.parse().unwrap());
        for address in ["127.0.0.1", "127.9.9.9", "::1", "192.0.2.15", "198.51.100.7"] {
            assert!(is_unbannable(address), "{address}");
        }
        assert!(!is_unbannable("192.0.2.16") && !is_unbannable("198.51.100.8"));
        regulated.configure(&Arc::new(Config::default()));
        assert!(!is_unbannable("192.0.2.15") && is_unbannable("127.0.0.1"));
        assert!(is_own("127.0.0.1".parse().unwrap()), "an interface has it");
        assert!(!is_own("192.0.2.1".parse().unwrap()));
    }
}
