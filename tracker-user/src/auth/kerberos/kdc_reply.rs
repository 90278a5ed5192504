//! What a KDC says in the clear (RFC 4120, section 5): its time in a refusal, and under which key a ticket is.

use jiff::{SignedDuration, Timestamp};

use super::ap_req::{Encrypted, time};
use super::der::{Der, Value, integer};

/// A message of a KDC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply<'a> {
    /// KRB-ERROR, with the KDC's time.
    Refusal(Timestamp),
    /// A ticket, in an AS-REP or a TGS-REP.
    Ticket {
        /// The version of the service's key; Active Directory counts it, other KDCs may leave it out.
        version: Option<u32>,
        /// The encryption type.
        enctype: i32,
        /// All of the ticket, DER.
        der: &'a [u8],
    },
}

const AS_REP: u8 = 0x6b;
const TGS_REP: u8 = 0x6d;
const KRB_ERROR: u8 = 0x7e;

/// Reads a message; `None` if it is another one, or none.
pub(super) fn read(message: &[u8]) -> Option<Reply<'_>> {
    let outer = Der::new(message).next()?;
    match outer.tag {
        KRB_ERROR => refusal(&outer),
        AS_REP | TGS_REP => ticket(field(&outer, 5)?.content),
        _ => None,
    }
}

/// `stime [4] KerberosTime, susec [5] Microseconds`
fn refusal<'a>(error: &Value<'a>) -> Option<Reply<'a>> {
    let seconds = time(field(error, 4)?.inside().next()?.content)?;
    let micros = field(error, 5).and_then(|field| field.inside().next());
    let micros = micros.map_or(0, |value| integer(value.content)).clamp(0, 999_999);
    Some(Reply::Refusal(seconds.checked_add(SignedDuration::from_micros(micros)).ok()?))
}

/// Ticket: `[APPLICATION 1] { [0] tkt-vno, [1] realm, [2] sname, [3] enc-part }`
fn ticket(der: &[u8]) -> Option<Reply<'_>> {
    let content = field(&Der::new(der).next()?, 3)?.inside().next()?;
    let Encrypted { version, enctype, .. } = Encrypted::parse(&content)?;
    Some(Reply::Ticket { version, enctype, der })
}

/// The field `[number]` of the sequence inside.
fn field<'a>(of: &Value<'a>, number: u8) -> Option<Value<'a>> {
    of.sequence().find(|value| value.tag == 0xa0 | number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let head = if length < 0x80 { vec![tag, length as u8] } else { vec![tag, 0x81, length as u8] };
        [head, content.to_vec()].concat()
    }

    fn seq(parts: &[Vec<u8>]) -> Vec<u8> {
        der(0x30, &parts.concat())
    }

    fn error() -> Vec<u8> {
        let fields = [
            der(0xa0, &der(2, &[5])),
            der(0xa1, &der(2, &[30])),
            der(0xa4, &der(0x18, b"20260731123456Z")),
            der(0xa5, &der(2, &[0x07, 0xa1, 0x20])),
            der(0xa6, &der(2, &[7])),
        ];
        der(KRB_ERROR, &seq(&fields))
    }

    fn reply(version: Option<u8>) -> (Vec<u8>, Vec<u8>) {
        let mut encrypted = vec![der(0xa0, &der(2, &[18]))];
        encrypted.extend(version.map(|version| der(0xa1, &der(2, &[version]))));
        encrypted.push(der(0xa2, &der(4, &[0; 40])));
        let ticket = der(0x61, &seq(&[der(0xa0, &der(2, &[5])), der(0xa3, &seq(&encrypted))]));
        (der(AS_REP, &seq(&[der(0xa1, &der(2, &[11])), der(0xa5, &ticket)])), ticket)
    }

    #[test]
    fn a_refusal_tells_the_time_and_a_ticket_its_key() {
        let at: Timestamp = "2026-07-31T12:34:56.5Z".parse().unwrap();
        assert_eq!(read(&error()), Some(Reply::Refusal(at)));
        let (message, der) = reply(Some(3));
        assert_eq!(read(&message), Some(Reply::Ticket { version: Some(3), enctype: 18, der: &der }));
        let (message, der) = reply(None);
        assert_eq!(read(&message), Some(Reply::Ticket { version: None, enctype: 18, der: &der }));
        assert_eq!(read(b""), None);
    }

    proptest! {
        #[test]
        fn no_message_is_too_bad(changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..6), refused in any::<bool>()) {
            let mut message = if refused { error() } else { reply(Some(3)).0 };
            for (at, byte) in changes {
                let at = at % message.len();
                message[at] = byte;
            }
            let _ = read(&message);
        }
    }
}
