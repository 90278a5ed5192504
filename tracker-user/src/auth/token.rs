//! Tokens as clients send them: taken out of their header, and looked at before GSSAPI sees them.

use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The largest token that is looked at. A ticket with the groups of a large directory is 48 KiB.
pub const MAX_TOKEN: usize = 64 * 1024;

/// Some clients leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why credentials hold no token for us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// Another scheme.
    #[error("the scheme {0:?} was used, which is not offered")]
    NotNegotiate(String),
    /// No token after the scheme.
    #[error("the Negotiate token is empty")]
    Empty,
    /// Not base64.
    #[error("the Negotiate token is not base64")]
    NotBase64,
    /// More than [`MAX_TOKEN`].
    #[error("the Negotiate token is larger than {} KiB", MAX_TOKEN / 1024)]
    TooLarge,
}

/// The token in the value of an `Authorization` or `Proxy-Authorization` field: `Negotiate token68`.
///
/// # Errors
/// When there is none, or one that is not looked at.
pub fn parse(credentials: &[u8]) -> Result<Vec<u8>, BadToken> {
    let credentials = credentials.trim_ascii();
    let end = credentials.iter().position(u8::is_ascii_whitespace).unwrap_or(credentials.len());
    let (scheme, encoded) = credentials.split_at_checked(end).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(b"Negotiate") {
        // The rest may be a password: only the scheme's name may be shown.
        let name: String = scheme
            .iter()
            .take(16)
            .map(|&b| if b.is_ascii_alphanumeric() || b == b'-' { char::from(b) } else { '?' })
            .collect();
        return Err(BadToken::NotNegotiate(name));
    }
    let encoded = encoded.trim_ascii();
    if encoded.is_empty() {
        return Err(BadToken::Empty);
    }
    if encoded.len() > MAX_TOKEN.div_ceil(3) * 4 {
        return Err(BadToken::TooLarge);
    }
    let token = BASE64.decode(encoded).map_err(|_| BadToken::NotBase64)?;
    match token.len() {
        0 => Err(BadToken::Empty),
        length if length > MAX_TOKEN => Err(BadToken::TooLarge),
        _ => Ok(token),
    }
}

/// A token as it is sent in a header.
#[must_use]
pub fn encode(token: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(token)
}

/// What a client's first token is, as far as its first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// NTLM without a wrapper.
    Ntlm,
    /// SPNEGO; `ntlm` if an NTLM message is in it.
    Spnego {
        /// Whether an NTLM message is in it.
        ntlm: bool,
    },
    /// A continuation of SPNEGO.
    SpnegoResponse,
    /// Kerberos without a wrapper, under its own or Microsoft's legacy number.
    Krb5,
    /// A GSSAPI token of some other mechanism.
    Other,
    /// No GSSAPI token.
    Garbage,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ntlm => "NTLM",
            Self::Spnego { ntlm: true } => "SPNEGO with NTLM",
            Self::Spnego { ntlm: false } => "SPNEGO",
            Self::SpnegoResponse => "a SPNEGO response",
            Self::Krb5 => "Kerberos",
            Self::Other => "an unknown mechanism",
            Self::Garbage => "not a GSSAPI token",
        })
    }
}

const NTLMSSP: &[u8] = b"NTLMSSP\0";
const OID_SPNEGO: &[u8] = b"\x2b\x06\x01\x05\x05\x02";
const OID_KRB5: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
const OID_MS_KRB5: &[u8] = b"\x2a\x86\x48\x82\xf7\x12\x01\x02\x02";

/// Looks at a token's first bytes.
#[must_use]
pub fn triage(token: &[u8]) -> Kind {
    if token.starts_with(NTLMSSP) {
        return Kind::Ntlm;
    }
    match token.first() {
        Some(0xa1) => Kind::SpnegoResponse,
        // RFC 2743, section 3.1: [APPLICATION 0], a DER length, an object identifier, the mechanism's own.
        Some(0x60) => match mechanism(token) {
            Some(OID_SPNEGO) => Kind::Spnego { ntlm: contains_ntlm(token) },
            Some(OID_KRB5 | OID_MS_KRB5) => Kind::Krb5,
            Some(_) => Kind::Other,
            None => Kind::Garbage,
        },
        _ => Kind::Garbage,
    }
}

