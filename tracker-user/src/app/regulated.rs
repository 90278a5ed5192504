//! What the configuration says of regulation: what is counted, and which addresses many people come from.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ring::rand::{SecureRandom as _, SystemRandom};
use tracing::warn;

use super::StartError;
use crate::audit::Audit;
use crate::auth::regulation::{Keeping, Parts, Regulator, Settings};
use crate::config::Config;
use crate::links::own_addresses;
use crate::store::{Journal, Store};
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

    /// Who counts wrong passwords, with the bans of the last run.
    pub(super) fn regulator(
        &self,
        store: &Store,
        journal: &Arc<Journal>,
        audit: &Arc<Audit>,
    ) -> Result<Regulator, StartError> {
        let fresh = secret().map_err(|source| StartError::System { what: "random numbers", source })?;
        let secret = store.names_secret(fresh).unwrap_or_else(|error| {
            warn!(%error, "bans of users made from now on will not be known after a restart");
            fresh
        });
        let these = self.clone();
        let parts = Parts {
            settings: settings(&self.0.load()),
            secret,
            bans: store.bans()?,
            unbannable: Box::new(move |client| these.is_unbannable(client)),
            keeping: Keeping { journal: Arc::clone(journal), audit: Arc::clone(audit) },
        };
        Ok(Regulator::new(parts)?)
    }

    /// Whether many people may come from this address: it is one of the gateway's own, a balancer's or a proxy's that
    /// tells whom it speaks for, or is said to be shared.
    fn is_unbannable(&self, client: ClientAddr) -> bool {
        let (config, address) = (self.0.load(), client.ip());
        address.is_loopback()
            || config.timeouts.is_shared(client)
            || config.proxy.proxy_protocol.iter().any(|balancer| balancer.contains(&address))
            || config.portal.trusted_proxies.iter().any(|proxy| proxy.contains(&address))
            // Where the kernel does not say, an address is anybody's.
            || own_addresses().contains(&address)
    }
}

pub(super) fn settings(config: &Config) -> Settings {
    let crate::config::Regulation { max_retries, find_time, ban_time } = config.regulation;
    Settings { max_retries, find_time, ban_time }
}

/// Random bytes.
fn secret() -> io::Result<[u8; 32]> {
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
        config.portal.trusted_proxies = vec!["203.0.113.0/28".parse().unwrap()];
        let regulated = Regulated::new(&config);
        let is_unbannable = |text: &str| regulated.is_unbannable(text.parse().unwrap());
        for address in ["127.0.0.1", "127.9.9.9", "::1", "192.0.2.15", "198.51.100.7", "203.0.113.9"] {
            assert!(is_unbannable(address), "{address}");
        }
        assert!(!is_unbannable("192.0.2.16") && !is_unbannable("198.51.100.8"));
        regulated.configure(&Arc::new(Config::default()));
        assert!(!is_unbannable("192.0.2.15") && is_unbannable("127.0.0.1"));
        let is_own = |text: &str| own_addresses().contains(&text.parse().unwrap());
        assert!(is_own("127.0.0.1"), "an interface has it");
        assert!(!is_own("192.0.2.1"));
    }
}
