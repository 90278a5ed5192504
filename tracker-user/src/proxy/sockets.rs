//! Options of the proxy's sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};

/// A peer that says nothing is asked after this many seconds whether it is still there,
const KEEPALIVE_IDLE: u32 = 30;
/// then every so many seconds,
const KEEPALIVE_INTERVAL: u32 = 10;
/// and is given up when it has acknowledged nothing for so many milliseconds.
const USER_TIMEOUT: u32 = 60_000;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 4096;

/// No delay, and dead peers are noticed. What is accepted from a listener inherits all of it, without further calls.
pub(super) fn tune(socket: &impl AsFd) -> io::Result<()> {
    setsockopt(socket, sockopt::TcpNoDelay, &true)?;
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    setsockopt(socket, sockopt::TcpKeepIdle, &KEEPALIVE_IDLE)?;
    setsockopt(socket, sockopt::TcpKeepInterval, &KEEPALIVE_INTERVAL)?;
    setsockopt(socket, sockopt::TcpUserTimeout, &USER_TIMEOUT)?;
    Ok(())
}

/// `count` listeners on one address, among which the kernel spreads the connections. An unspecified IPv6 address takes
/// IPv4 clients too, unless the system says otherwise.
pub(super) fn group(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    // Sockets that may share a port would share it with those of another daemon too: one that may not finds out.
    let alone = listener(address, false)?;
    let address = alone.local_addr()?;
    if count == 1 {
        return Ok(vec![alone]);
    }
    drop(alone);
    (0..count).map(|_| listener(address, true)).collect()
}

fn listener(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::ReusePort, &shared)?;
    tune(&socket)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(address))?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::getsockopt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn what_is_accepted_inherits_the_listeners_options() {
        let listener = group("127.0.0.1:0".parse().unwrap(), 1).unwrap().remove(0);
        let _far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, _) = TcpListener::from_std(listener).unwrap().accept().await.unwrap();
        assert!(getsockopt(&near, sockopt::TcpNoDelay).unwrap());
        assert!(getsockopt(&near, sockopt::KeepAlive).unwrap());
        assert_eq!(getsockopt(&near, sockopt::TcpKeepIdle).unwrap(), KEEPALIVE_IDLE);
        assert_eq!(getsockopt(&near, sockopt::TcpKeepInterval).unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(getsockopt(&near, sockopt::TcpUserTimeout).unwrap(), USER_TIMEOUT);
    }

    #[test]
    fn a_group_shares_its_port_with_nobody_else() {
        let group_of = |address| super::group(address, 3);
        let ours = group_of("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = ours[0].local_addr().unwrap();
        assert!(ours.iter().all(|one| one.local_addr().unwrap() == address));
        assert_eq!(group_of(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(ours);
        assert!(group_of(address).is_ok());
    }
}
