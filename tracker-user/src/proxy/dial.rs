//! Reaching an origin: its name is resolved once, every address is checked, and one of exactly these is connected to.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _};
use std::rc::Rc;
use std::time::Duration;

use http::StatusCode;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::access::Entry;
use super::destination::{Destination, Host};
use super::exchange::{Peer, Reply, Right};
use super::guard::{self, Barred, Denied};
use super::limits::Why;
use super::options::ProxyOptions;
use super::own_pages;
use super::worker::Worker;
use crate::audit::{Ground, Refusal};
use crate::clock::{BootTime, boot_now};
use crate::net;
use crate::net::descriptors;
use crate::threads::{Busy, Size};
use crate::types::UserMessage;

/// How long the addresses of a name are believed. The system's resolver does not tell how long they are good for, so this
/// is short: it spares a question per connection where many are made at once.
const NAMES_FOR: Duration = Duration::from_secs(5);

/// How many names one core remembers.
const MAX_NAMES: usize = 4096;

/// How many addresses of a name are looked at, and tried. Each is a question to the kernel, and whoever has a zone can put some
/// thousands into one answer.
const MAX_ADDRESSES: usize = 32;

/// A name server that does not answer keeps a thread for seconds; those who ask for other names meanwhile need others.
pub(super) const RESOLVER: Size = Size { least: 4, most: 256, queue: 4096 };

/// The names that were resolved a moment ago.
#[derive(Default)]
pub(super) struct Names(RefCell<HashMap<Box<str>, Known>>);

struct Known {
    at: BootTime,
    addresses: Rc<[IpAddr]>,
}

impl Names {
    fn get(&self, name: &str) -> Option<Rc<[IpAddr]>> {
        let names = self.0.borrow();
        let known = names.get(name)?;
        (boot_now().since(known.at) < NAMES_FOR).then(|| Rc::clone(&known.addresses))
    }

    fn put(&self, name: &str, addresses: &Rc<[IpAddr]>) {
        let mut names = self.0.borrow_mut();
        if names.len() < MAX_NAMES {
            names.insert(name.into(), Known { at: boot_now(), addresses: Rc::clone(addresses) });
        }
    }

    /// Forgets what is too old.
    pub(super) fn sweep(&self) {
        let now = boot_now();
        self.0.borrow_mut().retain(|_, known| now.since(known.at) < NAMES_FOR);
    }
}

/// Why there is no connection; `Display` is for operators.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("its name cannot be resolved ({0})")]
    Name(io::Error),
    #[error("its name took too long to be resolved")]
    NameTimeout,
    #[error("its name has no address")]
    NoAddress,
    #[error("too many names wait to be resolved; try again")]
    Busy,
    #[error("this proxy has too many open connections at present; try again")]
    Short,
    #[error("this proxy does not connect to {address}: {why}")]
    Denied { address: IpAddr, why: Denied },
    #[error("the proxy cannot tell at this moment where {address} leads; try again")]
    Unknown { address: IpAddr },
    #[error("{address} cannot be reached ({error})")]
    Connect { address: SocketAddr, error: io::Error },
    #[error("{address} did not answer in time")]
    ConnectTimeout { address: SocketAddr },
    #[error("the portal took no connection")]
    OwnPages,
}

