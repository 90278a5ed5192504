//! What a certificate says.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use jiff::Timestamp;
use ring::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::der_parser::oid;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_DSA, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521,
    OID_PKCS1_RSAENCRYPTION, OID_PKCS1_RSASSAPSS, OID_SIG_ED448, OID_SIG_ED25519, Oid, OidRegistry,
};
use x509_parser::prelude::{ASN1Time, FromDer as _, GeneralName, X509Certificate, X509Name, X509Version};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::{CertificateError, Finding};
use crate::outside;

/// No name is longer (RFC 1035), and no text of a certificate needs more room.
const MOST_TEXT: usize = 255;
/// Some have more names than anybody wants to read.
const MOST_NAMES: usize = 1_000;
/// `rsassaPss` as a key's own algorithm says nothing of the size; it is shown like RSA.
const RSA: [Oid<'static>; 2] = [OID_PKCS1_RSAENCRYPTION, OID_PKCS1_RSASSAPSS];
/// secp256k1: the field's other curve of 256 bits.
const SECP256K1: Oid<'static> = oid!(1.3.132.0.10);

/// What a certificate says. Texts are as they may be shown: cut, and without what does something on a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The DNS names that it is for (`subjectAltName`), in lower case; `*.` before one stands for one label.
    pub dns_names: Vec<String>,
    /// The addresses that it is for (`subjectAltName`).
    pub addresses: Vec<IpAddr>,
    /// The subject's common name, which clients do not look at any more.
    pub common_name: Option<String>,
    /// The issuer's distinguished name.
    pub issuer: String,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// Until when it is valid, that second included.
    pub not_after: Timestamp,
    /// SHA-256 of the certificate, as `AA:BB:…`.
    pub fingerprint: String,
    /// Whether its issuer is its own subject.
    pub self_signed: bool,
    /// Its key, as `ECDSA P-256` or `RSA 2048`.
    pub key: String,
    /// By what it is signed, as `ecdsa-with-SHA256`.
    pub signature: String,
    /// Its serial number, as `01:AB:…`.
    pub serial: String,
}

impl CertificateFacts {
    /// All names as text: DNS names, then addresses; the common name where there is none.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let addresses = self.addresses.iter().map(IpAddr::to_string);
        let mut names: Vec<String> = self.dns_names.iter().cloned().chain(addresses).collect();
        if names.is_empty() {
            names.extend(self.common_name.clone());
        }
        names
    }

    /// Whether it is for a DNS name (RFC 6125, section 6.4): letter by letter in any case, or by a `*` that stands for
    /// all of the left-most label.
    #[must_use]
    pub fn is_for(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        self.dns_names.iter().any(|pattern| matches(pattern, name))
    }

    /// Whether it is for an address.
    #[must_use]
    pub fn is_for_address(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address.to_canonical())
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix("*.") {
        None => pattern.eq_ignore_ascii_case(name),
        // At least two labels are left: a certificate for a whole top level is nobody's.
        Some(rest) => name.split_once('.').is_some_and(|(label, parent)| {
            !label.is_empty() && rest.contains('.') && rest.eq_ignore_ascii_case(parent)
        }),
    }
}

/// One certificate of a chain.
pub(super) struct Link {
    pub(super) facts: CertificateFacts,
    /// `SubjectPublicKeyInfo`, DER.
    pub(super) public_key: Vec<u8>,
    subject: Vec<u8>,
    issuer: Vec<u8>,
}

