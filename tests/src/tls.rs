//! The origin's pages by https: socat puts TLS, with a throw-away certificate of nobody's, in front of the web server. And
//! TLS by hand, towards the gateway.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

use crate::net::ORIGIN_V4;
use crate::ns::{Ns, finish};
use crate::origin::HTTP_PORT;
use crate::scratch::{Process, Scratch};
use crate::wait;

/// The https port, on the origin's IPv4 address.
pub const HTTPS_PORT: u16 = 443;

/// Starts it on the origin's host; it ends when what is returned is dropped.
///
/// # Errors
/// Where openssl or socat are not installed, or when the port is taken.
pub fn start(scratch: &Scratch, origin: &Ns) -> Result<Process> {
    let (certificate, key) = (scratch.join("origin.crt"), scratch.join("origin.key"));
    let mut make = Command::new("openssl");
    make.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    make.args(["-days", "2", "-subj", "/CN=origin.example.test"]);
    make.args(["-addext", "subjectAltName=DNS:origin.example.test"]);
    make.arg("-out").arg(&certificate).arg("-keyout").arg(&key);
    finish(&mut make, &[]).context("is openssl installed? `cargo xtask setup` installs it")?;
    let log = std::fs::File::create(scratch.join("socat.log"))?;
    let mut socat = origin.family("socat");
    socat.arg(format!(
        "OPENSSL-LISTEN:{HTTPS_PORT},bind={ORIGIN_V4},fork,reuseaddr,verify=0,cert={},key={}",
        certificate.display(),
        key.display()
    ));
    socat.arg(format!("TCP4:127.0.0.1:{HTTP_PORT}"));
    socat.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let process = scratch.spawn(&mut socat)?;
    let address = SocketAddr::from((ORIGIN_V4, HTTPS_PORT));
    wait::until("socat to listen", Duration::from_secs(10), || origin.connect(address).ok())?;
    Ok(process)
}

/// A client's side of TLS, before the handshake, which takes whatever certificate it is shown.
pub(crate) fn client() -> Result<ClientConnection> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    Ok(ClientConnection::new(Arc::new(config), ServerName::try_from(crate::PROXY_NAME)?)?)
}

/// Any certificate is good.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
