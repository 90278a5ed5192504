//! Certificates that the gateway shows: read from PEM files, looked into, and told apart from what cannot be used.

mod error;
mod facts;
mod file;
mod keeper;
pub mod own;
pub(super) mod pem;

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;

pub use self::error::{CertificateError, Finding};
pub use self::facts::CertificateFacts;
pub use self::keeper::{Keeper, Own, Pair, Problem, Shown};

/// A certificate with its chain and its private key, which belong together and which this gateway can use.
#[derive(Clone, Debug)]
pub struct Certificate {
    certified: Arc<CertifiedKey>,
    facts: Arc<CertificateFacts>,
    warnings: Vec<String>,
}

/// Reads a certificate with its chain, its own first, and the private key to it, both PEM; the two may be one file.
///
/// Dates are not looked at: see [`Certificate::standing`].
///
/// # Errors
/// When a file cannot be read, holds something else, or the two do not belong together.
pub fn load(chain: &Path, key: &Path) -> Result<Certificate, CertificateError> {
    let found = file::chain(chain)?;
    let (private, exposed) = file::key(key)?;
    Certificate::new(found, private, chain, key, exposed.into_iter().collect())
}

/// What each certificate of a chain says, its own first; `origin` is where it was found.
///
/// # Errors
/// When one of them makes no sense.
pub fn describe(
    chain: &[CertificateDer<'_>],
    origin: &Path,
) -> Result<Vec<CertificateFacts>, CertificateError> {
    Ok(facts::of_chain(chain, origin)?.into_iter().map(|link| link.facts).collect())
}

/// How a certificate stands to the present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is not valid yet: the clock or the certificate is wrong.
    NotYet,
    /// It is valid.
    Valid,
    /// It is not valid any more.
    Expired,
}

impl Certificate {
    /// What is in these files, found to belong together.
    pub(super) fn new(
        chain: Vec<CertificateDer<'static>>,
        private: rustls::pki_types::PrivateKeyDer<'static>,
        chain_path: &Path,
        key_path: &Path,
        mut warnings: Vec<String>,
    ) -> Result<Self, CertificateError> {
        let all = facts::of_chain(&chain, chain_path)?;
        let signer = default_provider()
            .key_provider
            .load_private_key(private)
            .map_err(|error| CertificateError::new(key_path, Finding::UnsupportedKey(error.to_string())))?;
        let own = signer.public_key();
        let own = own.as_ref().map(AsRef::<[u8]>::as_ref);
        match all.iter().position(|facts| Some(facts.public_key.as_slice()) == own) {
            Some(0) => {}
            Some(position) => {
                return Err(CertificateError::new(chain_path, Finding::NotFirst { position: position + 1 }));
            }
            None => {
                return Err(CertificateError::new(key_path, Finding::OtherKey { chain: chain_path.into() }));
            }
        }
        warnings.extend(facts::order(&all, chain_path));
        let certified = CertifiedKey::new(chain, signer);
        // What rustls' own reading of certificates refuses, no client could be shown.
        certified.keys_match().map_err(|error| {
            CertificateError::new(chain_path, Finding::Unreadable { number: 1, why: error.to_string() })
        })?;
        let Some(own) = all.into_iter().next() else {
            return Err(CertificateError::new(chain_path, Finding::NoCertificate));
        };
        Ok(Self { certified: Arc::new(certified), facts: Arc::new(own.facts), warnings })
    }

    /// What the certificate says.
    #[must_use]
    pub fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// The chain as it is shown, its own certificate first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.certified.cert
    }

    /// What handshakes are made with.
    pub(super) const fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// What does not keep it from being used, and is probably not meant: a key that others can read, a chain out of order.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// How it stands at this moment.
    #[must_use]
    pub fn standing(&self, now: Timestamp) -> Standing {
        if now < self.facts.not_before {
            Standing::NotYet
        } else if now > self.facts.not_after {
            Standing::Expired
        } else {
            Standing::Valid
        }
    }
}

impl PartialEq for Certificate {
    /// Whether clients are shown the same, with the same key.
    fn eq(&self, other: &Self) -> bool {
        self.certified.cert == other.certified.cert
    }
}

#[cfg(test)]
mod tests;
