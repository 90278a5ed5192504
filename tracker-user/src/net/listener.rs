//! Listeners: where, what for, and whether what comes is TLS.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};
use tokio::net::TcpStream;

use super::{TlsServer, tune};

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// The explicit proxy.
    Proxy,
    /// The web pages.
    Portal,
    /// Challenges of a certificate authority; everything else is sent to the portal.
    Redirect,
    /// Metrics and health.
    Metrics,
}

/// Whether what comes is TLS.
#[derive(Clone, Debug)]
pub enum Security {
    /// It is not.
    Plain,
    /// It is, and this is the certificate that is shown.
    Tls(Arc<TlsServer>),
}

impl Security {
    /// Whether there is no TLS.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        matches!(self, Self::Plain)
    }
}

/// An address to listen on, and what for. Nothing is bound yet.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// What it is for.
    pub service: Service,
    /// Whether it speaks TLS.
    pub security: Security,
    /// The address. Port 0 is one that the kernel chooses.
    pub address: SocketAddr,
}

impl Endpoint {
    /// A listener on it.
    ///
    /// # Errors
    /// If the address is in use, not this host's, or forbidden to this process.
    pub fn bind(&self) -> io::Result<Listener> {
        self.listener(open(self.address, false)?)
    }

    /// `count` listeners on it, among which the kernel spreads the connections. Nobody else gets into the group. An
    /// unspecified IPv6 address takes IPv4 clients too, unless the system says otherwise.
    ///
    /// # Errors
    /// Those of [`Self::bind`].
    pub fn bind_group(&self, count: usize) -> io::Result<Vec<Listener>> {
        // Sockets that may share a port would share it with those of another daemon too: one that may not finds out.
        let alone = self.bind()?;
        if count == 1 {
            return Ok(vec![alone]);
        }
        let address = alone.address;
        drop(alone);
        (0..count).map(|_| self.listener(open(address, true)?)).collect()
    }

    fn listener(&self, socket: TcpListener) -> io::Result<Listener> {
        let address = socket.local_addr()?;
        Ok(Listener { socket, service: self.service, security: self.security.clone(), address })
    }
}

/// A listening socket that knows what it is for.
#[derive(Debug)]
pub struct Listener<S = TcpListener> {
    socket: S,
    service: Service,
    security: Security,
    address: SocketAddr,
}

impl<S> Listener<S> {
    /// What it is for.
    #[must_use]
    pub const fn service(&self) -> Service {
        self.service
    }

    /// Whether what it accepts is TLS.
    #[must_use]
    pub const fn security(&self) -> &Security {
        &self.security
    }

    /// The address that it is bound to; its port is never 0.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Listener {
    /// The same listener, driven by the runtime that this is called on.
    ///
    /// # Errors
    /// If the runtime cannot watch the socket.
    pub fn register(self) -> io::Result<Listener<tokio::net::TcpListener>> {
        let Self { socket, service, security, address } = self;
        let socket = tokio::net::TcpListener::from_std(socket)?;
        Ok(Listener { socket, service, security, address })
    }
}

impl Listener<tokio::net::TcpListener> {
    /// The next connection, and its client's end. Whoever drops this before it is ready has lost none.
    ///
    /// # Errors
    /// Of the connection (it is gone again), or of this process (it has no descriptor left).
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.socket.accept().await
    }
}

fn open(address: SocketAddr, is_shared: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::ReusePort, &is_shared)?;
    tune(&socket)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::getsockopt;

    use super::*;
    use crate::net::socket_options::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, USER_TIMEOUT};

    fn endpoint(address: SocketAddr) -> Endpoint {
        Endpoint { service: Service::Proxy, security: Security::Plain, address }
    }

    #[tokio::test]
    async fn what_is_accepted_inherits_the_listeners_options() {
        let listener = endpoint("127.0.0.1:0".parse().unwrap()).bind().unwrap().register().unwrap();
        assert!(listener.service() == Service::Proxy && listener.security().is_plain());
        let _far = TcpStream::connect(listener.address()).await.unwrap();
        let (near, _) = listener.accept().await.unwrap();
        assert!(getsockopt(&near, sockopt::TcpNoDelay).unwrap());
        assert!(getsockopt(&near, sockopt::KeepAlive).unwrap());
        assert_eq!(getsockopt(&near, sockopt::TcpKeepIdle).unwrap(), KEEPALIVE_IDLE);
        assert_eq!(getsockopt(&near, sockopt::TcpKeepInterval).unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(getsockopt(&near, sockopt::TcpUserTimeout).unwrap(), USER_TIMEOUT);
    }

    #[test]
    fn a_group_shares_its_port_with_nobody_else() {
        let group = |address| endpoint(address).bind_group(3);
        let ours = group("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = ours[0].address();
        assert!(ours.iter().all(|one| one.address() == address));
        assert_eq!(group(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(ours);
        assert!(group(address).is_ok());
    }
}
