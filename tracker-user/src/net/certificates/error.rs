//! Why a certificate cannot be used, and what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// A certificate cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateError {
    /// The file that is wrong.
    pub path: PathBuf,
    /// What is wrong with it.
    pub finding: Finding,
}

impl CertificateError {
    pub(super) fn new(path: &Path, finding: Finding) -> Self {
        Self { path: path.to_owned(), finding }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> String {
        self.finding.remedy(&self.path)
    }
}

impl fmt::Display for CertificateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}; {}", self.path.display(), self.finding, self.remedy())
    }
}

impl std::error::Error for CertificateError {}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// It is not there.
    #[error("does not exist")]
    Missing,
    /// It may not be read.
    #[error("may not be read by the gateway's user: {0}")]
    Forbidden(String),
    /// It cannot be read for another reason.
    #[error("cannot be read: {0}")]
    NotRead(String),
    /// It is a directory, a pipe or a device.
    #[error("is no regular file")]
    NoFile,
    /// No certificate is so large.
    #[error("has more than {most} bytes")]
    TooLarge {
        /// So many are read.
        most: u64,
    },
    /// It is binary: DER or PKCS #12.
    #[error("is not PEM but binary")]
    Binary,
    /// It is damaged.
    #[error("is no sound PEM: {0}")]
    NotPem(String),
    /// There is no certificate in it.
    #[error("holds no certificate")]
    NoCertificate,
    /// A certificate in it makes no sense.
    #[error("holds a certificate (number {number}) that cannot be read: {why}")]
    Unreadable {
        /// Its place, from 1.
        number: usize,
        /// The cause.
        why: String,
    },
    /// X.509 version 1 has no names that clients would look at, and is refused by most.
    #[error("holds a certificate of X.509 version 1, which clients refuse")]
    Version1,
    /// There is no private key in it.
    #[error("holds no private key")]
    NoKey,
    /// Its private key has a passphrase.
    #[error("holds a private key that is encrypted with a passphrase")]
    Encrypted,
    /// Its private key is of no kind that can be used.
    #[error("holds a private key that cannot be used: {0}")]
    UnsupportedKey(String),
    /// The private key is of none of the certificates.
    #[error("holds a private key that is not the one of the certificate in {}", chain.display())]
    OtherKey {
        /// The certificate's file.
        chain: PathBuf,
    },
    /// The private key is of a certificate further down.
    #[error("does not begin with the gateway's own certificate: that is number {position}")]
    NotFirst {
        /// Its place, from 1.
        position: usize,
    },
    /// It has expired. One that is in use is not taken away for that, but none takes the place of one that is valid.
    #[error("expired on {0}")]
    Expired(Timestamp),
    /// The self-signed certificate cannot be made.
    #[error("cannot be made: {0}")]
    NotMade(String),
    /// The self-signed certificate cannot be kept.
    #[error("cannot be kept: {0}")]
    NotKept(String),
}

impl Finding {
    fn remedy(&self, path: &Path) -> String {
        let shown = path.display();
        match self {
            Self::Missing => "put the file there, or correct the path in tls.certificate or tls.key".into(),
            Self::Forbidden(_) => {
                format!("let the gateway's user read it, and nobody else: chown it, then chmod 0600 {shown}")
            }
            Self::NotRead(_) => "see to the disk".into(),
            Self::NoFile | Self::TooLarge { .. } => "name a PEM file in tls.certificate or tls.key".into(),
            Self::Binary => format!(
                "convert it: openssl x509 -inform DER -in {shown} for a certificate, openssl pkey -inform DER for a key, \
                 openssl pkcs12 -nodes for both in one"
            ),
            Self::NotPem(_) => {
                "write it anew, whole, with its lines -----BEGIN ...----- and -----END ...-----".into()
            }
            Self::NoCertificate => {
                "tls.certificate names the chain: the gateway's own certificate (-----BEGIN CERTIFICATE-----), then the \
                 intermediate ones"
                    .into()
            }
            Self::Unreadable { .. } => format!("see what it is: openssl x509 -text -noout -in {shown}"),
            Self::Version1 => {
                "have it issued with extensions: it needs the gateway's names as subjectAltName (openssl x509 -req wants \
                 -extfile or -copy_extensions copy)"
                    .into()
            }
            Self::NoKey => "tls.key names the private key (-----BEGIN PRIVATE KEY-----)".into(),
            Self::Encrypted => format!(
                "nobody is there to type the passphrase: take it off with openssl pkey -in {shown} -out NEW, mode 0600"
            ),
            Self::UnsupportedKey(_) => "use ECDSA P-256 or P-384, RSA of at least 2048 bits, or Ed25519".into(),
            Self::OtherKey { .. } => {
                "name the pair that belongs together: openssl x509 -noout -pubkey and openssl pkey -pubout show the same"
                    .into()
            }
            Self::NotFirst { .. } => "put it first, and the one that issued each after it".into(),
            Self::Expired(_) => "have it renewed".into(),
            Self::NotMade(_) => "name a certificate of your own in tls.certificate and tls.key".into(),
            Self::NotKept(_) => {
                "see to the state directory: it must be writable for the gateway's user, and have room".into()
            }
        }
    }
}
