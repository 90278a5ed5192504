//! What a Negotiate token says in the clear: for people who look for the reason why a browser is not let in.
//!
//! RFC 2743 (the GSSAPI wrapper), RFC 4178 (SPNEGO), RFC 4121 and 4120 (Kerberos), MS-NLMP (NTLM). Nothing is verified
//! here, and nothing that is encrypted is shown.

use serde::{Deserialize, Serialize};

use super::ap_req::{ApReq, Encrypted};
use super::der::{Der, Value};
use super::enctype;
use super::token::{NTLMSSP, OID_KRB5, OID_MS_KRB5, OID_NTLM, OID_SPNEGO};

/// One line of the explanation, and what belongs under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What is explained.
    pub what: String,
    /// What it is.
    pub is: String,
    /// Details.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Line>,
}

impl Line {
    fn new(what: &str, is: impl Into<String>) -> Self {
        Self { what: what.into(), is: is.into(), details: Vec::new() }
    }

    fn with(what: &str, is: impl Into<String>, details: Vec<Self>) -> Self {
        Self { what: what.into(), is: is.into(), details }
    }
}

const OID_KRB5_U2U: &[u8] = b"\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\x03";
const OID_NEGOEX: &[u8] = b"\x2b\x06\x01\x04\x01\x82\x37\x02\x02\x1e";

/// Explains a token, and what follows from it for this gateway.
#[must_use]
pub fn explain(token: &[u8]) -> Vec<Line> {
    let mut lines = vec![Line::new("size", format!("{} bytes", token.len()))];
    let (line, verdict) = mechanism_token(token);
    lines.push(line);
    lines.push(Line::new("verdict", verdict));
    lines
}

const GARBAGE: &str = "this is no token of any mechanism; was it copied whole?";
const NTLM_ONLY: &str = "NTLM, which is refused: the client has no Kerberos ticket for the proxy. Is it in the realm, does it use \
                         the proxy's full name rather than its address, and does the KDC know HTTP/<that name>?";
const KERBEROS: &str = "Kerberos: accepted if the keytab has the service's key below, the clocks agree, and it was not used before";

fn mechanism_token(token: &[u8]) -> (Line, &'static str) {
    if token.starts_with(NTLMSSP) {
        return (ntlm(token), NTLM_ONLY);
    }
    let Some(outer) = Der::new(token).next() else { return (Line::new("token", "not DER"), GARBAGE) };
    match outer.tag {
        0x60 => wrapped(&outer),
        0xa1 => (
            negotiation_response(&outer),
            "the answer to a server's token: it makes sense only inside its handshake",
        ),
        0xa0 => negotiation_init(&outer),
        0x6e => (ap_req(&outer), KERBEROS),
        _ => (Line::new("token", format!("DER with the unexpected tag {:#04x}", outer.tag)), GARBAGE),
    }
}

/// `[APPLICATION 0] { thisMech, innerToken }`
fn wrapped(outer: &Value<'_>) -> (Line, &'static str) {
    let mut inside = outer.inside();
    let Some(mechanism) = inside.next().filter(|value| value.tag == 0x06) else {
        return (Line::new("token", "a GSSAPI wrapper without a mechanism"), GARBAGE);
    };
    let rest = inside.rest();
    match mechanism.content {
        OID_SPNEGO => match Der::new(rest).next() {
            Some(choice) if choice.tag == 0xa0 => negotiation_init(&choice),
            Some(choice) if choice.tag == 0xa1 => (
                negotiation_response(&choice),
                "the answer to a server's token: it makes sense only inside its handshake",
            ),
            _ => (Line::new("token", "SPNEGO without a negotiation"), GARBAGE),
        },
        OID_KRB5 | OID_MS_KRB5 => {
            let line = Line::with("token", name(mechanism.content), vec![kerberos(rest)]);
            (line, KERBEROS)
        }
        other => (
            Line::new("token", format!("mechanism {}", name(other))),
            "a mechanism that is not accepted here",
        ),
    }
}

