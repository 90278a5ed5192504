//! Whether a chain leads to a root that this system trusts. Other systems may trust others: it is a hint.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, Error, KeyUsage, anchor_from_trusted_cert};
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Chain, Check, NAME};

/// Where systems keep the roots that they trust, as one file: Debian, Red Hat, SUSE, Alpine and the BSDs.
const STORES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// OpenSSL's own way to name another.
const VARIABLE: &str = "SSL_CERT_FILE";

/// The roots that a system trusts.
pub(super) struct Roots {
    place: Option<PathBuf>,
    ders: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// Those of this system; none where there is no store.
    pub(super) fn of_this_system() -> Self {
        let named = std::env::var_os(VARIABLE).map(PathBuf::from);
        let place = named.into_iter().chain(STORES.map(PathBuf::from)).find(|place| place.is_file());
        let ders = place.as_deref().map(read).unwrap_or_default();
        Self { place, ders }
    }

    #[cfg(test)]
    pub(super) fn of(place: &str, ders: Vec<CertificateDer<'static>>) -> Self {
        Self { place: Some(place.into()), ders }
    }

    #[cfg(test)]
    pub(super) const fn none() -> Self {
        Self { place: None, ders: Vec::new() }
    }

    fn anchors(&self) -> Vec<TrustAnchor<'_>> {
        self.ders.iter().filter_map(|der| anchor_from_trusted_cert(der).ok()).collect()
    }
}

/// What of it cannot be read is as if it were not there.
fn read(place: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(place).into_iter().flatten().filter_map(Result::ok).collect()
}

/// How a chain ends.
#[derive(Debug, PartialEq, Eq)]
enum Trust {
    /// At a root of the store.
    Trusted,
    /// It is in the store itself.
    Installed,
    /// Nobody but itself has signed it.
    SelfSigned,
    /// At somebody who is not in the file, whose certificate can be had elsewhere: an intermediate, most probably.
    NoIntermediate,
    /// At somebody who is neither in the file nor in the store: an intermediate, or a root of one's own.
    NoIssuer,
    /// At a root that the store lacks, or below one.
    UnknownRoot,
    /// Nowhere: a client that trusted its root would refuse it all the same.
    Broken(String),
}

pub(super) fn check(chain: &Chain, roots: &Roots, now: Timestamp) -> Check {
    let Some(place) = &roots.place else {
        return Check::skipped(
            NAME,
            "this system has no store of roots: whether clients trust the certificate is not judged",
        );
    };
    let (origin, place) = (&chain.origin, place.display());
    let last = chain.facts.last();
    let issuer = last.map(|last| last.issuer.as_str()).unwrap_or_default();
    let install = "install that root on every client (a group policy; update-ca-certificates; the browser's own store), or \
                   have the certificate issued by an authority that they know";
    match trust(chain, &roots.ders, &roots.anchors(), now) {
        Trust::Trusted => {
            Check::ok(NAME, format!("{origin} leads to a root that this system trusts ({place})"))
        }
        Trust::Installed => {
            Check::ok(NAME, format!("{origin} is itself among what this system trusts ({place})"))
        }
        Trust::SelfSigned => Check::warning(
            NAME,
            format!("{origin} is self-signed: no client trusts it by itself"),
            format!(
                "clients must trust it: install it on every one (a group policy; update-ca-certificates; the browser's own \
                 store) and compare SHA-256 {} there, or name one of an authority in tls.certificate",
                chain.own().map(|own| own.fingerprint.as_str()).unwrap_or_default()
            ),
        ),
        Trust::NoIntermediate => Check::warning(
            NAME,
            format!(
                "an intermediate certificate is missing in {origin}: its issuer, {issuer}, is no root that this system trusts \
                 ({place}), and most clients will not look for it"
            ),
            "put the certificate of that issuer after the gateway's own in tls.certificate (its authority calls the two \
             together the full chain); only if it is a root of your own, clients must trust that",
        ),
        Trust::NoIssuer => Check::warning(
            NAME,
            format!(
                "{origin} is issued by {issuer}, whose certificate is neither in the file nor among the roots of this system \
                 ({place}): an intermediate is missing, or it is a root of your own"
            ),
            format!(
                "if it is an intermediate, put its certificate after the gateway's own; if it is a root, {install}"
            ),
        ),
        Trust::UnknownRoot => Check::warning(
            NAME,
            format!("{origin} leads to {issuer}, a root that this system does not trust ({place})"),
            format!("clients must trust it: {install}"),
        ),
        Trust::Broken(why) => Check::failed(
            NAME,
            format!("{origin} would be refused by clients, whatever they trust: {why}"),
            "have it issued again, as a certificate for servers (extendedKeyUsage serverAuth), and put the chain in order",
        ),
    }
}

fn trust(chain: &Chain, store: &[CertificateDer<'_>], anchors: &[TrustAnchor<'_>], now: Timestamp) -> Trust {
    let (Some(der), Some(own)) = (chain.ders.first(), chain.own()) else {
        return Trust::Broken("there is no certificate".to_owned());
    };
    if store.contains(der) {
        return Trust::Installed;
    }
    if own.self_signed {
        return Trust::SelfSigned;
    }
    // Dates are judged for themselves.
    let moment = now.clamp(own.not_before, own.not_after.max(own.not_before));
    let moment = Duration::from_secs(u64::try_from(moment.as_second()).unwrap_or_default());
    let verified = EndEntityCert::try_from(der).and_then(|end| {
        let algorithms = default_provider().signature_verification_algorithms.all;
        let between = chain.ders.get(1..).unwrap_or_default();
        let time = UnixTime::since_unix_epoch(moment);
        end.verify_for_usage(algorithms, anchors, between, time, KeyUsage::server_auth(), None, None)
            .map(drop)
    });
    match verified {
        // An intermediate that has expired is told of where dates are.
        Ok(()) | Err(Error::CertExpired { .. }) => Trust::Trusted,
        Err(Error::UnknownIssuer) if chain.ders.len() > 1 => Trust::UnknownRoot,
        Err(Error::UnknownIssuer) if tells_its_issuer(der) => Trust::NoIntermediate,
        Err(Error::UnknownIssuer) => Trust::NoIssuer,
        Err(error) => Trust::Broken(in_words(&error)),
    }
}

fn in_words(error: &Error) -> String {
    let told = format!("{error:?}");
    // What it goes on to say are numbers for programmers.
    let name = told.split(['(', ' ', '{']).next().unwrap_or_default();
    match name {
        "CaUsedAsEndEntity" => "it is the certificate of an authority, not of a server".to_owned(),
        "EndEntityUsedAsCa" => "it was issued by who may issue none (no basicConstraints CA)".to_owned(),
        "RequiredEkuNotFound" | "RequiredEkuNotFoundContext" => {
            "it is not for servers (extendedKeyUsage)".to_owned()
        }
        name if name.starts_with("UnsupportedSignatureAlgorithm") => {
            "it, or one between it and the root, is signed in a way that is not taken any more".to_owned()
        }
        "InvalidSignatureForPublicKey" => "a signature in the chain does not fit its issuer".to_owned(),
        name => name.to_owned(),
    }
}

/// Whether it says where its issuer's certificate is (RFC 5280, section 4.2.2.1), as those do that intermediates issue.
fn tells_its_issuer(der: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(der) else { return false };
    let issuers = x509_parser::oid_registry::OID_PKIX_ACCESS_DESCRIPTOR_CA_ISSUERS;
    parsed.extensions().iter().any(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityInfoAccess(access) => {
            access.accessdescs.iter().any(|description| description.access_method == issuers)
        }
        _ => false,
    })
}
