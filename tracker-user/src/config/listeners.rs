//! Every address that a configuration has the gateway listen on: one list for whoever wants to know.

use std::net::SocketAddr;

use super::keys;
use super::types::Config;
use crate::net::Service;

/// An address to listen on, and the key that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The key's full name.
    pub key: &'static str,
    /// What is served there.
    pub service: Service,
    /// Whether it is served under TLS.
    pub is_tls: bool,
    /// The address; port 0 is whichever is free.
    pub address: SocketAddr,
}

impl Listen {
    /// Whether this version listens there.
    #[must_use]
    pub fn is_in_effect(&self) -> bool {
        keys::find(self.key).is_ok_and(keys::Key::is_in_effect)
    }
}

impl Config {
    /// All of them, also those that have no effect in this version. Only what the configuration itself switches off is
    /// left out.
    #[must_use]
    pub fn listeners(&self) -> Vec<Listen> {
        let listen = |key, service, is_tls| move |address| Listen { key, service, is_tls, address };
        let proxy = self.proxy.listen.iter().copied().map(listen("proxy.listen", Service::Proxy, false));
        let proxy_tls = self.tls.proxy_listen.iter().copied();
        let proxy_tls = proxy_tls.map(listen("tls.proxy-listen", Service::Proxy, true));
        let acme = self.acme.http.filter(|_| self.acme.directory.is_some());
        let single = [
            self.portal.http.map(listen("portal.http", Service::Portal, false)),
            self.portal.https.map(listen("portal.https", Service::Portal, true)),
            acme.map(listen("acme.http", Service::Redirect, false)),
            self.metrics.listen.map(listen("metrics.listen", Service::Metrics, false)),
        ];
        proxy.chain(proxy_tls).chain(single.into_iter().flatten()).collect()
    }

    /// Whether something listens under TLS.
    #[must_use]
    pub fn needs_certificate(&self) -> bool {
        self.listeners().iter().any(|listen| listen.is_tls && listen.is_in_effect())
    }

    /// The addresses at which this version serves one thing.
    #[must_use]
    pub fn addresses_of(&self, service: Service) -> Vec<Listen> {
        let all = self.listeners().into_iter();
        all.filter(|listen| listen.service == service && listen.is_in_effect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listener_is_there_once_with_a_key_that_exists() {
        let mut config = Config::default();
        config.tls.proxy_listen = vec!["127.0.0.1:3129".parse().unwrap()];
        let without_acme = config.listeners();
        assert!(without_acme.iter().all(|listen| listen.service != Service::Redirect));
        config.acme.directory = Some("https://ca.test/directory".to_owned());
        let all = config.listeners();
        assert_eq!(all.len(), without_acme.len() + 1);
        let keys: Vec<&str> = all.iter().map(|listen| listen.key).collect();
        let expected = [
            "proxy.listen",
            "tls.proxy-listen",
            "portal.http",
            "portal.https",
            "acme.http",
            "metrics.listen",
        ];
        assert_eq!(keys, expected);
        assert!(keys.into_iter().all(|key| keys::find(key).is_ok()));
        let tls: Vec<&str> = all.iter().filter(|listen| listen.is_tls).map(|listen| listen.key).collect();
        assert_eq!(tls, ["tls.proxy-listen", "portal.https"]);
    }

    /// The wiring binds listeners of these: a key of others that comes into effect needs it to do more.
    #[test]
    fn only_what_answers_challenges_is_not_in_effect() {
        let mut config = Config::default();
        config.tls.proxy_listen = vec!["127.0.0.1:3129".parse().unwrap()];
        config.acme.directory = Some("https://ca.test/directory".to_owned());
        let in_effect = config.listeners().into_iter().filter(Listen::is_in_effect);
        assert_eq!(
            in_effect.map(|listen| listen.key).collect::<Vec<_>>(),
            ["proxy.listen", "tls.proxy-listen", "portal.http", "portal.https", "metrics.listen"]
        );
    }
}