impl Failure {
    pub(super) fn reply(&self, destination: &Destination) -> Reply {
        let status = match self {
            Self::Denied { .. } => StatusCode::FORBIDDEN,
            Self::NameTimeout | Self::ConnectTimeout { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Name(_) | Self::NoAddress | Self::Connect { .. } => StatusCode::BAD_GATEWAY,
            Self::Unknown { .. } | Self::Busy | Self::Short | Self::OwnPages => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        let reply = Reply::new(status, &self.user_message(destination));
        if status == StatusCode::SERVICE_UNAVAILABLE { reply.retry() } else { reply }
    }

    /// For the person at the client: not the addresses that the name has for the gateway, nor its system's words.
    pub(super) fn user_message(&self, destination: &Destination) -> UserMessage {
        let message = UserMessage::new("").name(&destination.key).then(" is not reached: ");
        message.then(match self {
            Self::Name(_) => "its name cannot be resolved.",
            Self::NameTimeout => "its name took too long to be resolved.",
            Self::NoAddress => "its name has no address.",
            Self::Busy => "too many names wait to be resolved; try again.",
            Self::Short => "this proxy has too many open connections at present; try again.",
            Self::Denied { why, .. } => why.user_words(),
            Self::Unknown { .. } => "the proxy cannot tell at this moment where it leads; try again.",
            Self::Connect { error, .. } => match error.kind() {
                io::ErrorKind::ConnectionRefused => "it refused the connection.",
                io::ErrorKind::ConnectionReset => "it broke the connection off.",
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                    "there is no way to it."
                }
                io::ErrorKind::TimedOut => "it did not answer in time.",
                _ => "it cannot be connected to.",
            },
            Self::ConnectTimeout { .. } => "it did not answer in time.",
            Self::OwnPages => "it has too much to do at present; try again.",
        })
    }
}

/// A connection to the destination, by this right.
pub(super) async fn reach(
    peer: &Peer,
    entry: &Entry,
    destination: &Destination,
    options: &ProxyOptions,
    right: &Right,
) -> Result<TcpStream, Failure> {
    match right {
        Right::User(_) => dial(peer, entry, destination, options).await,
        Right::OwnPages { handed, way } => own_pages::dial(peer, handed, *way).await,
    }
}

/// A connection to the destination. Where none may be made, the audit trail tells whose request it was.
async fn dial(
    peer: &Peer,
    entry: &Entry,
    destination: &Destination,
    options: &ProxyOptions,
) -> Result<TcpStream, Failure> {
    let worker = peer.worker();
    let dialled = connect(worker, destination, options).await;
    if let Err(failure @ (Failure::Denied { .. } | Failure::Unknown { .. })) = &dialled {
        let stats = &worker.shared.stats;
        match failure {
            Failure::Unknown { .. } => stats.destinations_unknown.inc(),
            _ => stats.destinations_refused.inc(),
        }
        let why = format!("{}: {failure}", destination.key);
        let user = entry.user();
        worker.shared.gate.refused(&Refusal::of_request(peer.address(), Ground::Destination, user, &why));
    }
    dialled
}

async fn connect(
    worker: &Worker,
    destination: &Destination,
    options: &ProxyOptions,
) -> Result<TcpStream, Failure> {
    let addresses = resolve(worker, destination, options).await?;
    let allowed = &options.allow_destinations;
    let named = destination.host.name().is_some_and(|name| allowed.has_name(name));
    let check = |address: IpAddr| {
        if named {
            return Ok(());
        }
        let route = |address| worker.routes.of(address, destination.port);
        guard::check(address, allowed, route).map_err(|barred| match barred {
            Barred::Denied(why) => Failure::Denied { address, why },
            Barred::Unknown => Failure::Unknown { address },
            Barred::NoRoute(error) => {
                Failure::Connect { address: SocketAddr::new(address, destination.port), error }
            }
        })
    };
    // One bad address condemns the name: nobody has an honest reason to mix them.
    for &address in addresses.iter().skip(1) {
        match check(address) {
            Ok(()) | Err(Failure::Connect { .. }) => {}
            Err(failure) => return Err(failure),
        }
    }
    let mut failure = Failure::NoAddress;
    for &address in addresses.iter() {
        // The last thing before it is connected to: an attempt at another one may have taken long.
        match check(address) {
            Ok(()) => {}
            Err(no_route @ Failure::Connect { .. }) => {
                failure = no_route;
                continue;
            }
            Err(failure) => return Err(failure),
        }
        let to = SocketAddr::new(address, destination.port);
        let Ok(socket) = socket(worker, to) else {
            worker.shared.turned_away(Why::Descriptors);
            return Err(Failure::Short);
        };
        match timeout(options.connect_timeout, socket.connect(to)).await {
            // The kernel connects to its own addresses from these: one that has come in between is seen here at last.
            Ok(Ok(stream)) if !named && !allowed.has_address(address) && is_to_itself(&stream) => {
                return Err(Failure::Denied { address, why: Denied::Own });
            }
            Ok(Ok(stream)) => {
                worker.shared.stats.origins_connected.inc();
                return Ok(stream);
            }
            Ok(Err(error)) => failure = Failure::Connect { address: to, error },
            Err(_) => failure = Failure::ConnectTimeout { address: to },
        }
    }
    Err(failure)
}

/// Whether both ends of a connection have one address.
fn is_to_itself(stream: &TcpStream) -> bool {
    match (stream.local_addr(), stream.peer_addr()) {
        (Ok(here), Ok(there)) => here.ip() == there.ip(),
        // It is broken already.
        _ => false,
    }
}

async fn resolve(
    worker: &Worker,
    destination: &Destination,
    options: &ProxyOptions,
) -> Result<Rc<[IpAddr]>, Failure> {
    let name = match &destination.host {
        Host::Address(address) => return Ok([address.to_canonical()].into()),
        Host::Name(name) => name,
    };
    // Loopback by definition, whatever a resolver says or does not know of it (RFC 6761, section 6.3).
    if destination.host.name().is_some_and(|name| name == "localhost" || name.ends_with(".localhost")) {
        return Ok([IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].into());
    }
    if let Some(known) = worker.names.get(name) {
        return Ok(known);
    }
    let asked = (name.to_string(), destination.port);
    let looked_up = worker.shared.resolver.run(move || asked.to_socket_addrs().map(Vec::from_iter));
    match timeout(options.connect_timeout, looked_up.map_err(|Busy| Failure::Busy)?).await {
        Ok(Ok(Ok(addresses))) => {
            let addresses = to_try(addresses.iter().map(SocketAddr::ip));
            if addresses.is_empty() {
                return Err(Failure::NoAddress);
            }
            worker.names.put(name, &addresses);
            Ok(addresses)
        }
        Ok(Ok(Err(error))) => Err(Failure::Name(error)),
        // The resolver's thread broke off, which it never does.
        Ok(Err(_)) => Err(Failure::NoAddress),
        Err(_) => Err(Failure::NameTimeout),
    }
}

/// The addresses of a name that may be connected to: what is not among them is not.
fn to_try(addresses: impl Iterator<Item = IpAddr>) -> Rc<[IpAddr]> {
    let mut kept = Vec::new();
    for address in addresses.map(|address| address.to_canonical()) {
        if kept.len() == MAX_ADDRESSES {
            break;
        }
        if !kept.contains(&address) {
            kept.push(address);
        }
    }
    kept.into()
}

/// A socket for a connection there. Descriptors of the reserve are not for it: then idle connections are given up, and where
/// there are none it is an error.
pub(super) fn socket(worker: &Worker, address: SocketAddr) -> io::Result<TcpSocket> {
    let make = || if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = match make() {
        Ok(socket) if descriptors::in_reserve(&socket) && !worker.make_room() => {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        Err(_) if worker.make_room() => make()?,
        made => made?,
    };
    net::tune(&socket)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_name_with_thousands_of_addresses_a_few_are_tried() {
        let many = || (0..4_000_u32).map(|number| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + number / 2)));
        let mapped = many().map(|address| match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
            v6 @ IpAddr::V6(_) => v6,
        });
        let kept = to_try(many().chain(mapped));
        assert_eq!(kept.len(), MAX_ADDRESSES);
        assert!(
            (0..32_u32)
                .map(|number| IpAddr::from(Ipv4Addr::from(0x0a00_0000 + number)))
                .eq(kept.iter().copied())
        );
        assert_eq!(to_try(many().take(4)).len(), 2, "each once");
    }
}
