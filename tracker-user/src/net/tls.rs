//! The gateway as a TLS server: one certificate, the handshake, and what names the channel afterwards.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ring::digest;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ProtocolVersion, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{FallibleAccept, TlsAcceptor};
use x509_parser::der_parser::oid;
use x509_parser::oid_registry::{
    OID_HASH_SHA1, OID_NIST_HASH_SHA256, OID_NIST_HASH_SHA384, OID_NIST_HASH_SHA512, OID_PKCS1_MD5WITHRSAENC,
    OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA1WITHRSA, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA,
    OID_PKCS1_SHA512WITHRSA, OID_SHA1_WITH_RSA, OID_SIG_DSA_WITH_SHA1, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512, Oid,
};
use x509_parser::prelude::{AlgorithmIdentifier, FromDer as _, X509Certificate};
use x509_parser::signature_algorithm::SignatureAlgorithm;

/// What the proxy speaks under TLS, as ALPN names it (RFC 7301).
const ALPN: &[u8] = b"http/1.1";

/// `ecdsa-with-SHA1` (RFC 5480, appendix A).
const ECDSA_WITH_SHA1: Oid<'static> = oid!(1.2.840.10045.4.1);

/// A certificate with its key, ready for handshakes. The channel binding is of this certificate, so whoever changes the
/// certificate makes another one of these: a connection goes by the one that it was accepted with, for all its life and
/// for sessions of TLS that are resumed from it.
#[derive(Debug)]
pub struct TlsServer {
    config: Arc<ServerConfig>,
    /// The `tls-server-end-point` binding of every connection that this certificate is shown on.
    end_point: Option<ChannelBinding>,
}

impl TlsServer {
    /// A server with this chain, its own certificate first, and the private key to it.
    ///
    /// # Errors
    /// If the chain is empty, the key is not the certificate's, or either cannot be used.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, rustls::Error> {
        let end_point = chain.first().and_then(|own| end_point(own));
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { config: Arc::new(config), end_point })
    }

    /// Begins a handshake on an accepted connection.
    pub(super) fn accept(&self, socket: TcpStream) -> Accept {
        let accept = TlsAcceptor::from(Arc::clone(&self.config)).accept(socket).into_fallible();
        Accept { accept, end_point: self.end_point.clone() }
    }
}

/// A handshake under way. Where it fails the socket comes back, so that it can be closed when the registry no longer
/// knows its descriptor.
pub(super) struct Accept {
    accept: FallibleAccept<TcpStream>,
    end_point: Option<ChannelBinding>,
}

impl Future for Accept {
    type Output = Result<TlsTransport, (io::Error, TcpStream)>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.accept)
            .poll(cx)
            .map_ok(|stream| TlsTransport { stream, end_point: self.end_point.clone() })
    }
}

/// A connection after its handshake.
pub(super) struct TlsTransport {
    pub(super) stream: TlsStream<TcpStream>,
    end_point: Option<ChannelBinding>,
}

impl TlsTransport {
    #[cfg(test)]
    pub(super) fn socket(&self) -> &TcpStream {
        self.stream.get_ref().0
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

/// By what a channel is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChannelBindingType {
    /// A hash of the server's certificate (RFC 5929, section 4): what Negotiate over TLS is bound to.
    TlsServerEndPoint,
    /// Key material of this one connection (RFC 9266).
    TlsExporter,
}

/// What names a channel to both of its ends: credentials that are bound to it are good on it alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelBinding(Arc<[u8]>);

impl ChannelBinding {
    fn new(prefix: &str, value: &[u8]) -> Self {
        Self([prefix.as_bytes(), b":", value].concat().into())
    }

