//! For tests of every room: a certificate, and a client that trusts it.

use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificates::{Certificate, pem};
use super::{ClientStream, Connections, TlsServer};

/// The certificate's name.
pub(crate) const NAME: &str = "proxy.test";

/// A server with a certificate of its own, and that certificate.
pub(crate) fn server_signed_by(
    algorithm: &'static SignatureAlgorithm,
) -> (TlsServer, CertificateDer<'static>) {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let certificate = CertificateParams::new([NAME.to_owned()]).unwrap().self_signed(&key).unwrap();
    let der = certificate.der().clone();
    (TlsServer::new(&[of_der(&der, &key)]).unwrap(), der)
}

/// Chain and key for these names as PEM, self-signed, valid until the beginning of a year.
pub(crate) fn pem_pair_until(names: &[&str], year: i32) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let made = params.self_signed(&key).unwrap();
    (
        pem::encode("CERTIFICATE", made.der()).to_string(),
        pem::encode("PRIVATE KEY", &key.serialize_der()).to_string(),
    )
}

/// The same, valid for long.
pub(crate) fn pem_pair(names: &[&str]) -> (String, String) {
    pem_pair_until(names, 2100)
}

/// A certificate as if it had been read from files.
pub(crate) fn of_der(certificate: &CertificateDer<'static>, key: &KeyPair) -> Certificate {
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    Certificate::new(vec![certificate.clone()], key, "a".as_ref(), "b".as_ref(), Vec::new()).unwrap()
}

/// The same, signed as most are.
pub(crate) fn server() -> (TlsServer, CertificateDer<'static>) {
    server_signed_by(&rcgen::PKCS_ECDSA_P256_SHA256)
}

/// A client that trusts this certificate alone and speaks this version.
pub(crate) async fn connect_by<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    certificate: &CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
) -> TlsStream<S> {
    try_connect_by(socket, certificate, version).await.unwrap()
}

/// The same with TLS 1.3, whatever comes of it.
pub(crate) async fn try_connect<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    certificate: &CertificateDer<'static>,
) -> std::io::Result<TlsStream<S>> {
    try_connect_by(socket, certificate, &version::TLS13).await
}

async fn try_connect_by<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    certificate: &CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
) -> std::io::Result<TlsStream<S>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(NAME).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, socket).await
}

/// The same with TLS 1.3.
pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    certificate: &CertificateDer<'static>,
) -> TlsStream<S> {
    connect_by(socket, certificate, &version::TLS13).await
}

/// A connection that was accepted and is in the registry, and its other end. Neither has said anything.
pub(crate) async fn accepted(registry: &Arc<Connections>) -> (ClientStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (far, near) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let (near, peer) = near.unwrap();
    (registry.accept(peer.ip().into(), peer, near), far.unwrap())
}

/// The same after a handshake.
pub(crate) async fn secured(registry: &Arc<Connections>) -> (ClientStream, TlsStream<TcpStream>) {
    let (server, certificate) = server();
    let (near, far) = accepted(registry).await;
    let handshake = near.secure(&server).unwrap();
    let (near, far) = tokio::join!(handshake, connect(far, &certificate));
    (near.unwrap(), far)
}
