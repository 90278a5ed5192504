//! The stream of a client's connection: counts the payload that it moves, whatever the transport.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::Connection;
use super::registry::Membership;
use super::splice::{ByteStream, Spliceable};
use super::tls::{Accept, ChannelBinding, ChannelBindingType, HandshakeError, PROXY_HINT, TlsServer};
use super::transport::Transport;

/// The stream of a client's connection. It counts what moves, and takes itself out of the registry before its descriptor
/// closes.
///
/// What is counted is payload: what the proxy reads and writes. Under TLS the kernel side counts more bytes for the same
/// connection, since it sees the TCP stream: handshake, record headers, and what else the protocol says for itself. What is
/// traffic there it is told from here.
pub struct ClientStream {
    /// The first field, and so the first to be dropped.
    membership: Membership,
    transport: Transport,
}

impl fmt::Debug for ClientStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientStream").field(&self.connection().id()).finish()
    }
}

impl ClientStream {
    /// A connection as it was accepted.
    pub(super) const fn plain(membership: Membership, socket: TcpStream) -> Self {
        Self { membership, transport: Transport::Plain(socket) }
    }

    /// The connection.
    #[must_use]
    pub const fn connection(&self) -> &Arc<Connection> {
        self.membership.connection()
    }

    /// Whether it is under TLS.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        matches!(self.transport, Transport::Tls(_))
    }

    /// What names the channel to both of its ends; `None` without TLS, or where there is none of that type.
    #[must_use]
    pub fn channel_binding(&self, kind: ChannelBindingType) -> Option<ChannelBinding> {
        self.transport.channel_binding(kind)
    }

    /// Whether nobody on the network can read what the client sends: under TLS, or where both ends are on this host. Whoever is said
    /// to be on loopback by something that relays from elsewhere is not. Costs a system call where it may be the latter.
    #[must_use]
    pub fn is_private(&self) -> bool {
        match &self.transport {
            Transport::Plain(socket) => {
                let is_near = |far: SocketAddr| far.ip().to_canonical().is_loopback();
                let client = self.connection().client().ip();
                client.to_canonical().is_loopback() && socket.peer_addr().is_ok_and(is_near)
            }
            Transport::Tls(_) => true,
        }
    }

    /// Whether a TLS handshake was had that went on from an earlier one.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        match &self.transport {
            Transport::Plain(_) => false,
            Transport::Tls(tls) => tls.is_resumed(),
        }
    }

    /// How many bytes have come that are no payload yet, and wait in memory for the rest of their record.
    #[must_use]
    pub fn held(&self) -> usize {
        self.transport.held()
    }

    /// Tells the client that nothing more will come and that this was all, where closing the socket does not say so: under
    /// TLS, an end without it is taken for one that somebody else has made. It may have to wait until the client reads.
    ///
    /// # Errors
    /// If the connection is broken.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(_) => Poll::Ready(Ok(())),
            tls @ Transport::Tls(_) => Pin::new(tls).poll_shutdown(cx),
        }
    }

    /// Waits until something has come, without taking it.
    #[cfg(test)]
    pub(super) async fn readable(&self) {
        self.transport.socket().readable().await.unwrap();
    }

    /// Begins a TLS handshake on a connection that was accepted just now and has been plain so far.
    ///
    /// # Errors
    /// The stream comes back if there is TLS on it already.
    pub fn secure(self, server: &TlsServer) -> Result<Handshake, Self> {
        let Self { membership, transport } = self;
        match transport {
            Transport::Plain(socket) => {
                membership.is_under_tls();
                Ok(Handshake { membership: Some(membership), accept: server.accept(socket, PROXY_HINT) })
            }
            transport @ Transport::Tls(_) => Err(Self { membership, transport }),
        }
    }
}

/// A TLS handshake on a connection that is in the registry already: it counts as one, and can be ended from outside.
pub struct Handshake {
    /// The first field, and so the first to be dropped.
    membership: Option<Membership>,
    accept: Accept,
}

impl Handshake {
    /// The connection; `None` when the handshake is over.
    #[must_use]
    pub fn connection(&self) -> Option<&Arc<Connection>> {
        self.membership.as_ref().map(Membership::connection)
    }

    /// How many bytes have come of a message that is not whole yet, and wait in memory for the rest.
    #[must_use]
    pub fn held(&self) -> usize {
        self.accept.held()
    }

    /// Whether the client has said anything.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.accept.has_begun()
    }
}

impl Future for Handshake {
    type Output = Result<ClientStream, HandshakeError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let done = ready!(Pin::new(&mut self.accept).poll(cx));
        let Some(membership) = self.membership.take() else {
            return Poll::Ready(Err(HandshakeError::Left(io::Error::other("the handshake was over"))));
        };
        Poll::Ready(match done {
            Ok(tls) => Ok(ClientStream { membership, transport: Transport::Tls(Box::new(tls)) }),
            Err((error, socket)) => {
                drop(ClientStream::plain(membership, socket));
                Err(error)
            }
        })
    }
}

