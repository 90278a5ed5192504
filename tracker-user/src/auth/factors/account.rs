//! What a user has set up.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::recovery::Recovery;
use crate::types::{Factor, Factors, Identity};

/// What a user has set up, unsealed. Wiped when it goes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// How the user is called,
    pub user: String,
    /// and their domain, as people see them; the row's key is [`Identity::key`].
    pub domain: String,
    /// Drawn anew with each enrolment: what was remembered under another one is worth nothing.
    pub generation: u64,
    /// The authenticator, once its first code was right.
    pub authenticator: Option<Authenticator>,
    /// Passkeys, in the order in which they were added.
    #[serde(default)]
    pub passkeys: Vec<Passkey>,
    /// By which the user is known to their passkeys (`user.id` of WebAuthn): it says nothing of them.
    #[serde(default)]
    pub passkey_user: Option<[u8; 16]>,
    /// Where a code is mailed to that resets all of this.
    #[serde(default)]
    pub recovery_address: Option<Zeroizing<String>>,
    /// How far a reset by mail has come.
    #[serde(default)]
    pub recovery: Recovery,
    /// The recovery codes that have not been used.
    #[serde(default)]
    pub recovery_codes: Vec<RecoveryCode>,
    /// So many codes were wrong since one was right.
    #[serde(default)]
    pub wrong: u32,
}

/// How an authenticator's codes are made (RFC 6238, section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// The hash: SHA-1, as every authenticator can do it; some ignore any other that they are told.
    pub algorithm: Algorithm,
    /// So many digits.
    pub digits: u8,
    /// A code each so many seconds.
    pub period: u64,
}

/// The hash that codes are made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// HMAC-SHA-1 (RFC 4226).
    #[serde(rename = "SHA1")]
    Sha1,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { algorithm: Algorithm::Sha1, digits: 6, period: 30 }
    }
}

/// An app that makes codes (RFC 6238).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authenticator {
    /// How it makes them.
    pub parameters: Parameters,
    /// What it shares with the gateway, at least 160 bits.
    #[serde(with = "hexadecimal")]
    pub secret: Zeroizing<Vec<u8>>,
    /// The last step of time (RFC 6238, section 4.2) of which a code was accepted: none up to it is good again.
    pub last_step: u64,
    /// By how many steps its clock was ahead of the gateway's when it was last used.
    #[serde(default)]
    pub drift: i64,
    /// Since when.
    pub since: Timestamp,
    /// When a code was last right.
    pub used: Timestamp,
}

/// A passkey (WebAuthn).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Passkey {
    /// What its user calls it.
    pub name: String,
    /// What it was made for: the host that browsers show it to (the relying party's ID).
    pub host: String,
    /// The public key, its number and its counter.
    pub credential: webauthn_rs::prelude::Passkey,
    /// Whether the device finds it by itself, so that it may be used alone, as far as the browser has told.
    #[serde(default)]
    pub discoverable: Option<bool>,
    /// Since when.
    pub since: Timestamp,
    /// When it was last used.
    pub used: Option<Timestamp>,
}

/// A recovery code: the SHA-256 of its 80 bits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RecoveryCode(pub [u8; 32]);

/// So many codes may be wrong since one was right; then none is looked at any more. Whoever guesses patiently, below what is
/// allowed in a quarter of an hour, would be right within months.
const LOCKED_AT: u32 = 100;

impl Account {
    /// Nothing set up yet.
    #[must_use]
    pub fn of(identity: &Identity) -> Self {
        Self { user: identity.user().to_owned(), domain: identity.domain().to_owned(), ..Self::default() }
    }

    /// The factors that can be proved.
    #[must_use]
    pub fn factors(&self) -> Factors {
        let mut factors = Factors::NONE;
        if self.authenticator.is_some() {
            factors = factors.with(Factor::Totp);
        }
        if !self.passkeys.is_empty() {
            factors = factors.with(Factor::Passkey);
        }
        factors
    }

    /// Whether so many codes were wrong since one was right that none is looked at any more.
    #[must_use]
    pub const fn is_locked(&self) -> bool {
        self.wrong >= LOCKED_AT
    }

    /// Whether nothing is set up: then there is nothing to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.factors().is_empty() && self.recovery_address.is_none() && self.recovery_codes.is_empty()
    }
}

/// Bytes that are a secret, as text: read into a piece of memory of their own size, so that none that grew leaves a copy behind.
mod hexadecimal {
    use std::fmt;

    use data_encoding::HEXLOWER;
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(bytes: &Zeroizing<Vec<u8>>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&Zeroizing::new(HEXLOWER.encode(bytes)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Zeroizing<Vec<u8>>, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Zeroizing<Vec<u8>>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes in hexadecimal")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                let length = HEXLOWER.decode_len(text.len()).map_err(E::custom)?;
                let mut bytes = Zeroizing::new(vec![0; length]);
                // What is wrong with it says where, and nothing of what stands there.
                let decoded = HEXLOWER.decode_mut(text.as_bytes(), &mut bytes);
                decoded.map_err(|wrong| E::custom(wrong.error))?;
                Ok(bytes)
            }
        }

        from.deserialize_str(Text)
    }
}
