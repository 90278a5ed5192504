//! What a Kerberos token says (RFC 4120): in the clear, and, for whoever has the keys, inside.
//!
//! Nothing is verified here. That is GSSAPI's; this is for telling operators what was accepted, and why what was not.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::der::{Der, Value, integer};
use super::token::{OID_KRB5, OID_MS_KRB5, OID_SPNEGO};
use crate::outside;

/// Key usage numbers (RFC 4120, section 7.5.1).
pub(super) const USAGE_TICKET: i32 = 2;
pub(super) const USAGE_AUTHENTICATOR: i32 = 11;

/// A ticket and the proof of its holder, as they are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApReq<'a> {
    /// Whom the ticket is for, `HTTP/proxy.example.test@EXAMPLE.TEST`.
    pub(super) service: String,
    /// How many bytes that takes in the ticket: it may have been too long to be shown whole.
    pub(super) service_bytes: usize,
    /// Encrypted with the service's key.
    pub(super) ticket: Encrypted<'a>,
    /// Encrypted with the session key.
    pub(super) authenticator: Encrypted<'a>,
    /// The client wants the gateway's proof.
    pub(super) wants_proof: bool,
}

/// EncryptedData: `{ [0] etype, [1] kvno OPTIONAL, [2] cipher }`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Encrypted<'a> {
    /// The encryption type's number (RFC 3961).
    pub(super) enctype: i32,
    /// The key's version, where there is one.
    pub(super) version: Option<u32>,
    pub(super) cipher: &'a [u8],
}

impl<'a> ApReq<'a> {
    /// The one in a client's token, whichever way it is wrapped; `None` if there is none that can be read.
    pub(super) fn in_token(token: &'a [u8]) -> Option<Self> {
        let mut token = token;
        // SPNEGO around GSSAPI around the message: three layers, and no honest client has more.
        for _ in 0..4 {
            let outer = Der::new(token).next()?;
            match outer.tag {
                0x60 => {
                    let mut inside = outer.inside();
                    let mechanism = inside.next().filter(|value| value.tag == 0x06)?;
                    match mechanism.content {
                        OID_SPNEGO => token = inside.rest(),
                        // RFC 4121, section 4.1: two bytes that say which message follows.
                        OID_KRB5 | OID_MS_KRB5 => token = inside.rest().strip_prefix(&[1, 0])?,
                        _ => return None,
                    }
                }
                // NegTokenInit and NegTokenResp (RFC 4178) have the mechanism's token in the same place.
                0xa0 | 0xa1 => {
                    let field = outer.sequence().find(|field| field.tag == 0xa2)?;
                    token = field.inside().next()?.content;
                }
                0x6e => return Self::parse(&outer),
                _ => return None,
            }
        }
        None
    }

    /// `[APPLICATION 14] { [0] pvno, [1] msg-type, [2] ap-options, [3] ticket, [4] authenticator }`
    pub(super) fn parse(message: &Value<'a>) -> Option<Self> {
        let (mut wants_proof, mut ticket, mut authenticator) = (false, None, None);
        for field in message.sequence() {
            let inner = field.inside().next()?;
            match field.tag {
                // The first byte of a BIT STRING counts the unused bits; mutual-required is bit 2.
                0xa2 => wants_proof = inner.content.get(1).is_some_and(|bits| bits & 0x20 != 0),
                0xa3 => ticket = parse_ticket(&inner),
                0xa4 => authenticator = Encrypted::parse(&inner),
                _ => {}
            }
        }
        let (service, service_bytes, ticket) = ticket?;
        Some(Self { service, service_bytes, ticket, authenticator: authenticator?, wants_proof })
    }
}

/// Ticket: `[APPLICATION 1] { [0] tkt-vno, [1] realm, [2] sname, [3] enc-part }`
fn parse_ticket<'a>(ticket: &Value<'a>) -> Option<(String, usize, Encrypted<'a>)> {
    let (mut realm, mut name, mut content, mut length) = (None, None, None, 0_usize);
    for field in ticket.sequence() {
        let inner = field.inside().next()?;
        if matches!(field.tag, 0xa1 | 0xa2) {
            length += inner.content.len();
        }
        match field.tag {
            0xa1 => realm = Some(text(inner.content)),
            0xa2 => name = Some(principal_name(&inner)),
            0xa3 => content = Encrypted::parse(&inner),
            _ => {}
        }
    }
    Some((format!("{}@{}", name?, realm?), length, content?))
}

impl<'a> Encrypted<'a> {
    pub(super) fn parse(data: &Value<'a>) -> Option<Self> {
        let (mut enctype, mut version, mut cipher) = (None, None, None);
        for field in data.inside() {
            let inner = field.inside().next()?;
            match field.tag {
                0xa0 => enctype = i32::try_from(integer(inner.content)).ok(),
                // The field is of 32 bits, and so negative in some encoders' hands.
                0xa1 => version = Some(integer(inner.content) as u32),
                0xa2 => cipher = Some(inner.content),
                _ => {}
            }
        }
        Some(Self { enctype: enctype?, version, cipher: cipher? })
    }
}

