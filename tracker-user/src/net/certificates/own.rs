//! The gateway's self-signed certificate: made where no other is configured, kept, and renewed before it ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SerialNumber,
};
use tracing::warn;

use super::{Certificate, CertificateError, Finding, load, pem};
use crate::private;

/// Its file in the state directory: certificate and key in one, so that they are exchanged together.
pub const FILE: &str = "self-signed.pem";
/// It is written here, and moved.
pub const ASIDE: &str = "self-signed.pem.new";

/// Clients take none that is valid for longer than 398 days.
const VALID_FOR: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Clients' clocks may be behind.
const BACKDATED: SignedDuration = SignedDuration::from_hours(24);
/// It is renewed so long before its end: time for those who pinned it.
const RENEWED_BEFORE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// No more names: some hosts have thousands of addresses.
const MOST_NAMES: usize = 64;
/// A common name has at most 64 characters (RFC 5280, appendix A.1).
const MOST_COMMON_NAME: usize = 64;

/// When it is renewed.
pub(super) fn renewal(certificate: &Certificate) -> Timestamp {
    let end = certificate.facts().not_after;
    end.checked_sub(RENEWED_BEFORE).unwrap_or(end)
}

/// The one that is kept in the state directory, if it can still be used for long enough; else a new one.
pub(super) fn read_or_make(
    directory: &Path,
    names: &dyn Fn() -> Vec<String>,
    now: Timestamp,
) -> Result<Certificate, CertificateError> {
    let path = directory.join(FILE);
    match load(&path, &path) {
        Ok(certificate) if now < renewal(&certificate) => {
            // It may have been open to others: then the key is.
            let closed = File::open(&path).and_then(|file| private::file(&file, &path));
            closed.map_err(|error| not_kept(&path, &error))?;
            return Ok(certificate);
        }
        Ok(_) => {}
        Err(CertificateError { finding: Finding::Missing, .. }) => {}
        Err(error) => {
            warn!(%error, "the self-signed certificate that was kept cannot be used: another is made")
        }
    }
    make(directory, names, now)
}

/// Makes a new one for these names, and keeps it.
pub(super) fn make(
    directory: &Path,
    names: &dyn Fn() -> Vec<String>,
    now: Timestamp,
) -> Result<Certificate, CertificateError> {
    let path = directory.join(FILE);
    let made = generate(&names(), now)
        .map_err(|error| CertificateError::new(&path, Finding::NotMade(error.to_string())))?;
    keep(directory, &made).map_err(|error| not_kept(&path, &error))?;
    load(&path, &path)
}

fn not_kept(path: &Path, error: &io::Error) -> CertificateError {
    CertificateError::new(path, Finding::NotKept(error.to_string()))
}

/// Certificate and key as PEM.
type Made = zeroize::Zeroizing<String>;

fn generate(names: &[String], now: Timestamp) -> Result<Made, rcgen::Error> {
    let mut names: Vec<String> = names.iter().filter(|name| !name.is_empty()).cloned().collect();
    names.truncate(MOST_NAMES);
    let mut params = CertificateParams::new(names.clone())?;
    params.distinguished_name = DistinguishedName::new();
    let common = names.iter().find(|name| name.len() <= MOST_COMMON_NAME).map_or("tracker", String::as_str);
    params.distinguished_name.push(DnType::CommonName, common);
    params.distinguished_name.push(DnType::OrganizationName, "tracker, self-signed");
    // Whoever trusts it trusts this host, and nobody that it could sign for.
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.serial_number = Some(serial()?);
    let at = |moment: Timestamp| {
        let moment = moment.to_zoned(jiff::tz::TimeZone::UTC);
        let [month, day] = [moment.month(), moment.day()].map(|part| u8::try_from(part).unwrap_or(1));
        rcgen::date_time_ymd(moment.year().into(), month, day)
    };
    params.not_before = at(now - BACKDATED);
    params.not_after = at(now + VALID_FOR);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    let secret = zeroize::Zeroizing::new(key.serialize_der());
    let (certificate, key) =
        (pem::encode("CERTIFICATE", certificate.der()), pem::encode("PRIVATE KEY", &secret));
    let mut both = Made::new(String::with_capacity(certificate.len() + key.len()));
    both.push_str(&certificate);
    both.push_str(&key);
    Ok(both)
}

/// Clients tell certificates of one issuer apart by it: it is never the same twice.
fn serial() -> Result<SerialNumber, rcgen::Error> {
    let mut bytes = [0; 16];
    let random = ring::rand::SystemRandom::new();
    ring::rand::SecureRandom::fill(&random, &mut bytes).map_err(|_| rcgen::Error::RingUnspecified)?;
    // It is positive (RFC 5280, section 4.1.2.2).
    bytes[0] = bytes[0] & 0x7F | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// On disk when this returns, all of it or nothing.
fn keep(directory: &Path, made: &str) -> io::Result<()> {
    let aside = directory.join(ASIDE);
    let written = || -> io::Result<()> {
        // One that was left there keeps the mode that it has.
        let _ = std::fs::remove_file(&aside);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(private::FILE).open(&aside)?;
        file.write_all(made.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&aside, directory.join(FILE))?;
        File::open(directory)?.sync_all()
    };
    written().inspect_err(|_| {
        let _ = std::fs::remove_file(&aside);
    })
}
