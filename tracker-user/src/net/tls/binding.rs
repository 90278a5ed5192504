//! What names a channel to both of its ends: channel bindings (RFC 5056).

use std::sync::Arc;

use ring::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::der_parser::oid;
use x509_parser::oid_registry::{
    OID_HASH_SHA1, OID_NIST_HASH_SHA256, OID_NIST_HASH_SHA384, OID_NIST_HASH_SHA512, OID_PKCS1_MD5WITHRSAENC,
    OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA1WITHRSA, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA,
    OID_PKCS1_SHA512WITHRSA, OID_SHA1_WITH_RSA, OID_SIG_DSA_WITH_SHA1, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512, Oid,
};
use x509_parser::prelude::{AlgorithmIdentifier, FromDer as _, X509Certificate};
use x509_parser::signature_algorithm::SignatureAlgorithm;

/// `ecdsa-with-SHA1` (RFC 5480, appendix A).
const ECDSA_WITH_SHA1: Oid<'static> = oid!(1.2.840.10045.4.1);

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
    pub(super) fn new(prefix: &str, value: &[u8]) -> Self {
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
pub(super) fn end_point(certificate: &CertificateDer<'_>) -> Option<ChannelBinding> {
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
    use super::*;
    use crate::net::testing::server_signed_by;

    #[test]
    fn the_hash_is_the_signatures_own() {
        let length = |algorithm| {
            let (_, certificate) = server_signed_by(algorithm);
            Some(end_point(&certificate)?.application_data().len() - "tls-server-end-point:".len())
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
}
