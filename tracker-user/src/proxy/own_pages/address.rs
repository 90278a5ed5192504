//! Where the gateway's own pages are, and which requests mean them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::net::Handed;
use crate::proxy::destination::{Destination, Host};
use crate::proxy::message::Method;
use crate::types::ClientAddr;

/// See the module.
#[derive(Clone, Debug)]
pub struct OwnPages {
    /// The pages under TLS without a path, `https://gateway.example.test:4081`; `None`: there are none, and nobody is led there.
    pub origin: Option<Arc<str>>,
    /// What this host is called, in lower case, without a last dot.
    pub names: Vec<String>,
    /// The way to the pages without TLS,
    pub plain: Option<Way>,
    /// and to those under TLS.
    pub secure: Option<Way>,
    /// Addresses of many users: nobody can log in there for an address, and so nobody is led there.
    pub shared_hosts: Vec<IpNet>,
    /// Where it is said whom a connection is for.
    pub handed: Arc<Handed>,
}

/// A way to the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Where they are for clients.
    pub listens: SocketAddr,
    /// Where the proxy reaches them.
    pub inner: SocketAddr,
}

impl OwnPages {
    /// The pages to log in on, for a client that can.
    pub(in crate::proxy) fn login_for(&self, client: ClientAddr) -> Option<&Arc<str>> {
        let is_shared = self.shared_hosts.iter().any(|net| net.contains(&client.ip()));
        self.origin.as_ref().filter(|_| !is_shared)
    }

    /// Where a request leads that is meant for these pages; `is_here` says whether an address is this host's.
    #[inline]
    pub(in crate::proxy) fn way(
        &self,
        method: Method,
        destination: &Destination,
        is_here: impl FnOnce(IpAddr) -> bool,
    ) -> Option<SocketAddr> {
        // Nearly all are told apart by the port.
        let at = |way: &Option<Way>| way.filter(|way| way.listens.port() == destination.port);
        let way = at(&self.plain).or_else(|| at(&self.secure).filter(|_| method == Method::Connect))?;
        self.is_ours(destination, way, is_here).then_some(way.inner)
    }

    fn is_ours(&self, destination: &Destination, way: Way, is_here: impl FnOnce(IpAddr) -> bool) -> bool {
        let Host::Address(address) = destination.host else {
            return destination.host.name().is_some_and(|name| self.names.iter().any(|own| own == name));
        };
        let (address, listens) = (address.to_canonical(), way.listens.ip().to_canonical());
        // A client's loopback is its own.
        !address.is_loopback()
            && !address.is_unspecified()
            && (listens.is_unspecified() || listens == address)
            && is_here(address)
    }
}

#[cfg(test)]
pub(in crate::proxy) mod tests {
    use super::*;

    pub(in crate::proxy) fn pages(listens: &str) -> OwnPages {
        let way = |port: u16, inner: u16| {
            let inner = SocketAddr::from(([127, 0, 0, 1], inner));
            Some(Way { listens: SocketAddr::new(listens.parse().unwrap(), port), inner })
        };
        OwnPages {
            origin: Some("https://proxy.test:4081".into()),
            names: vec!["proxy.test".into(), "proxy".into()],
            plain: way(4080, 1),
            secure: way(4081, 2),
            shared_hosts: vec!["192.0.2.8/29".parse().unwrap()],
            handed: Arc::default(),
        }
    }

    #[test]
    fn which_requests_mean_the_pages() {
        let ours: IpAddr = "192.0.2.1".parse().unwrap();
        let found = |listens: &str, method, to: &str| {
            let destination = Destination::parse(to, Some(80)).unwrap();
            pages(listens).way(method, &destination, |address| address == ours).map(|at| at.port())
        };
        use Method::{Connect, Get};
        for (listens, method, to, inner) in [
            ("0.0.0.0", Get, "proxy.test:4080", Some(1)),
            ("0.0.0.0", Get, "PROXY.test.:4080", Some(1)),
            ("0.0.0.0", Connect, "proxy:4080", Some(1)),
            ("0.0.0.0", Connect, "proxy.test:4081", Some(2)),
            ("0.0.0.0", Connect, "192.0.2.1:4081", Some(2)),
            ("0.0.0.0", Connect, "[::ffff:192.0.2.1]:4081", Some(2)),
            ("192.0.2.1", Connect, "192.0.2.1:4081", Some(2)),
            // Not in the clear where they speak TLS, nor at another port, another name, or another host.
            ("0.0.0.0", Get, "proxy.test:4081", None),
            ("0.0.0.0", Get, "proxy.test", None),
            ("0.0.0.0", Connect, "proxy.test:9477", None),
            ("0.0.0.0", Connect, "xproxy.test:4081", None),
            ("0.0.0.0", Connect, "192.0.2.2:4081", None),
            // A client's loopback is its own, and what is bound to another address is something else.
            ("0.0.0.0", Connect, "127.0.0.1:4081", None),
            ("0.0.0.0", Connect, "[::1]:4081", None),
            ("0.0.0.0", Connect, "0.0.0.0:4081", None),
            ("192.0.2.7", Connect, "192.0.2.1:4081", None),
        ] {
            assert_eq!(found(listens, method, to), inner, "{listens} {method:?} {to}");
        }
    }

    #[test]
    fn nobody_is_led_there_who_could_not_log_in() {
        let pages = pages("0.0.0.0");
        let login = |client: &str| pages.login_for(client.parse().unwrap()).is_some();
        assert!(login("192.0.2.7") && !login("192.0.2.9"));
        let plain = OwnPages { origin: None, ..pages.clone() };
        assert!(plain.login_for("192.0.2.7".parse().unwrap()).is_none());
    }
}
