//! Tokens of the Negotiate scheme (RFC 4559): out of base64, and looked at before GSSAPI sees them.

use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::der::Der;

/// The largest token that is looked at. A ticket with the groups of a large directory is 48 KiB.
pub const MAX_TOKEN: usize = 64 * 1024;

/// Some clients leave the padding out.
pub(in crate::auth) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why what follows `Negotiate` is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
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

/// The token that stands behind the scheme, in base64.
///
/// # Errors
/// When there is none, or one that is not looked at.
pub(in crate::auth) fn decode(encoded: &[u8]) -> Result<Vec<u8>, BadToken> {
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

/// Adds a token as it is sent in a field to `field`.
pub(in crate::auth) fn encode_into(token: &[u8], field: &mut String) {
    base64::engine::general_purpose::STANDARD.encode_string(token, field);
}

/// What a client's first token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// NTLM without a wrapper.
    Ntlm,
    /// SPNEGO (RFC 4178), the client's first.
    Spnego {
        /// Whether Kerberos is among the mechanisms it offers.
        kerberos: bool,
        /// Whether NTLM is, or its token is an NTLM message.
        ntlm: bool,
    },
    /// A continuation of SPNEGO.
    SpnegoResponse,
    /// Kerberos without a wrapper, under its own number.
    Krb5,
    /// The same under Microsoft's legacy number.
    MsKrb5,
    /// A GSSAPI token of some other mechanism.
    Other,
    /// No GSSAPI token.
    Garbage,
}

impl Kind {
    /// Every kind as metrics name it.
    pub(super) const LABELS: [&str; 9] = [
        "ntlm",
        "spnego",
        "spnego-ntlm",
        "spnego-other",
        "spnego-response",
        "krb5",
        "ms-krb5",
        "other",
        "garbage",
    ];

    /// As metrics name it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ntlm => "ntlm",
            Self::Spnego { kerberos: true, .. } => "spnego",
            Self::Spnego { kerberos: false, ntlm: true } => "spnego-ntlm",
            Self::Spnego { kerberos: false, ntlm: false } => "spnego-other",
            Self::SpnegoResponse => "spnego-response",
            Self::Krb5 => "krb5",
            Self::MsKrb5 => "ms-krb5",
            Self::Other => "other",
            Self::Garbage => "garbage",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ntlm => "NTLM",
            Self::Spnego { kerberos: true, ntlm: true } => "SPNEGO with Kerberos and NTLM",
            Self::Spnego { kerberos: true, ntlm: false } => "SPNEGO with Kerberos",
            Self::Spnego { kerberos: false, ntlm: true } => "SPNEGO with NTLM only",
            Self::Spnego { kerberos: false, ntlm: false } => "SPNEGO without Kerberos",
            Self::SpnegoResponse => "a SPNEGO response outside of a handshake",
            Self::Krb5 => "Kerberos",
            Self::MsKrb5 => "Kerberos under Microsoft's legacy number",
            Self::Other => "a token of an unknown mechanism",
            Self::Garbage => "no GSSAPI token at all",
        })
    }
}

/// What begins every NTLM message (MS-NLMP, section 2.2.1).
pub(super) const NTLMSSP: &[u8] = b"NTLMSSP\0";
pub(super) const OID_SPNEGO: &[u8] = b"\x2b\x06\x01\x05\x05\x02";
pub(super) const OID_KRB5: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
/// What Windows 2000 made of it by a slip, and its successors have kept (MS-SPNG).
pub(super) const OID_MS_KRB5: &[u8] = b"\x2a\x86\x48\x82\xf7\x12\x01\x02\x02";
pub(super) const OID_NTLM: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a";

/// Looks at what a token is wrapped in (RFC 2743, section 3.1: `[APPLICATION 0] { mechanism, its token }`).
#[must_use]
pub fn triage(token: &[u8]) -> Kind {
    if token.starts_with(NTLMSSP) {
        return Kind::Ntlm;
    }
    match Der::new(token).next() {
        Some(outer) if outer.tag == 0xa1 => Kind::SpnegoResponse,
        Some(outer) if outer.tag == 0x60 => {
            let mut inside = outer.inside();
            match inside.next() {
                Some(mechanism) if mechanism.tag == 0x06 => match mechanism.content {
                    OID_SPNEGO => spnego(inside.rest()),
                    OID_KRB5 => Kind::Krb5,
                    OID_MS_KRB5 => Kind::MsKrb5,
                    _ => Kind::Other,
                },
                _ => Kind::Garbage,
            }
        }
        _ => Kind::Garbage,
    }
}