fn mechanism(token: &[u8]) -> Option<&[u8]> {
    let length_of_length = match token.get(1)? {
        short if *short < 0x80 => 0,
        long => usize::from(long & 0x7f),
    };
    let rest = token.get(2 + length_of_length..)?;
    match rest {
        [0x06, length, rest @ ..] if *length < 0x80 => rest.get(..usize::from(*length)),
        _ => None,
    }
}

fn contains_ntlm(token: &[u8]) -> bool {
    token.windows(NTLMSSP.len()).any(|window| window == NTLMSSP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_taken_out_of_their_header() {
        assert_eq!(parse(b"Negotiate YWJj").unwrap(), b"abc");
        assert_eq!(parse(b"nEGOTIATE   YWJjZA==  ").unwrap(), b"abcd");
        assert_eq!(parse(b"Negotiate YWJjZA").unwrap(), b"abcd");
        assert_eq!(parse(b"Negotiate"), Err(BadToken::Empty));
        assert_eq!(parse(b""), Err(BadToken::NotNegotiate(String::new())));
        assert_eq!(parse(b"Negotiate  "), Err(BadToken::Empty));
        assert_eq!(parse(b"Negotiate ===="), Err(BadToken::NotBase64));
        for bad in ["Negotiate a b", "Negotiate YW\u{e9}j", "Negotiate YWJj, Basic x", "Negotiate YW-j"] {
            assert_eq!(parse(bad.as_bytes()), Err(BadToken::NotBase64), "{bad}");
        }
    }

    #[test]
    fn only_the_name_of_another_scheme_is_shown() {
        assert_eq!(parse(b"Basic c2VjcmV0"), Err(BadToken::NotNegotiate("Basic".into())));
        assert_eq!(parse(b"\x1b[31m x"), Err(BadToken::NotNegotiate("??31m".into())));
    }

    #[test]
    fn the_largest_token_passes_and_one_byte_more_does_not() {
        let header = |size| format!("Negotiate {}", encode(&vec![7; size]));
        assert_eq!(parse(header(MAX_TOKEN).as_bytes()).unwrap().len(), MAX_TOKEN);
        assert_eq!(parse(header(MAX_TOKEN + 1).as_bytes()), Err(BadToken::TooLarge));
        assert_eq!(parse(header(4 * MAX_TOKEN).as_bytes()), Err(BadToken::TooLarge));
    }

    fn wrapped(oid: &[u8], body: &[u8]) -> Vec<u8> {
        let inner = [&[0x06, oid.len() as u8], oid, body].concat();
        [&[0x60, 0x82, (inner.len() >> 8) as u8, inner.len() as u8], inner.as_slice()].concat()
    }

    #[test]
    fn triage_tells_tokens_apart() {
        assert_eq!(triage(b"NTLMSSP\0\x01\0\0\0"), Kind::Ntlm);
        assert_eq!(triage(&wrapped(OID_SPNEGO, b"\xa0\x03")), Kind::Spnego { ntlm: false });
        assert_eq!(triage(&wrapped(OID_SPNEGO, b"\xa0NTLMSSP\0")), Kind::Spnego { ntlm: true });
        assert_eq!(triage(&wrapped(OID_KRB5, b"\x01\0")), Kind::Krb5);
        assert_eq!(triage(&wrapped(OID_MS_KRB5, b"\x01\0")), Kind::Krb5);
        assert_eq!(triage(&wrapped(b"\x2a\x03", b"")), Kind::Other);
        assert_eq!(triage(b"\x60\x08\x06\x06\x2b\x06\x01\x05\x05\x02"), Kind::Spnego { ntlm: false });
        assert_eq!(triage(b"\xa1\x03"), Kind::SpnegoResponse);
        for garbage in
            [&b""[..], b"hello", b"\x60", b"\x60\xff", b"\x60\x84\xff\xff\xff\xff", b"\x60\x05\x06\x7f"]
        {
            assert_eq!(triage(garbage), Kind::Garbage, "{garbage:?}");
        }
    }
}
