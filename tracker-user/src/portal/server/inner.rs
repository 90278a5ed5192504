//! The listeners on loopback by which the proxy brings its clients to the pages: whoever was not announced is let go at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tracing::{debug, warn};

use crate::clock::boot_now;
use crate::net::{Endpoint, Handed, Listener, Service};
use crate::types::ClientAddr;

/// See the module.
#[derive(Debug, Default)]
pub struct InnerListeners {
    plain: Option<Listener>,
    secure: Option<Listener>,
    handed: Arc<Handed>,
}

impl InnerListeners {
    /// Binds one for each kind of those that the pages have. Without one, these pages are not reached through the proxy.
    #[must_use]
    pub fn bind(endpoints: &[Endpoint]) -> Self {
        let bind = |like: &Endpoint| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let inner = Endpoint { service: Service::Portal, security: like.security.clone(), address };
            let bound = inner.bind();
            bound.inspect_err(|error| warn!(%error, "the pages are not reached through the proxy")).ok()
        };
        let of = |plain: bool| endpoints.iter().find(|endpoint| endpoint.security.is_plain() == plain);
        Self { plain: of(true).and_then(bind), secure: of(false).and_then(bind), handed: Arc::default() }
    }

    /// Where the proxy brings clients to the pages without TLS.
    #[must_use]
    pub fn plain(&self) -> Option<SocketAddr> {
        self.plain.as_ref().map(Listener::address)
    }

    /// Where to those under TLS.
    #[must_use]
    pub fn secure(&self) -> Option<SocketAddr> {
        self.secure.as_ref().map(Listener::address)
    }

    /// Where it says first whom it brings.
    #[must_use]
    pub const fn handed(&self) -> &Arc<Handed> {
        &self.handed
    }

    /// Each with the way in that it is.
    pub(super) fn into_ways(self) -> impl Iterator<Item = (Listener, Way)> {
        let Self { plain, secure, handed } = self;
        plain.into_iter().chain(secure).map(move |listener| (listener, Way::Inner(Arc::clone(&handed))))
    }
}

/// How a listener's connections come.
#[derive(Clone, Debug)]
pub(super) enum Way {
    /// From whoever is at the other end.
    Direct,
    /// From the proxy, for a client that it has announced.
    Inner(Arc<Handed>),
}

impl Way {
    /// Whose connection it is; `None`: nobody's.
    pub(super) fn client(&self, peer: SocketAddr) -> Option<ClientAddr> {
        match self {
            // A link-local address without its link is nobody's.
            Self::Direct => ClientAddr::from_peer(peer),
            Self::Inner(handed) => {
                let client = handed.take(peer, boot_now());
                if client.is_none() {
                    debug!(%peer, "a connection to an inner listener of the pages was not announced: let go");
                }
                client
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Security;

    fn endpoint() -> Endpoint {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Endpoint { service: Service::Portal, security: Security::Plain, address }
    }

    #[test]
    fn there_is_one_for_each_kind_that_there_is() {
        let none = InnerListeners::bind(&[]);
        assert_eq!((none.plain(), none.secure()), (None, None));
        let plain = InnerListeners::bind(&[endpoint(), endpoint()]);
        assert!(plain.plain().is_some_and(|at| at.ip().is_loopback() && at.port() > 0));
        assert_eq!((plain.secure(), plain.into_ways().count()), (None, 1));
    }

    #[test]
    fn who_comes_directly_is_who_is_there_and_who_comes_inside_whom_was_announced() {
        let (listeners, from) = (InnerListeners::bind(&[endpoint()]), "127.0.0.1:4711".parse().unwrap());
        let client: ClientAddr = "192.0.2.7".parse().unwrap();
        let inner = Way::Inner(Arc::clone(listeners.handed()));
        assert_eq!(inner.client(from), None);
        let _announced = listeners.handed().announce(from, client, boot_now()).unwrap();
        assert_eq!(inner.client(from), Some(client));
        assert_eq!(inner.client(from), None);
        assert_eq!(Way::Direct.client(from), Some(from.ip().into()));
    }
}