/// NegTokenInit: `{ [0] mechTypes, [1] reqFlags, [2] mechToken, [3] mechListMIC }`
fn negotiation_init(choice: &Value<'_>) -> (Line, &'static str) {
    let mut details = Vec::new();
    let (mut kerberos_offered, mut first_is_kerberos, mut is_ntlm) = (false, None, false);
    for field in choice.sequence() {
        match field.tag {
            0xa0 => {
                let mechanisms: Vec<&[u8]> = field.sequence().map(|oid| oid.content).collect();
                for oid in &mechanisms {
                    let is_kerberos = matches!(*oid, OID_KRB5 | OID_MS_KRB5);
                    kerberos_offered |= is_kerberos;
                    first_is_kerberos.get_or_insert(is_kerberos);
                    details.push(Line::new("offers", name(oid)));
                }
            }
            0xa2 => {
                let Some(inner) = field.inside().next() else { continue };
                is_ntlm = inner.content.starts_with(NTLMSSP);
                let (line, _) = mechanism_token(inner.content);
                details.push(Line { what: "mechanism's token".into(), ..line });
            }
            0xa3 => details.push(Line::new("mechListMIC", format!("{} bytes", field.content.len()))),
            _ => {}
        }
    }
    let verdict = match (kerberos_offered, first_is_kerberos, is_ntlm) {
        (true, Some(true), false) => KERBEROS,
        (true, _, false) => "Kerberos is offered, but not first: one more round trip selects it",
        (true, _, true) => {
            "Kerberos is offered, but the token is NTLM's: one more round trip asks for Kerberos"
        }
        (false, ..) => NTLM_ONLY,
    };
    (Line::with("token", "SPNEGO, the client's first", details), verdict)
}

/// NegTokenResp: `{ [0] negState, [1] supportedMech, [2] responseToken, [3] mechListMIC }`
fn negotiation_response(choice: &Value<'_>) -> Line {
    let mut details = Vec::new();
    for field in choice.sequence() {
        let Some(inner) = field.inside().next() else { continue };
        match field.tag {
            0xa0 => {
                let state = match inner.content {
                    [0] => "accept-completed",
                    [1] => "accept-incomplete",
                    [2] => "reject",
                    [3] => "request-mic",
                    _ => "unknown",
                };
                details.push(Line::new("state", state));
            }
            0xa1 => details.push(Line::new("selected", name(inner.content))),
            0xa2 => {
                let (line, _) = mechanism_token(inner.content);
                details.push(Line { what: "mechanism's token".into(), ..line });
            }
            _ => {}
        }
    }
    Line::with("token", "SPNEGO, an answer", details)
}

/// RFC 4121, section 4.1: two bytes that say which message follows.
fn kerberos(token: &[u8]) -> Line {
    match token {
        [0x01, 0x00, rest @ ..] => match Der::new(rest).next() {
            Some(message) if message.tag == 0x6e => ap_req(&message),
            _ => Line::new("message", "AP-REQ that cannot be read"),
        },
        [0x02, 0x00, ..] => Line::new("message", "AP-REP: the server's proof"),
        [0x03, 0x00, ..] => Line::new("message", "KRB-ERROR"),
        _ => Line::new("message", "an unknown Kerberos message"),
    }
}

fn ap_req(message: &Value<'_>) -> Line {
    let Some(request) = ApReq::parse(message) else {
        return Line::new("message", "AP-REQ that cannot be read");
    };
    let mut details = vec![
        Line::new("service", request.service.as_str()),
        Line::new("ticket", encrypted(&request.ticket)),
        Line::new("authenticator", encrypted(&request.authenticator)),
    ];
    details.push(Line::new(
        "channel bindings",
        "inside the authenticator; where they fit, trackerctl explain CLIENT shows the flag channel-bound",
    ));
    if request.wants_proof {
        details.push(Line::new("mutual authentication", "the client wants the gateway's proof"));
    }
    Line::with("message", "AP-REQ: a ticket and the proof of its holder", details)
}

fn encrypted(data: &Encrypted<'_>) -> String {
    let version = data.version.map(|version| format!(", key version {version}")).unwrap_or_default();
    format!("encrypted with {}{version}, {} bytes", enctype::in_words(data.enctype), data.cipher.len())
}

/// NTLMSSP: a signature, a little-endian message type.
fn ntlm(token: &[u8]) -> Line {
    let kind = match token.get(NTLMSSP.len()) {
        Some(1) => "NEGOTIATE",
        Some(2) => "CHALLENGE",
        Some(3) => "AUTHENTICATE",
        _ => "of an unknown kind",
    };
    Line::new("token", format!("NTLM {kind} message"))
}

fn name(oid: &[u8]) -> String {
    let known = match oid {
        OID_KRB5 => "Kerberos 5",
        OID_MS_KRB5 => "Kerberos 5 (Microsoft's legacy number)",
        OID_KRB5_U2U => "Kerberos 5 user to user",
        OID_NTLM => "NTLM",
        OID_NEGOEX => "NegoEx",
        OID_SPNEGO => "SPNEGO",
        other => return dotted(other),
    };
    known.to_owned()
}

