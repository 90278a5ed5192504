//! The gateway as a TLS server: its certificates, the handshake, and what names the channel afterwards.
//!
//! Each certificate has a configuration of its own, with its own keys for tickets and its own sessions: what was begun under
//! one is never resumed under another, so that a connection's certificate is always the one that its client has seen. Which
//! one a client gets is decided when its first message (ClientHello) is there.

mod accept;
mod binding;
mod held;
#[cfg(test)]
mod tests;

use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{Ticketer, default_provider};
use rustls::server::{ClientHello, ServerSessionMemoryCache};
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ProtocolVersion, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

pub use self::accept::HandshakeError;
pub(super) use self::accept::{Accept, PAGES_HINT, PROXY_HINT};
pub use self::binding::{ChannelBinding, ChannelBindingType};
use self::held::{Counted, Held};
use super::certificates::Certificate;

/// What the proxy speaks under TLS, as ALPN names it (RFC 7301), the most wanted first. HTTP/2 belongs before it.
const ALPN: &[&[u8]] = &[b"http/1.1"];

/// So many sessions of clients that take no tickets are remembered, of each certificate.
const SESSIONS: usize = 4_096;

/// The cryptography: *ring*'s, with its suites of TLS 1.3 and those of TLS 1.2 with forward secrecy and AEAD. They are Mozilla's
/// intermediate profile without finite-field Diffie-Hellman; as there, the client's order counts, since all are good.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(default_provider()));

/// A TLS server with one certificate or several, which can be exchanged: handshakes that begin afterwards go by the new
/// ones, connections that are there are not touched.
#[derive(Debug)]
pub struct TlsServer {
    shown: ArcSwap<Vec<Arc<Shown>>>,
}

/// A certificate, ready for handshakes.
#[derive(Debug)]
struct Shown {
    certificate: Certificate,
    config: Arc<ServerConfig>,
    /// The `tls-server-end-point` binding of every connection that this certificate is shown on.
    end_point: Option<ChannelBinding>,
}

impl TlsServer {
    /// A server with these certificates. The first is for clients that name no host, or another one.
    ///
    /// # Errors
    /// If there is none, or the system gives no random numbers.
    pub fn new(certificates: &[Certificate]) -> Result<Self, rustls::Error> {
        Ok(Self { shown: ArcSwap::from_pointee(ready(certificates, &[])?) })
    }

    /// Shows these from now on. One that was shown already goes on, with its sessions.
    ///
    /// # Errors
    /// Those of [`Self::new`]; then nothing has changed.
    pub fn show(&self, certificates: &[Certificate]) -> Result<(), rustls::Error> {
        let shown = ready(certificates, &self.shown.load())?;
        self.shown.store(Arc::new(shown));
        Ok(())
    }

    /// Begins a handshake on an accepted connection; `hint` answers whoever speaks plain HTTP.
    pub(super) fn accept(&self, socket: TcpStream, hint: &'static [u8]) -> Accept {
        Accept::new(socket, self.shown.load_full(), hint)
    }
}

fn ready(certificates: &[Certificate], known: &[Arc<Shown>]) -> Result<Vec<Arc<Shown>>, rustls::Error> {
    if certificates.is_empty() {
        return Err(rustls::Error::NoCertificatesPresented);
    }
    let ready = certificates.iter().map(|certificate| {
        let known = known.iter().find(|shown| shown.certificate == *certificate);
        known.map_or_else(|| Shown::new(certificate.clone()).map(Arc::new), |shown| Ok(Arc::clone(shown)))
    });
    ready.collect()
}

impl Shown {
    fn new(certificate: Certificate) -> Result<Self, rustls::Error> {
        let end_point = certificate.chain().first().and_then(|own| binding::end_point(own));
        let resolver = SingleCertAndKey::from(Arc::clone(certificate.certified()));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = ALPN.iter().map(|protocol| protocol.to_vec()).collect();
        // Its keys are changed every six hours, and good for twelve. Early data (0-RTT), which could be replayed, is not
        // taken: rustls takes none unless it is asked to.
        config.ticketer = Ticketer::new()?;
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        Ok(Self { certificate, config: Arc::new(config), end_point })
    }

    /// Whether a client that takes these signatures can use it.
    fn suits(&self, hello: &ClientHello<'_>) -> bool {
        self.certificate.certified().key.choose_scheme(hello.signature_schemes()).is_some()
    }
}

/// The certificate for a client: the first that is for the host that it names (SNI) and that it can use, else the first for
/// that host, else the first of all.
fn choose<'a>(all: &'a [Arc<Shown>], hello: &ClientHello<'_>) -> Option<&'a Arc<Shown>> {
    if let (Some(name), [_, _, ..]) = (hello.server_name(), all) {
        let named = || all.iter().filter(|shown| shown.certificate.facts().is_for(name));
        if let Some(found) = named().find(|shown| shown.suits(hello)).or_else(|| named().next()) {
            return Some(found);
        }
    }
    all.first()
}

/// A connection after its handshake.
pub(super) struct TlsTransport {
    pub(super) stream: TlsStream<Counted>,
    held: Held,
    end_point: Option<ChannelBinding>,
}

impl TlsTransport {
    #[cfg(test)]
    pub(super) fn socket(&self) -> &TcpStream {
        &self.stream.get_ref().0.socket
    }

    /// How many bytes have come of a record that is not whole yet.
    pub(super) fn held(&self) -> usize {
        self.held.bytes()
    }

    /// Payload has come, or the end.
    pub(super) fn has_come(&self) {
        self.held.clear();
    }

    /// Whether it goes on from an earlier handshake of the same client.
    pub(super) fn is_resumed(&self) -> bool {
        self.stream.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    pub(super) fn channel_binding(&self, kind: ChannelBindingType) -> Option<ChannelBinding> {
        match kind {
            ChannelBindingType::TlsServerEndPoint => self.end_point.clone(),
            ChannelBindingType::TlsExporter => self.exporter(),
        }
    }

    /// Of TLS 1.2, only sessions with an extended master secret would be bound by it (RFC 9266, section 4.2): they are
    /// not told apart here, so there is none.
    fn exporter(&self) -> Option<ChannelBinding> {
        let session = self.stream.get_ref().1;
        if session.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
            return None;
        }
        let value = session.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")).ok()?;
        Some(ChannelBinding::new("tls-exporter", &value))
    }
}
