//! Certificates on the wire.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// `GET /v1/certificates`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Certificates {
    /// Those that clients are shown, the default first; empty where nothing listens under TLS.
    pub certificates: Vec<Certificate>,
    /// Why what is configured is not shown; `null` when all is well.
    pub last_error: Option<CertificateProblem>,
}

/// A certificate that clients are shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Certificate {
    /// The names and addresses that it is for.
    pub names: Vec<String>,
    /// Who issued it.
    pub issuer: String,
    /// Whether that is itself.
    pub self_signed: bool,
    /// From when it is valid.
    pub not_before: Timestamp,
    /// Until when.
    pub expires: Timestamp,
    /// `valid`, `not-yet-valid` or `expired`.
    pub state: String,
    /// When the gateway renews it by itself; `null` where others have to.
    pub next_renewal: Option<Timestamp>,
    /// SHA-256, as `AA:BB:…`.
    pub fingerprint: String,
    /// Its key, as `ECDSA P-256`.
    pub key: String,
    /// By what it is signed.
    pub signature: String,
    /// Its serial number.
    pub serial: String,
    /// The file of its chain; `null` for the gateway's own.
    pub certificate_file: Option<String>,
    /// The file of its key.
    pub key_file: Option<String>,
    /// What went wrong when it was last read or renewed; `null` when all is well.
    pub last_error: Option<CertificateProblem>,
}

/// What went wrong.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CertificateProblem {
    /// Since when.
    pub since: Timestamp,
    /// What, with the remedy.
    pub error: String,
}