    /// The type's name, a colon, and the value: the application data of GSSAPI's channel bindings (RFC 5056, section 2.1).
    #[must_use]
    pub const fn application_data(&self) -> &Arc<[u8]> {
        &self.0
    }
}

/// The `tls-server-end-point` binding of a certificate: its hash by the hash function of its signature, where MD5 and
/// SHA-1 are replaced by SHA-256. A signature with no hash function, with several, or with an unknown one gives none.
fn end_point(certificate: &CertificateDer<'_>) -> Option<ChannelBinding> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let algorithm = hash_of(&parsed.signature_algorithm)?;
    Some(ChannelBinding::new("tls-server-end-point", digest::digest(algorithm, certificate).as_ref()))
}

fn hash_of(signature: &AlgorithmIdentifier<'_>) -> Option<&'static digest::Algorithm> {
    if signature.algorithm == OID_PKCS1_RSASSAPSS {
        let Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) = SignatureAlgorithm::try_from(signature) else {
            return None;
        };
        let hash = parameters.hash_algorithm_oid();
        // The mask may be made with another one: then there are two.
        return (parameters.mask_gen_algorithm().ok()?.hash == *hash).then(|| named(hash)).flatten();
    }
    named(&signature.algorithm)
}

/// The hash function that an algorithm's identifier names, or one to use instead of it.
fn named(algorithm: &Oid<'_>) -> Option<&'static digest::Algorithm> {
    let all: [(&[Oid<'static>], &'static digest::Algorithm); 3] = [
        (
            &[
                OID_PKCS1_MD5WITHRSAENC,
                OID_HASH_SHA1,
                OID_PKCS1_SHA1WITHRSA,
                OID_SHA1_WITH_RSA,
                OID_SIG_DSA_WITH_SHA1,
                ECDSA_WITH_SHA1,
                OID_NIST_HASH_SHA256,
                OID_PKCS1_SHA256WITHRSA,
                OID_SIG_ECDSA_WITH_SHA256,
            ],
            &digest::SHA256,
        ),
        (&[OID_NIST_HASH_SHA384, OID_PKCS1_SHA384WITHRSA, OID_SIG_ECDSA_WITH_SHA384], &digest::SHA384),
        (&[OID_NIST_HASH_SHA512, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA512], &digest::SHA512),
    ];
    all.into_iter().find_map(|(names, hash)| names.contains(algorithm).then_some(hash))
}

#[cfg(test)]
mod tests {
    use rustls::{SupportedProtocolVersion, version};

    use super::*;
    use crate::net::testing::{accepted, connect_by, server, server_signed_by};
    use crate::net::{ClientStream, Connections};

    /// Both ends of a connection by this version, and the certificate that was shown on it.
    async fn pair(
        version: &'static SupportedProtocolVersion,
    ) -> (ClientStream, tokio_rustls::client::TlsStream<TcpStream>) {
        let (server, certificate) = server();
        let (near, far) = accepted(&Arc::new(Connections::new(None))).await;
        let handshake = near.secure(&server).unwrap();
        let (near, far) = tokio::join!(handshake, connect_by(far, &certificate, version));
        (near.unwrap(), far)
    }

    #[tokio::test]
    async fn both_ends_name_the_channel_alike() {
        for (version, has_exporter) in [(&version::TLS13, true), (&version::TLS12, false)] {
            let (near, far) = pair(version).await;
            let session = far.get_ref().1;
            let shown = &session.peer_certificates().unwrap()[0];
            let end_point =
                [b"tls-server-end-point:", digest::digest(&digest::SHA256, shown).as_ref()].concat();
            let found = near.channel_binding(ChannelBindingType::TlsServerEndPoint).unwrap();
            assert_eq!(**found.application_data(), *end_point);
            let exported =
                session.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")).unwrap();
            let exporter = has_exporter.then(|| [&b"tls-exporter:"[..], &exported].concat());
            let found = near.channel_binding(ChannelBindingType::TlsExporter);
            assert_eq!(found.map(|found| found.application_data().to_vec()), exporter);
        }
    }

    #[tokio::test]
    async fn a_plain_channel_has_no_name() {
        let (near, _far) = accepted(&Arc::new(Connections::new(None))).await;
        for kind in [ChannelBindingType::TlsServerEndPoint, ChannelBindingType::TlsExporter] {
            assert_eq!(near.channel_binding(kind), None);
        }
    }

    #[test]
    fn the_hash_is_the_signatures_own() {
        let length = |algorithm| {
            let (server, certificate) = server_signed_by(algorithm);
            let found = server.end_point?.application_data().len() - "tls-server-end-point:".len();
            assert_eq!(end_point(&certificate).unwrap().application_data().len(), found + 21);
            Some(found)
        };
        assert_eq!(length(&rcgen::PKCS_ECDSA_P256_SHA256), Some(32));
        assert_eq!(length(&rcgen::PKCS_ECDSA_P384_SHA384), Some(48));
        assert_eq!(length(&rcgen::PKCS_ED25519), None, "it has no hash function that could be named");
        for weak in [
            OID_PKCS1_MD5WITHRSAENC,
            OID_PKCS1_SHA1WITHRSA,
            OID_SHA1_WITH_RSA,
            OID_SIG_DSA_WITH_SHA1,
            ECDSA_WITH_SHA1,
            OID_HASH_SHA1,
        ] {
            assert_eq!(named(&weak), Some(&digest::SHA256), "{weak}");
        }
    }

    #[test]
    fn a_key_that_is_not_the_certificates_is_refused() {
        let other = rcgen::KeyPair::generate().unwrap();
        let (_, certificate) = server();
        let key = PrivateKeyDer::Pkcs8(other.serialize_der().into());
        assert!(TlsServer::new(vec![certificate], key).is_err());
        let key = PrivateKeyDer::Pkcs8(other.serialize_der().into());
        assert!(TlsServer::new(Vec::new(), key).is_err());
    }
}
