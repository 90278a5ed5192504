//! A handshake: the client's first message, the certificate that is chosen by it, and the rest.

use std::io::{self, Read};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::Error;
use rustls::server::{Accepted, Acceptor};
use tokio::net::TcpStream;
use tokio_rustls::{FallibleAccept, StartHandshake};

use super::{Counted, Held, Shown, TlsTransport, choose};

/// The type of the record that a handshake begins with (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 22;

/// What somebody is told who speaks plain HTTP here.
pub(in crate::net) const PROXY_HINT: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Cache-Control: no-store\r\nConnection: close\r\nContent-Length: 96\r\n\r\n\
    This port of the proxy speaks TLS. Name the proxy as https://NAME:PORT, or HTTPS in a PAC file.\n";

/// The same of the web pages.
pub(in crate::net) const PAGES_HINT: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\nContent-Length: 79\r\n\r\n\
    These pages are under TLS: write https:// in front of the address, not http://\n";

/// Why a handshake came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client left before it said anything: browsers open connections that they do not need in the end.
    #[error("the client left before it said anything")]
    Unused,
    /// It came without TLS; where that was HTTP, it was told so.
    #[error("what came is no TLS")]
    Plain,
    /// There is no version, suite or signature that both sides can use.
    #[error("nothing in common with the client: {0}")]
    Incompatible(Error),
    /// The client will not go on: most often it does not trust the certificate.
    #[error("the client refuses: {0}")]
    Refused(Error),
    /// What came breaks the protocol.
    #[error("what came breaks the protocol: {0}")]
    Broken(Error),
    /// The client left in the middle, or the connection broke.
    #[error("the client left in the middle: {0}")]
    Left(io::Error),
}

impl HandshakeError {
    fn from_io(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(of_tls) => of_tls.clone().into(),
            None => Self::Left(error),
        }
    }

    /// Whether it speaks against its client: what came was no handshake, or was left undone after the gateway had worked for
    /// it. A connection that was not needed does not, nor does a client that cannot come to terms with the gateway.
    #[must_use]
    pub const fn is_offence(&self) -> bool {
        match self {
            Self::Plain | Self::Broken(_) | Self::Left(_) => true,
            Self::Unused | Self::Incompatible(_) | Self::Refused(_) => false,
        }
    }
}

impl From<Error> for HandshakeError {
    fn from(error: Error) -> Self {
        match error {
            Error::AlertReceived(_) => Self::Refused(error),
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Self::Incompatible(error),
            error => Self::Broken(error),
        }
    }
}

/// A handshake under way. Where it fails the socket comes back, so that it can be closed when the registry no longer
/// knows its descriptor.
pub(in crate::net) struct Accept {
    step: Step,
    shown: Arc<Vec<Arc<Shown>>>,
    held: Held,
}

enum Step {
    /// The first message is waited for.
    Hello(Hello),
    /// The certificate is chosen.
    Rest { accept: FallibleAccept<Counted>, chosen: Arc<Shown> },
    /// It is over.
    Over,
}

struct Hello {
    acceptor: Acceptor,
    socket: TcpStream,
    /// The very first byte tells what is spoken.
    first: Option<u8>,
    /// The answer to plain HTTP.
    hint: &'static [u8],
}

impl Accept {
    pub(super) fn new(socket: TcpStream, shown: Arc<Vec<Arc<Shown>>>, hint: &'static [u8]) -> Self {
        let hello = Hello { acceptor: Acceptor::default(), socket, first: None, hint };
        Self { step: Step::Hello(hello), shown, held: Held::default() }
    }

    /// How many bytes have come of a message that is not whole yet.
    pub(in crate::net) fn held(&self) -> usize {
        self.held.bytes()
    }

    /// Whether the client has said anything.
    pub(in crate::net) fn has_begun(&self) -> bool {
        !matches!(self.step, Step::Hello(Hello { first: None, .. }))
    }
}

