//! DER as PEM (RFC 7468).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

/// A line has so many characters, which stand for 48 bytes.
const LINE: usize = 64;

/// One section, with its label as `CERTIFICATE`. It may be a private key: it is wiped when it is dropped.
pub(in crate::net) fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    // Made large enough at once: what a string leaves behind when it grows is not wiped.
    let mut text = Zeroizing::new(String::with_capacity(der.len() * 3 / 2 + 2 * label.len() + 64));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    for line in der.chunks(LINE / 4 * 3) {
        BASE64_STANDARD.encode_string(line, &mut text);
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(der in prop::collection::vec(any::<u8>(), 0..300)) {
            let text = encode("CERTIFICATE", &der);
            prop_assert!(text.lines().all(|line| line.len() <= LINE));
            let read = CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
            prop_assert_eq!(read.as_ref(), der);
        }
    }
}
