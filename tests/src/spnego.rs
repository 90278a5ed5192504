//! Negotiate tokens put together by hand (RFC 4178), around what a real Kerberos library made.

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// Kerberos.
pub const KRB5: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02";
/// Kerberos by the number that Microsoft once gave it by mistake, and that Windows goes on sending.
pub const MS_KRB5: &[u8] = b"\x2a\x86\x48\x82\xf7\x12\x01\x02\x02";
/// NTLM.
pub const NTLM: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x0a";
const SPNEGO: &[u8] = b"\x2b\x06\x01\x05\x05\x02";

/// One DER value.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("a token is not that long").to_be_bytes();
    let head = match content.len() {
        0..0x80 => vec![tag, length[3]],
        0x80..0x100 => vec![tag, 0x81, length[3]],
        0x100..0x1_0000 => vec![tag, 0x82, length[2], length[3]],
        _ => vec![tag, 0x83, length[1], length[2], length[3]],
    };
    [&head, content].concat()
}

/// A mechanism's first token (RFC 2743, section 3.1).
fn token(mechanism: &[u8], content: &[u8]) -> Vec<u8> {
    der(0x60, &[&der(0x06, mechanism), content].concat())
}

/// The Kerberos token around an AP-REQ (RFC 4121, section 4.1).
#[must_use]
pub fn kerberos(ap_req: &[u8]) -> Vec<u8> {
    token(KRB5, &[&[0x01, 0x00], ap_req].concat())
}

/// A Kerberos token with a ticket for this name: of the right form, and encrypted with no key.
#[must_use]
pub fn ticket_for(service: &[u8]) -> Vec<u8> {
    let number = |value: u8| der(0x02, &[value]);
    let encrypted = der(0x30, &[der(0xa0, &number(18)), der(0xa2, &der(0x04, &[7; 64]))].concat());
    let name = der(0x30, &der(0x1b, service));
    let name = der(0x30, &[der(0xa0, &number(2)), der(0xa1, &name)].concat());
    let ticket = [
        der(0xa0, &number(5)),
        der(0xa1, &der(0x1b, b"EXAMPLE.TEST")),
        der(0xa2, &name),
        der(0xa3, &encrypted),
    ];
    let ticket = der(0x61, &der(0x30, &ticket.concat()));
    let request = [
        der(0xa0, &number(5)),
        der(0xa1, &number(14)),
        der(0xa2, &der(0x03, &[0; 5])),
        der(0xa3, &ticket),
        der(0xa4, &encrypted),
    ];
    kerberos(&der(0x6e, &der(0x30, &request.concat())))
}

/// A Kerberos token under Microsoft's number.
#[must_use]
pub fn by_the_legacy_number(kerberos: &[u8]) -> Vec<u8> {
    let at = kerberos.windows(KRB5.len()).position(|part| part == KRB5).expect("a Kerberos token");
    let mut token = kerberos.to_vec();
    token[at..at + KRB5.len()].copy_from_slice(MS_KRB5);
    token
}

/// The list of mechanisms that a client offers, which a checksum has to protect where the first is not the one that is used.
#[must_use]
pub fn offer(mechanisms: &[&[u8]]) -> Vec<u8> {
    let all: Vec<Vec<u8>> = mechanisms.iter().map(|mechanism| der(0x06, mechanism)).collect();
    der(0x30, &all.concat())
}

/// A client's first token: what it offers, and the token of the mechanism that it hopes for.
#[must_use]
pub fn first(mechanisms: &[&[u8]], hoped_for: Option<&[u8]>) -> Vec<u8> {
    let hoped_for = hoped_for.map(|token| der(0xa2, &der(0x04, token))).unwrap_or_default();
    let init = der(0x30, &[der(0xa0, &offer(mechanisms)), hoped_for].concat());
    token(SPNEGO, &der(0xa0, &init))
}

/// A client's next token: the one of the selected mechanism, and the checksum of the offer.
#[must_use]
pub fn next(selected: &[u8], mic: &[u8]) -> Vec<u8> {
    let parts = [der(0xa2, &der(0x04, selected)), der(0xa3, &der(0x04, mic))];
    der(0xa1, &der(0x30, &parts.concat()))
}

/// True if a gateway's token selects this mechanism.
#[must_use]
pub fn selects(answer: &[u8], mechanism: &[u8]) -> bool {
    let selected = der(0xa1, &der(0x06, mechanism));
    answer.first() == Some(&0xa1) && answer.windows(selected.len()).any(|part| part == selected)
}

/// A token as it stands in a header.
#[must_use]
pub fn encode(token: &[u8]) -> String {
    BASE64_STANDARD.encode(token)
}

/// The token that stands in a header as this.
///
/// # Errors
/// When it is not base64.
pub fn decode(token: &str) -> Result<Vec<u8>> {
    BASE64_STANDARD.decode(token).with_context(|| format!("no base64: {token:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_encoded_in_all_their_forms() {
        for (length, head) in [
            (0x7f, &b"\x04\x7f"[..]),
            (0x80, b"\x04\x81\x80"),
            (0x100, b"\x04\x82\x01\x00"),
            (0x1_0000, b"\x04\x83\x01\x00\x00"),
        ] {
            let value = der(0x04, &vec![7; length]);
            assert!(value.starts_with(head) && value.len() == head.len() + length, "{length:#x}");
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let token = first(&[NTLM, KRB5], None);
        assert_eq!(decode(&encode(&token)).unwrap(), token);
        assert!(decode("not base64").is_err());
    }
}