impl Future for Accept {
    type Output = Result<TlsTransport, (HandshakeError, TcpStream)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Step::Hello(hello) = &mut this.step {
            let heard = ready!(hello.poll(cx, &this.held));
            let Step::Hello(Hello { socket, .. }) = mem::replace(&mut this.step, Step::Over) else {
                return Poll::Pending;
            };
            let accepted = match heard {
                Ok(accepted) => accepted,
                Err(error) => return Poll::Ready(Err((error, socket))),
            };
            let Some(chosen) = choose(&this.shown, &accepted.client_hello()).map(Arc::clone) else {
                // There is always one.
                let error = HandshakeError::Broken(Error::NoCertificatesPresented);
                return Poll::Ready(Err((error, socket)));
            };
            this.held.clear();
            let counted = Counted { socket, held: this.held.clone() };
            let rest = StartHandshake::from_parts(accepted, counted).into_stream(Arc::clone(&chosen.config));
            this.step = Step::Rest { accept: rest.into_fallible(), chosen };
        }
        let Step::Rest { accept, chosen } = &mut this.step else { return Poll::Pending };
        let done = ready!(Pin::new(accept).poll(cx));
        let (held, end_point) = (this.held.clone(), chosen.end_point.clone());
        held.clear();
        this.step = Step::Over;
        Poll::Ready(match done {
            Ok(stream) => Ok(TlsTransport { stream, held, end_point }),
            Err((error, counted)) => Err((HandshakeError::from_io(error), counted.socket)),
        })
    }
}

impl Hello {
    fn poll(&mut self, cx: &mut Context<'_>, held: &Held) -> Poll<Result<Accepted, HandshakeError>> {
        loop {
            if let Err(error) = ready!(self.socket.poll_read_ready(cx)) {
                return Poll::Ready(Err(HandshakeError::Left(error)));
            }
            let mut tap = Tap { socket: &self.socket, first: &mut self.first };
            match self.acceptor.read_tls(&mut tap) {
                Ok(0) if self.first.is_none() => return Poll::Ready(Err(HandshakeError::Unused)),
                Ok(0) => {
                    return Poll::Ready(Err(HandshakeError::Left(io::ErrorKind::UnexpectedEof.into())));
                }
                Ok(count) => held.more(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) if self.first.is_none() => {
                    // A reset before the first byte is one more way not to need a connection.
                    let is_reset = error.kind() == io::ErrorKind::ConnectionReset;
                    let error = if is_reset { HandshakeError::Unused } else { HandshakeError::Left(error) };
                    return Poll::Ready(Err(error));
                }
                Err(error) => return Poll::Ready(Err(HandshakeError::Left(error))),
            }
            if let Some(first) = self.first.filter(|first| *first != HANDSHAKE) {
                self.refuse_plain(first);
                return Poll::Ready(Err(HandshakeError::Plain));
            }
            match self.acceptor.accept() {
                Ok(Some(accepted)) => return Poll::Ready(Ok(accepted)),
                Ok(None) => {}
                Err((error, mut alert)) => {
                    let mut bytes = Vec::new();
                    // One try: nobody waits for whoever cannot read.
                    if alert.write_all(&mut bytes).is_ok() {
                        let _ = self.socket.try_write(&bytes);
                    }
                    return Poll::Ready(Err(error.into()));
                }
            }
        }
    }

    /// One try to say why; what no browser or tool would read is not sent.
    fn refuse_plain(&self, first: u8) {
        if first.is_ascii_uppercase() {
            // What is left unread would have the kernel reset the connection, and the page with it.
            let _ = self.socket.try_read(&mut [0; 4096]);
            let _ = self.socket.try_write(self.hint);
        }
    }
}

/// Reads from the socket, and takes note of the first byte.
struct Tap<'a> {
    socket: &'a TcpStream,
    first: &'a mut Option<u8>,
}

impl Read for Tap<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.socket.try_read(buffer)?;
        if self.first.is_none() {
            *self.first = buffer.get(..count).and_then(|read| read.first().copied());
        }
        Ok(count)
    }
}
