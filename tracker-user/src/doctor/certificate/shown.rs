//! What a listener shows: a handshake with it, that believes everything and sends nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

/// For connecting, and for each read and write.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// Why nothing was seen.
pub(super) enum Unseen {
    /// Who connects to it from here has to be a balancer.
    Balanced,
    /// Something failed.
    No(String),
}

/// The address by which a listener is reached from this host.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// The certificates that it shows to whoever asks for this name.
pub(super) fn chain(address: SocketAddr, name: Option<&str>) -> Result<Vec<CertificateDer<'static>>, Unseen> {
    let failed = |error: io::Error| Unseen::No(error.to_string());
    let wrong = |error: rustls::Error| Unseen::No(error.to_string());
    let named = name.and_then(|name| ServerName::try_from(name.to_owned()).ok());
    let named = named.unwrap_or_else(|| ServerName::IpAddress(address.ip().into()));
    let provider = default_provider();
    let schemes = provider.signature_verification_algorithms.supported_schemes();
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .map_err(wrong)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Believer(schemes)))
        .with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(config), named).map_err(wrong)?;
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    socket.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
    while client.is_handshaking() {
        client.complete_io(&mut socket).map_err(failed)?;
    }
    let chain =
        client.peer_certificates().unwrap_or_default().iter().map(|der| der.clone().into_owned()).collect();
    client.send_close_notify();
    // It has said all that was wanted.
    let _ = client.complete_io(&mut socket);
    Ok(chain)
}

/// What is shown is judged afterwards.
#[derive(Debug)]
struct Believer(Vec<SignatureScheme>);

impl ServerCertVerifier for Believer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}
