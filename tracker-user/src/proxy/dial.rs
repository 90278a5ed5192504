//! Reaching an origin: its name is resolved once, every address is checked, and one of exactly these is connected to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hyper::StatusCode;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::destination::{Destination, Host};
use super::guard::Denied;
use super::options::ProxyOptions;
use super::pages::Page;
use super::{Shared, sockets};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("its name cannot be resolved ({0})")]
    Name(io::Error),
    #[error("its name took too long to be resolved")]
    NameTimeout,
    #[error("its name has no address")]
    NoAddress,
    #[error("this proxy does not connect to {address}: {why}")]
    Denied { address: IpAddr, why: Denied },
    #[error("{address} cannot be reached ({error})")]
    Connect { address: SocketAddr, error: io::Error },
    #[error("{address} did not answer in time")]
    ConnectTimeout { address: SocketAddr },
}

impl Failure {
    pub(super) fn page(&self, destination: &Destination) -> Page {
        let status = match self {
            Self::Denied { .. } => StatusCode::FORBIDDEN,
            Self::NameTimeout | Self::ConnectTimeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Name(_) | Self::NoAddress | Self::Connect { .. } => StatusCode::BAD_GATEWAY,
        };
        Page::new(status, format!("{} is not reached: {self}.", destination.key))
    }
}

/// A connection to the destination.
pub(super) async fn dial(
    shared: &Shared,
    destination: &Destination,
    options: &ProxyOptions,
) -> Result<TcpStream, Failure> {
    let addresses = resolve(destination, options).await?;
    let allowed = &options.allow_destinations;
    if !destination.host.name().is_some_and(|name| allowed.has_name(name)) {
        // One bad address condemns the name: nobody has an honest reason to mix them.
        for address in &addresses {
            if let Err(why) = shared.guard.check(address.ip(), allowed) {
                shared.stats.destinations_refused.inc();
                return Err(Failure::Denied { address: address.ip(), why });
            }
        }
    }
    let mut failure = Failure::NoAddress;
    for address in addresses {
        match timeout(options.connect_timeout, connect(address)).await {
            Ok(Ok(stream)) => {
                shared.stats.origins_connected.inc();
                return Ok(stream);
            }
            Ok(Err(error)) => failure = Failure::Connect { address, error },
            Err(_) => failure = Failure::ConnectTimeout { address },
        }
    }
    Err(failure)
}

async fn resolve(destination: &Destination, options: &ProxyOptions) -> Result<Vec<SocketAddr>, Failure> {
    let name = match &destination.host {
        Host::Address(address) => return Ok(vec![SocketAddr::new(*address, destination.port)]),
        Host::Name(name) => name,
    };
    // Loopback by definition, whatever a resolver says or does not know of it (RFC 6761, section 6.3).
    if destination.host.name().is_some_and(|name| name == "localhost" || name.ends_with(".localhost")) {
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
        return Ok(loopback.map(|address| SocketAddr::new(address, destination.port)).to_vec());
    }
    match timeout(options.connect_timeout, tokio::net::lookup_host((&**name, destination.port))).await {
        Ok(Ok(addresses)) => {
            let addresses: Vec<_> = addresses.collect();
            if addresses.is_empty() { Err(Failure::NoAddress) } else { Ok(addresses) }
        }
        Ok(Err(error)) => Err(Failure::Name(error)),
        Err(_) => Err(Failure::NameTimeout),
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    sockets::tune(&socket)?;
    socket.connect(address).await
}