/// Whether a later token of a handshake is NTLM's: `[1] { …, [2] responseToken, … }` (RFC 4178, section 4.2.2).
#[must_use]
pub(super) fn goes_on_with_ntlm(token: &[u8]) -> bool {
    let Some(choice) = Der::new(token).next().filter(|choice| choice.tag == 0xa1) else { return false };
    let response = choice.sequence().find(|field| field.tag == 0xa2).and_then(|field| field.inside().next());
    response.is_some_and(|inner| inner.content.starts_with(NTLMSSP))
}

/// What a NegTokenInit offers: `[0] { [0] mechTypes, [1] reqFlags, [2] mechToken, … }`
fn spnego(token: &[u8]) -> Kind {
    let (mut offers, mut kerberos, mut ntlm) = (false, false, false);
    let Some(choice) = Der::new(token).next().filter(|choice| choice.tag == 0xa0) else {
        return Kind::Garbage;
    };
    for field in choice.sequence() {
        match field.tag {
            0xa0 => {
                for oid in field.sequence() {
                    offers = true;
                    kerberos |= matches!(oid.content, OID_KRB5 | OID_MS_KRB5);
                    ntlm |= oid.content == OID_NTLM;
                }
            }
            0xa2 => ntlm |= field.inside().next().is_some_and(|inner| inner.content.starts_with(NTLMSSP)),
            _ => {}
        }
    }
    if offers || ntlm { Kind::Spnego { kerberos, ntlm } } else { Kind::Garbage }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        [&[tag, 0x82, (content.len() >> 8) as u8, content.len() as u8], content].concat()
    }

    fn wrapped(oid: &[u8], body: &[u8]) -> Vec<u8> {
        der(0x60, &[&[0x06, oid.len() as u8], oid, body].concat())
    }

    fn offering(mechanisms: &[&[u8]], token: &[u8]) -> Vec<u8> {
        let list: Vec<u8> = mechanisms.iter().flat_map(|oid| der(0x06, oid)).collect();
        let init = [der(0xa0, &der(0x30, &list)), der(0xa2, &der(0x04, token))].concat();
        wrapped(OID_SPNEGO, &der(0xa0, &der(0x30, &init)))
    }

    #[test]
    fn triage_tells_tokens_apart() {
        const NEGOTIATE: &[u8] = b"NTLMSSP\0\x01\0\0\0";
        let spnego = |kerberos, ntlm| Kind::Spnego { kerberos, ntlm };
        assert_eq!(triage(NEGOTIATE), Kind::Ntlm);
        assert_eq!(triage(&offering(&[OID_KRB5], b"x")), spnego(true, false));
        assert_eq!(triage(&offering(&[OID_MS_KRB5, OID_NTLM], b"x")), spnego(true, true));
        assert_eq!(triage(&offering(&[OID_KRB5], NEGOTIATE)), spnego(true, true));
        assert_eq!(triage(&offering(&[OID_NTLM], NEGOTIATE)), spnego(false, true));
        assert_eq!(triage(&offering(&[b"\x2a\x03"], b"x")), spnego(false, false));
        assert_eq!(triage(&wrapped(OID_KRB5, b"\x01\0")), Kind::Krb5);
        assert_eq!(triage(&wrapped(OID_MS_KRB5, b"\x01\0")), Kind::MsKrb5);
        assert_eq!(triage(&wrapped(b"\x2a\x03", b"")), Kind::Other);
        assert_eq!(triage(b"\xa1\x03abc"), Kind::SpnegoResponse);
        let response = |token: &[u8]| der(0xa1, &der(0x30, &der(0xa2, &der(0x04, token))));
        assert!(goes_on_with_ntlm(&response(NEGOTIATE)) && !goes_on_with_ntlm(&response(b"x")));
        assert!(!goes_on_with_ntlm(NEGOTIATE));
        for garbage in [
            &b""[..],
            b"hello",
            b"\x60",
            b"\x60\xff",
            b"\x60\x84\xff\xff\xff\xff",
            b"\x60\x05\x06\x7f",
            b"\x60\x08\x06\x06\x2b\x06\x01\x05\x05\x02",
        ] {
            assert_eq!(triage(garbage), Kind::Garbage, "{garbage:?}");
        }
    }
}
