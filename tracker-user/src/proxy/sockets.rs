//! Options of the proxy's sockets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket};

/// A peer that says nothing is asked after this many seconds whether it is still there,
const KEEPALIVE_IDLE: u32 = 30;
/// then every so many seconds,
const KEEPALIVE_INTERVAL: u32 = 10;
/// and is given up when it has acknowledged nothing for so many milliseconds.
const USER_TIMEOUT: u32 = 60_000;

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 4096;

/// No delay, and dead peers are noticed. What is accepted from a listener inherits all of it, without further calls.
pub(super) fn tune(socket: &impl AsFd) -> io::Result<()> {
    setsockopt(socket, sockopt::TcpNoDelay, &true)?;
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    setsockopt(socket, sockopt::TcpKeepIdle, &KEEPALIVE_IDLE)?;
    setsockopt(socket, sockopt::TcpKeepInterval, &KEEPALIVE_INTERVAL)?;
    setsockopt(socket, sockopt::TcpUserTimeout, &USER_TIMEOUT)?;
    Ok(())
}

/// A listener. An unspecified IPv6 address takes IPv4 clients too, unless the system says otherwise.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    tune(&socket)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::getsockopt;
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn what_is_accepted_inherits_the_listeners_options() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let _far = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (near, _) = listener.accept().await.unwrap();
        assert!(getsockopt(&near, sockopt::TcpNoDelay).unwrap());
        assert!(getsockopt(&near, sockopt::KeepAlive).unwrap());
        assert_eq!(getsockopt(&near, sockopt::TcpKeepIdle).unwrap(), KEEPALIVE_IDLE);
        assert_eq!(getsockopt(&near, sockopt::TcpKeepInterval).unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(getsockopt(&near, sockopt::TcpUserTimeout).unwrap(), USER_TIMEOUT);
    }
}
