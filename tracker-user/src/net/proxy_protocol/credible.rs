//! Who calls: the client of a connection, told by the kernel or by a balancer that is trusted.

use std::net::{IpAddr, SocketAddr};

use super::Refused;
use crate::types::ClientAddr;

/// The client of a connection that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The client.
    pub client: ClientAddr,
    /// The client's end.
    pub peer: SocketAddr,
    /// The balancer that the connection came through, which said who the client is.
    pub via: Option<SocketAddr>,
}

impl Caller {
    /// The far end is the client. `None` for a link-local address without a link: it may be another host's.
    #[must_use]
    pub fn direct(peer: SocketAddr) -> Option<Self> {
        Some(Self { client: ClientAddr::from_peer(peer)?, peer, via: None })
    }

    /// A balancer at `via` says that the client is at `source`. An IPv4 address within IPv6 is that IPv4 address.
    ///
    /// # Errors
    /// When no client can be there.
    pub fn relayed(source: SocketAddr, via: SocketAddr) -> Result<Self, Refused> {
        let ip = source.ip().to_canonical();
        let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        if ip.is_unspecified() || ip.is_multicast() || broadcast {
            return Err(Refused::Address("its address is no host's"));
        }
        if ip.is_loopback() {
            return Err(Refused::Address("its address is a loopback address, which every host has"));
        }
        if source.port() == 0 {
            return Err(Refused::Address("its port is 0"));
        }
        let peer = SocketAddr::new(ip, source.port());
        let client = ClientAddr::from_peer(peer);
        let client =
            client.ok_or(Refused::Address("its address is link-local, and nobody says of which link"))?;
        Ok(Self { client, peer, via: Some(via) })
    }
}