/// An object identifier in dots (X.690, section 8.19).
fn dotted(oid: &[u8]) -> String {
    let mut parts = Vec::new();
    let mut value: u64 = 0;
    for byte in oid {
        value = (value << 7) | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            if parts.is_empty() {
                let first = (value / 40).min(2);
                parts.push(first);
                parts.push(value - first * 40);
            } else {
                parts.push(value);
            }
            value = 0;
        }
    }
    parts.iter().map(u64::to_string).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One DER value.
    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let head = match length {
            0..0x80 => vec![tag, length as u8],
            0x80..0x100 => vec![tag, 0x81, length as u8],
            _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
        };
        [head, content.to_vec()].concat()
    }

    fn seq(parts: &[Vec<u8>]) -> Vec<u8> {
        der(0x30, &parts.concat())
    }

    fn ap_req_token() -> Vec<u8> {
        let encrypted = seq(&[
            der(0xa0, &der(0x02, &[18])),
            der(0xa1, &der(0x02, &[3])),
            der(0xa2, &der(0x04, &[0; 200])),
        ]);
        let names = seq(&[der(0x1b, b"HTTP"), der(0x1b, b"proxy.example.test")]);
        let ticket = der(
            0x61,
            &seq(&[
                der(0xa0, &der(0x02, &[5])),
                der(0xa1, &der(0x1b, b"EXAMPLE.TEST")),
                der(0xa2, &seq(&[der(0xa0, &der(0x02, &[1])), der(0xa1, &names)])),
                der(0xa3, &encrypted),
            ]),
        );
        let message = der(
            0x6e,
            &seq(&[
                der(0xa0, &der(0x02, &[5])),
                der(0xa1, &der(0x02, &[14])),
                der(0xa2, &der(0x03, &[0, 0x20, 0, 0, 0])),
                der(0xa3, &ticket),
                der(0xa4, &encrypted),
            ]),
        );
        der(0x60, &[der(0x06, OID_KRB5), vec![1, 0], message].concat())
    }

    fn spnego(mechanisms: &[&[u8]], token: &[u8]) -> Vec<u8> {
        let list = seq(&mechanisms.iter().map(|oid| der(0x06, oid)).collect::<Vec<_>>());
        let init = seq(&[der(0xa0, &list), der(0xa2, &der(0x04, token))]);
        der(0x60, &[der(0x06, OID_SPNEGO), der(0xa0, &init)].concat())
    }

    fn said(lines: &[Line]) -> String {
        lines.iter().map(|line| format!("{}: {}\n{}", line.what, line.is, said(&line.details))).collect()
    }

    #[test]
    fn a_kerberos_ticket_names_its_service_key_and_wish() {
        let said = said(&explain(&spnego(&[OID_MS_KRB5, OID_KRB5, OID_NTLM], &ap_req_token())));
        for part in [
            "offers: Kerberos 5 (Microsoft's legacy number)\n",
            "offers: NTLM\n",
            "service: HTTP/proxy.example.test@EXAMPLE.TEST\n",
            "ticket: encrypted with aes256-cts-hmac-sha1-96, key version 3, 200 bytes\n",
            "channel bindings: inside the authenticator",
            "mutual authentication: ",
            "verdict: Kerberos: accepted if",
        ] {
            assert!(said.contains(part), "{part:?} in\n{said}");
        }
    }

    #[test]
    fn ntlm_is_recognised_in_every_wrapping() {
        for token in [b"NTLMSSP\0\x01\0\0\0".to_vec(), spnego(&[OID_NTLM], b"NTLMSSP\0\x01\0\0\0")] {
            let said = said(&explain(&token));
            assert!(
                said.contains("NTLM NEGOTIATE message") && said.contains("verdict: NTLM, which is refused"),
                "{said}"
            );
        }
        let mixed = said(&explain(&spnego(&[OID_NTLM, OID_KRB5], b"NTLMSSP\0\x01\0\0\0")));
        assert!(mixed.contains("one more round trip asks for Kerberos"), "{mixed}");
    }

    #[test]
    fn unknown_mechanisms_are_shown_in_dots() {
        assert_eq!(dotted(OID_NTLM), "1.3.6.1.4.1.311.2.2.10");
        assert_eq!(dotted(b"\x2a\x86\x48"), "1.2.840");
    }

    proptest! {
        #[test]
        fn no_token_is_too_bad_to_be_explained(token in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(explain(&token).len() >= 3);
        }

        #[test]
        fn nor_is_a_good_one_with_some_bytes_changed(changes in prop::collection::vec((0..600_usize, any::<u8>()), 1..6)) {
            let mut token = spnego(&[OID_MS_KRB5, OID_KRB5], &ap_req_token());
            for (at, byte) in changes {
                let at = at % token.len();
                token[at] = byte;
            }
            prop_assert!(explain(&token).len() >= 3);
        }
    }
}
