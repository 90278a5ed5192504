//! How an identity is proved: the method, and the further factors.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How an identity was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// A Kerberos ticket, by the Negotiate scheme (RFC 4559).
    Kerberos,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kerberos => "kerberos",
        })
    }
}

/// A further factor: something that is asked for after the method, and proves more than it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Factor {
    /// A code that changes with time (RFC 6238).
    Totp,
    /// A passkey (`WebAuthn`).
    Passkey,
}

impl Factor {
    /// Every factor.
    pub const ALL: [Self; 2] = [Self::Totp, Self::Passkey];

    /// Its word, the same in logs, on disk and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::Passkey => "passkey",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Totp => 1,
            Self::Passkey => 2,
        }
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of further factors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Factors(u8);

impl Factors {
    /// No further factor.
    pub const NONE: Self = Self(0);

    /// Whether `factor` is one of these.
    #[must_use]
    pub const fn has(self, factor: Factor) -> bool {
        self.0 & factor.bit() != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// These, and `factor`.
    #[must_use]
    pub const fn with(self, factor: Factor) -> Self {
        Self(self.0 | factor.bit())
    }

    /// These, and those of `other`.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Each of these, in the order of [`Factor::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Factor> {
        Factor::ALL.into_iter().filter(move |factor| self.has(*factor))
    }
}