impl ByteStream for ClientStream {
    fn spliceable(&self) -> Option<Spliceable<'_>> {
        match &self.transport {
            Transport::Plain(socket) => Some(Spliceable::of_client(socket, &self.membership)),
            Transport::Tls(_) => None,
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (before, room) = (buf.filled().len(), buf.remaining());
        let result = Pin::new(&mut self.transport).poll_read(cx, buf);
        if matches!(result, Poll::Ready(Ok(()))) && room > 0 {
            self.membership.received(buf.filled().len().saturating_sub(before));
        }
        result
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.transport).poll_write(cx, buf);
        self.membership.sent(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.transport).poll_write_vectored(cx, bufs);
        self.membership.sent(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use std::io::Write as _;
    use std::os::fd::BorrowedFd;
    use std::sync::Mutex;

    use tracker_ebpf::abi::{Settings, TRAFFIC_CLIENT};

    use super::*;
    use crate::clock::{BootTime, boot_now};
    use crate::net::testing::{accepted, connect, secured, server};
    use crate::net::{Connections, Payload, Seen, Watcher};
    use crate::types::{ClientAddr, SessionId};

    fn registry() -> Arc<Connections> {
        Arc::new(Connections::new(None))
    }

    #[tokio::test]
    async fn under_tls_the_payload_is_counted_and_nothing_is_spliced() {
        let registry = registry();
        let (mut near, mut far) = secured(&registry).await;
        assert!(near.spliceable().is_none());
        assert_eq!(near.connection().bytes(), (0, 0), "the handshake is no payload");
        let large = vec![7; 100_000];
        let mut received = vec![0; 100_000];
        let (sent, ()) = tokio::join!(
            async {
                far.write_all(&large).await?;
                far.shutdown().await
            },
            async {
                near.read_exact(&mut received).await.unwrap();
                assert_eq!(near.read(&mut [0; 1]).await.unwrap(), 0, "the client's end");
                near.write_all(b"late").await.unwrap();
                near.flush().await.unwrap();
            }
        );
        sent.unwrap();
        assert!(received == large);
        far.read_exact(&mut [0; 4]).await.unwrap();
        assert_eq!(near.connection().bytes(), (100_000, 4));
        assert!(near.connection().has_ended() && !near.connection().is_gone());
        drop(near);
        assert!(registry.is_empty());
    }

    #[tokio::test]
    async fn what_has_come_of_a_record_is_known_until_the_rest_is_there() {
        let registry = registry();
        let (mut near, mut far) = secured(&registry).await;
        let mut record = Vec::new();
        let (socket, tls) = far.get_mut();
        tls.writer().write_all(&[7; 16_000]).unwrap();
        tls.write_tls(&mut record).unwrap();
        let (last, rest) = record.split_last().unwrap();
        socket.write_all(rest).await.unwrap();
        let mut received = vec![0; 16_000];
        let read = timeout(Duration::from_millis(50), near.read_exact(&mut received)).await;
        assert!(read.is_err() && near.held() >= rest.len(), "{}", near.held());
        assert_eq!(near.connection().bytes(), (0, 0));
        socket.write_all(&[*last]).await.unwrap();
        near.read_exact(&mut received).await.unwrap();
        assert_eq!((near.held(), near.connection().bytes()), (0, (16_000, 0)));
    }

    /// When payload moved, as is told to the kernel side.
    #[derive(Clone, Debug, Default)]
    struct Told(Arc<Mutex<Vec<BootTime>>>);

    impl Watcher for Told {
        fn look(&self, _: BorrowedFd<'_>) -> Seen {
            Seen::Open
        }

        fn payload(&self, _: ClientAddr) -> Option<Box<dyn Payload>> {
            Some(Box::new(self.clone()))
        }
    }

    impl Payload for Told {
        fn moved(&self, at: BootTime) {
            self.0.lock().unwrap().push(at);
        }
    }

    #[tokio::test]
    async fn under_tls_it_is_told_when_payload_moves_and_of_nothing_else() {
        let told = Told::default();
        let count = || told.0.lock().unwrap().len();
        let registry = Arc::new(Connections::new(None).watched_by(Arc::new(told.clone())));
        let (mut near, mut far) = accepted(&registry).await;
        far.write_all(b"plain").await.unwrap();
        near.read_exact(&mut [0; 5]).await.unwrap();
        assert_eq!(count(), 0, "the kernel side sees that by itself");

        let (mut near, mut far) = secured(&registry).await;
        let (client, id) = (near.connection().client(), near.connection().id());
        let begun = registry.watch(client, id, boot_now()).unwrap();
        far.get_mut().1.refresh_traffic_keys().unwrap();
        far.flush().await.unwrap();
        assert!(timeout(Duration::from_millis(20), near.read(&mut [0; 1])).await.is_err(), "no payload");
        assert_eq!(count(), 0, "nor the handshake, nor new keys");
        assert_eq!(registry.evidence(client, id), Some(begun), "the same where it has a record of its own");

        let before = boot_now();
        far.write_all(b"request").await.unwrap();
        near.read_exact(&mut [0; 7]).await.unwrap();
        assert_eq!(count(), 1);
        near.write_all(b"answer").await.unwrap();
        assert_eq!(count(), 2);
        assert!(told.0.lock().unwrap().iter().all(|at| *at >= before && *at <= boot_now()));
        assert_eq!(registry.evidence(client, id).unwrap().traffic_at.map(|at| at >= before), Some(true));

        registry.apply(Settings { direction: TRAFFIC_CLIENT, ..Settings::default() });
        near.write_all(b"more").await.unwrap();
        assert_eq!(count(), 2, "that does not count any more");
        far.write_all(b"!").await.unwrap();
        near.read_exact(&mut [0; 1]).await.unwrap();
        assert_eq!(count(), 3);
    }

    #[tokio::test]
    async fn an_accepted_connection_can_be_spliced_and_is_secured_once() {
        let registry = registry();
        let (near, far) = accepted(&registry).await;
        assert!(near.spliceable().is_some());
        let (server, certificate) = server();
        let handshake = near.secure(&server).unwrap();
        assert_eq!(registry.len(), 1, "it is in the registry all the time");
        let (near, _far) = tokio::join!(handshake, connect(far, &certificate));
        let near = near.unwrap().secure(&server).err().unwrap();
        assert!(near.spliceable().is_none());
        assert_eq!(registry.len(), 1);
    }

    /// What the kernel had buffered for the previous user must not arrive after the kick-out: ciphertext neither.
    #[tokio::test]
    async fn under_tls_no_byte_moves_after_destroy() {
        let registry = registry();
        let (mut near, mut far) = secured(&registry).await;
        near.connection().bind(SessionId::test(1));
        let chunk = vec![1_u8; 1 << 16];
        let mut sent = 0;
        while let Ok(result) = timeout(Duration::from_millis(50), near.write(&chunk)).await {
            sent += result.unwrap();
        }
        assert_eq!(registry.destroy(near.connection().client(), SessionId::test(1), None), 1);
        assert!(near.connection().is_gone());
        assert!(near.write_all(&chunk).await.is_err() && near.read(&mut [0; 1]).await.is_err());
        let mut received = 0;
        let mut buffer = vec![0; 1 << 16];
        while let Ok(bytes) = far.read(&mut buffer).await {
            assert!(bytes > 0, "it ended with a reset, not with a clean end");
            received += bytes;
        }
        assert!(received < sent, "{received} of {sent} bytes arrived");
    }

    #[tokio::test]
    async fn a_handshake_can_fail_be_ended_or_be_dropped_and_leaves_nothing() {
        let registry = registry();
        let (server, _) = server();
        let (near, mut far) = accepted(&registry).await;
        far.write_all(b"GET http://a.test/ HTTP/1.1\r\n\r\n").await.unwrap();
        assert!(near.secure(&server).unwrap().await.is_err(), "that is no TLS");
        assert!(registry.is_empty());

        let (near, mut far) = accepted(&registry).await;
        let mut handshake = near.secure(&server).unwrap();
        assert!(timeout(Duration::from_millis(10), &mut handshake).await.is_err(), "nothing has come");
        assert_eq!(registry.end_all(), 1);
        assert!(handshake.await.is_err() && registry.is_empty());
        assert!(far.read(&mut [0; 1]).await.is_err(), "a reset");

        let (near, mut far) = accepted(&registry).await;
        drop(near.secure(&server).unwrap());
        assert!(registry.is_empty());
        assert_eq!(far.read(&mut [0; 1]).await.unwrap(), 0);
    }

    /// Whoever finds a descriptor in the registry may use it: it is still the connection's, whatever ends meanwhile.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn handshakes_that_are_ended_and_dropped_at_once_touch_nobody_elses_descriptor() {
        let registry = registry();
        let (server, _) = server();
        let server = Arc::new(server);
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (others, stopped) = (Arc::clone(&registry), Arc::clone(&stop));
        let ending = std::thread::spawn(move || {
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                others.end_all();
            }
        });
        // Sockets that are nobody's business; they get the numbers that have just become free.
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let (registry, server) = (Arc::clone(&registry), Arc::clone(&server));
                tokio::spawn(async move {
                    for _ in 0..50 {
                        let (near, _far) = accepted(&registry).await;
                        let Ok(handshake) = near.secure(&server) else { continue };
                        drop(handshake);
                        let (mut one, mut two) = tokio::net::UnixStream::pair().unwrap();
                        one.write_all(b"x").await.unwrap();
                        two.read_exact(&mut [0; 1]).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        ending.join().unwrap();
        assert!(registry.is_empty());
    }
}