/// Every certificate of a chain.
pub(super) fn of_chain(chain: &[CertificateDer<'_>], path: &Path) -> Result<Vec<Link>, CertificateError> {
    let links = chain.iter().enumerate().map(|(index, der)| {
        let unreadable =
            |why: String| CertificateError::new(path, Finding::Unreadable { number: index + 1, why });
        let (_, parsed) = X509Certificate::from_der(der).map_err(|error| unreadable(error.to_string()))?;
        if index == 0 && parsed.version() != X509Version::V3 {
            return Err(CertificateError::new(path, Finding::Version1));
        }
        let facts = facts(der, &parsed).ok_or_else(|| unreadable("its dates are none".to_owned()))?;
        Ok(Link {
            facts,
            public_key: parsed.public_key().raw.to_vec(),
            subject: parsed.subject().as_raw().to_vec(),
            issuer: parsed.issuer().as_raw().to_vec(),
        })
    });
    links.collect()
}

/// Where a chain is not in order: each certificate is to be issued by the next.
pub(super) fn order(links: &[Link], path: &Path) -> Option<String> {
    let mut pairs = links.iter().zip(links.iter().skip(1));
    let broken = pairs.position(|(one, next)| one.issuer != next.subject)?;
    Some(format!(
        "the chain in {} is out of order: certificate {} is not issued by certificate {}, and some clients will not find \
         their way; put the gateway's own first, and the one that issued each after it",
        path.display(),
        broken + 1,
        broken + 2
    ))
}

fn facts(der: &CertificateDer<'_>, parsed: &X509Certificate<'_>) -> Option<CertificateFacts> {
    let (mut dns_names, mut addresses) = (Vec::new(), Vec::new());
    let alternative = parsed.subject_alternative_name().ok().flatten();
    for name in alternative.iter().flat_map(|names| &names.value.general_names).take(MOST_NAMES) {
        match name {
            GeneralName::DNSName(name) => dns_names.push(text(name).to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
            _ => {}
        }
    }
    Some(CertificateFacts {
        dns_names,
        addresses,
        common_name: common_name(parsed.subject()),
        issuer: text(&parsed.issuer().to_string()),
        not_before: time(parsed.validity().not_before)?,
        not_after: time(parsed.validity().not_after)?,
        fingerprint: in_hex(digest::digest(&digest::SHA256, der).as_ref()),
        self_signed: parsed.subject().as_raw() == parsed.issuer().as_raw(),
        key: key(parsed.public_key()),
        signature: named(&parsed.signature_algorithm.algorithm),
        serial: in_hex(parsed.raw_serial()),
    })
}

fn text(text: &str) -> String {
    outside::shown(text, MOST_TEXT).into_owned()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn common_name(subject: &X509Name<'_>) -> Option<String> {
    let name = subject.iter_common_name().next()?;
    name.as_str().ok().map(text)
}

fn time(time: ASN1Time) -> Option<Timestamp> {
    Timestamp::from_second(time.timestamp()).ok()
}

fn in_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    for byte in bytes {
        let colon = if text.is_empty() { "" } else { ":" };
        // Cannot fail: it is a string.
        let _ = write!(text, "{colon}{byte:02X}");
    }
    text
}

fn key(key: &SubjectPublicKeyInfo<'_>) -> String {
    let algorithm = &key.algorithm.algorithm;
    if RSA.contains(algorithm) {
        let bits = key.parsed().ok().map_or(0, |parsed| match parsed {
            PublicKey::RSA(rsa) => rsa.key_size(),
            _ => 0,
        });
        return format!("RSA {bits}");
    }
    if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        let known = [
            (OID_EC_P256, "P-256"),
            (OID_NIST_EC_P384, "P-384"),
            (OID_NIST_EC_P521, "P-521"),
            (SECP256K1, "secp256k1"),
        ];
        let known = curve.as_ref().and_then(|curve| known.iter().find(|(oid, _)| oid == curve));
        return known
            .map_or_else(|| "ECDSA on an unknown curve".into(), |(_, curve)| format!("ECDSA {curve}"));
    }
    let known = [(OID_SIG_ED25519, "Ed25519"), (OID_SIG_ED448, "Ed448"), (OID_KEY_TYPE_DSA, "DSA")];
    known
        .iter()
        .find(|(oid, _)| oid == algorithm)
        .map_or_else(|| named(algorithm), |(_, name)| (*name).to_owned())
}

fn named(oid: &Oid<'_>) -> String {
    let registry = OidRegistry::default().with_crypto().with_x509();
    registry.get(oid).map_or_else(|| oid.to_id_string(), |entry| entry.sn().to_owned())
}