/// The inside of a ticket.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct TicketPart {
    /// Whose it is.
    pub(super) client: String,
    /// TicketFlags (RFC 4120, section 5.3), the first flag in the highest bit.
    pub(super) flags: u32,
    /// The key that client and service share from now on: its encryption type and the key.
    pub(super) session_enctype: i32,
    pub(super) session_key: Vec<u8>,
    /// When the client proved itself to the KDC.
    pub(super) authenticated: Option<Timestamp>,
    /// When the ticket begins to be valid, where that is said.
    pub(super) starts: Option<Timestamp>,
    /// When it ends.
    pub(super) ends: Option<Timestamp>,
    /// Until when it can be renewed, if it can be.
    pub(super) renewable_until: Option<Timestamp>,
}

impl TicketPart {
    /// `[APPLICATION 3] { [0] flags, [1] key, [2] crealm, [3] cname, [4] transited, [5] authtime, [6] starttime OPTIONAL,
    /// [7] endtime, [8] renew-till OPTIONAL, … }`
    pub(super) fn parse(plain: &[u8]) -> Option<Self> {
        let outer = Der::new(plain).next().filter(|outer| outer.tag == 0x63)?;
        let mut part = Self {
            client: String::new(),
            flags: 0,
            session_enctype: 0,
            session_key: Vec::new(),
            authenticated: None,
            starts: None,
            ends: None,
            renewable_until: None,
        };
        let (mut name, mut realm) = (String::new(), String::new());
        for field in outer.sequence() {
            let inner = field.inside().next()?;
            match field.tag {
                0xa0 => {
                    let bits = inner.content.get(1..).unwrap_or_default();
                    part.flags = (0..4)
                        .fold(0, |flags, at| (flags << 8) | u32::from(bits.get(at).copied().unwrap_or(0)));
                }
                0xa1 => {
                    for field in inner.inside() {
                        let inner = field.inside().next()?;
                        match field.tag {
                            0xa0 => part.session_enctype = i32::try_from(integer(inner.content)).ok()?,
                            0xa1 => part.session_key = inner.content.to_vec(),
                            _ => {}
                        }
                    }
                }
                0xa2 => realm = text(inner.content),
                0xa3 => name = principal_name(&inner),
                0xa5 => part.authenticated = time(inner.content),
                0xa6 => part.starts = time(inner.content),
                0xa7 => part.ends = time(inner.content),
                0xa8 => part.renewable_until = time(inner.content),
                _ => {}
            }
        }
        part.client = format!("{name}@{realm}");
        Some(part)
    }
}

/// When an authenticator was made, by the clock of the client: `[APPLICATION 2] { …, [4] cusec, [5] ctime, … }`
pub(super) fn authenticator_time(plain: &[u8]) -> Option<Timestamp> {
    let outer = Der::new(plain).next().filter(|outer| outer.tag == 0x62)?;
    let field = outer.sequence().find(|field| field.tag == 0xa5)?;
    time(field.inside().next()?.content)
}

/// The names of the ticket's flags (RFC 4120, section 2), as `klist -f` would have letters for them.
pub(super) fn flag_names(flags: u32) -> String {
    const NAMES: [(u32, &str); 11] = [
        (0x4000_0000, "forwardable"),
        (0x2000_0000, "forwarded"),
        (0x1000_0000, "proxiable"),
        (0x0800_0000, "proxy"),
        (0x0400_0000, "may-postdate"),
        (0x0200_0000, "postdated"),
        (0x0100_0000, "invalid"),
        (0x0080_0000, "renewable"),
        (0x0040_0000, "initial"),
        (0x0020_0000, "pre-authenticated"),
        (0x0004_0000, "ok-as-delegate"),
    ];
    named(flags, &NAMES)
}

/// The names of those flags that are set.
pub(super) fn named(flags: u32, names: &[(u32, &str)]) -> String {
    let set = names.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, name)| *name);
    set.collect::<Vec<_>>().join(" ")
}

/// PrincipalName: `{ [0] name-type, [1] name-string }`
fn principal_name(value: &Value<'_>) -> String {
    let names = value.inside().find(|part| part.tag == 0xa1);
    let names = names.map(|names| names.sequence().map(|name| text(name.content)).collect::<Vec<_>>());
    outside::shown(&names.unwrap_or_default().join("/"), outside::NAME).into_owned()
}

/// KerberosTime: `20261122024409Z`
pub(super) fn time(content: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let parsed = DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    parsed.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// A name as it may be shown.
pub(super) fn text(content: &[u8]) -> String {
    outside::shown_bytes(content, outside::NAME)
}
