//! PEM files, as far as they can be trusted: of a bounded size, and files at all.

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::fcntl::OFlag;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::{CertificateError, Finding};

/// A chain of many certificates has some 20 KiB.
const MOST_BYTES: u64 = 1 << 20;
/// No client takes a longer chain.
const MOST_CERTIFICATES: usize = 32;

/// Who may read a private key without a word: its owner, and the members of its group (Debian's `ssl-cert`).
const TOO_OPEN: u32 = 0o027;

/// The certificates in a file, in their order.
pub(super) fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let wrong = |finding| CertificateError::new(path, finding);
    let (bytes, _) = read(path)?;
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(&bytes).take(MOST_CERTIFICATES + 1).collect();
    let chain = chain.map_err(|error| wrong(not_pem(&error)))?;
    if chain.is_empty() {
        return Err(wrong(if is_binary(&bytes) { Finding::Binary } else { Finding::NoCertificate }));
    }
    if chain.len() > MOST_CERTIFICATES {
        let why = format!("it holds more than {MOST_CERTIFICATES} certificates");
        return Err(wrong(Finding::NotPem(why)));
    }
    Ok(chain)
}

/// The private key in a file; and a warning where others may read it.
pub(super) fn key(path: &Path) -> Result<(PrivateKeyDer<'static>, Option<String>), CertificateError> {
    let wrong = |finding| CertificateError::new(path, finding);
    let (bytes, mode) = read(path)?;
    let key = match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(_) | Err(pem::Error::NoItemsFound) if is_encrypted(&bytes) => {
            return Err(wrong(Finding::Encrypted));
        }
        Ok(key) => key,
        Err(pem::Error::NoItemsFound) => {
            return Err(wrong(if is_binary(&bytes) { Finding::Binary } else { Finding::NoKey }));
        }
        Err(error) => return Err(wrong(not_pem(&error))),
    };
    let exposed = (mode & TOO_OPEN != 0).then(|| {
        format!(
            "the private key {} can be read or written by others (mode {:04o}): chmod 0600 it, and have the certificate \
             renewed with another key if that was so for long",
            path.display(),
            mode & 0o7777
        )
    });
    Ok((key, exposed))
}

/// The bytes of a file, wiped when they are dropped, and its mode.
fn read(path: &Path) -> Result<(Zeroizing<Vec<u8>>, u32), CertificateError> {
    let wrong = |finding| CertificateError::new(path, finding);
    let failed = |error: io::Error| {
        wrong(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Finding::Missing,
            io::ErrorKind::PermissionDenied => Finding::Forbidden(error.to_string()),
            _ => Finding::NotRead(error.to_string()),
        })
    };
    // Without it, opening a pipe waits for its other end.
    let opened = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let file = opened.map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.file_type().is_file() {
        return Err(wrong(Finding::NoFile));
    }
    // Made large enough at once: what a vector leaves behind when it grows is not wiped.
    let room = usize::try_from(meta.len().min(MOST_BYTES)).unwrap_or_default() + 2;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(wrong(Finding::TooLarge { most: MOST_BYTES }));
    }
    Ok((bytes, meta.mode()))
}

fn not_pem(error: &pem::Error) -> Finding {
    // The error itself may show a line of the file, and that may be a key's.
    Finding::NotPem(
        match error {
            pem::Error::MissingSectionEnd { .. } => "a section has no end",
            pem::Error::IllegalSectionStart { .. } => "a section's first line is wrong",
            pem::Error::Base64Decode(_) => "a section is not base64",
            _ => "it cannot be taken apart",
        }
        .to_owned(),
    )
}

fn is_encrypted(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let text = Zeroizing::new(text.into_owned());
    text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") || text.contains("Proc-Type: 4,ENCRYPTED")
}

/// DER and PKCS #12 begin with a SEQUENCE, and are no text.
fn is_binary(bytes: &[u8]) -> bool {
    bytes.first() == Some(&0x30) || str::from_utf8(bytes).is_err()
}
