//! The proxy under TLS, as clients of the lab reach it; and TLS by hand, at whatever pace.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::certificates::Certificate;
use crate::client::Curl;
use crate::gateway::PROXY_TLS_PORT;
use crate::net::GATEWAY_V4;
use crate::raw::Raw;
use crate::{Lab, PROXY_NAME};

/// A PAC file: the lab's names by the proxy under TLS, and nothing else by it.
pub const PAC: &str = "function FindProxyForURL(url, host) {\
    return shExpMatch(host, '*.example.test') ? 'HTTPS proxy.example.test:3130' : 'DIRECT'; }";

/// Settings: the proxy under TLS by this certificate, beside the plain one.
#[must_use]
pub fn settings(certificate: &Certificate) -> String {
    format!("{}proxy-listen = [\"0.0.0.0:{PROXY_TLS_PORT}\"]\n", certificate.settings())
}

/// The proxy under TLS as clients name it in their settings.
#[must_use]
pub fn proxy_url() -> String {
    format!("https://{PROXY_NAME}:{PROXY_TLS_PORT}")
}

/// Where it is.
#[must_use]
pub fn address() -> SocketAddr {
    SocketAddr::from((GATEWAY_V4, PROXY_TLS_PORT))
}

impl Lab {
    /// curl on a client, through the proxy under TLS, whose certificate this authority has signed.
    pub fn curl_by_tls(&self, client: usize, root: &Path) -> Curl<'_> {
        Curl::new(&self.net.clients[client].ns, &self.scratch, &self.realm, &proxy_url())
            .arg("--proxy-cacert")
            .arg(&root.display().to_string())
    }

    /// A plain connection from a client to the port that is under TLS.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn raw_to_tls(&self, client: usize) -> Result<Raw> {
        Raw::connect(&self.net.clients[client].ns, address())
    }
}

/// One end of a handshake, without a socket: what it says is taken, what it is told is handed in.
#[derive(Debug)]
pub struct Shaker(ClientConnection);

impl Shaker {
    /// A client that trusts this authority.
    ///
    /// # Errors
    /// When the file is no certificate.
    pub fn new(root: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(root)?)?;
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(PROXY_NAME)?;
        Ok(Self(ClientConnection::new(Arc::new(config), name)?))
    }

    /// What it wants to send now.
    ///
    /// # Errors
    /// Never, as it is written to memory.
    pub fn says(&mut self) -> Result<Vec<u8>> {
        let mut said = Vec::new();
        while self.0.wants_write() {
            self.0.write_tls(&mut said)?;
        }
        Ok(said)
    }

    /// Whether the handshake is done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        !self.0.is_handshaking()
    }

    /// Reads what the other side says next.
    ///
    /// # Errors
    /// When the connection ends, or what is said is no TLS.
    pub fn hears(&mut self, from: &mut TcpStream) -> Result<()> {
        let count = self.0.read_tls(from)?;
        anyhow::ensure!(count > 0, "the connection ended");
        self.0.process_new_packets().map(drop).context("what was said is no TLS")
    }

    /// Sends a request and reads until this much has come.
    ///
    /// # Errors
    /// When the connection ends before.
    pub fn asks(&mut self, on: &mut TcpStream, request: &str, least: usize) -> Result<String> {
        self.0.writer().write_all(request.as_bytes())?;
        on.write_all(&self.says()?)?;
        let mut text = Vec::new();
        while text.len() < least {
            let mut part = [0; 4096];
            match self.0.reader().read(&mut part) {
                Ok(count) if count > 0 => text.extend_from_slice(&part[..count]),
                _ => self.hears(on)?,
            }
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
