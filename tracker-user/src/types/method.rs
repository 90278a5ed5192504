//! How an identity is proved: the method, and the further factors.

use std::fmt;
use std::str::FromStr;

/// How an identity was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// A Kerberos ticket, by the Negotiate scheme (RFC 4559).
    Kerberos,
    /// A name and a password, by the Basic scheme (RFC 7617) or a form.
    Password,
    /// A name and an application password: a secret of a program's own, that its user has made in the portal. It opens the
    /// proxy alone.
    ApplicationPassword,
    /// A passkey alone (`WebAuthn`), without a password before it.
    Passkey,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 4] = [Self::Kerberos, Self::Password, Self::ApplicationPassword, Self::Passkey];

    /// Its word, the same in logs, on disk and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kerberos => "kerberos",
            Self::Password => "password",
            Self::ApplicationPassword => "application-password",
            Self::Passkey => "passkey",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No method has this word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a method of authentication")]
pub struct NoMethod;

impl FromStr for Method {
    type Err = NoMethod;

    fn from_str(text: &str) -> Result<Self, NoMethod> {
        Self::ALL.into_iter().find(|method| method.as_str() == text).ok_or(NoMethod)
    }
}

/// A further factor: something that is asked for after the method, and proves more than it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Factor {
    /// A code that changes with time (RFC 6238).
    Totp,
    /// A passkey (`WebAuthn`).
    Passkey,
    /// One of the printed recovery codes, in place of the factor that was lost.
    RecoveryCode,
    /// A browser in which a factor was proved not long ago, and which was told to be remembered.
    RememberedDevice,
}

impl Factor {
    /// Every factor.
    pub const ALL: [Self; 4] = [Self::Totp, Self::Passkey, Self::RecoveryCode, Self::RememberedDevice];

    /// Its word, the same in logs, on disk and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Totp => "totp",
            Self::Passkey => "passkey",
            Self::RecoveryCode => "recovery-code",
            Self::RememberedDevice => "remembered-device",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Totp => 1,
            Self::Passkey => 2,
            Self::RecoveryCode => 4,
            Self::RememberedDevice => 8,
        }
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// No factor has this word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a further factor")]
pub struct NoFactor;

impl FromStr for Factor {
    type Err = NoFactor;

    fn from_str(text: &str) -> Result<Self, NoFactor> {
        Self::ALL.into_iter().find(|factor| factor.as_str() == text).ok_or(NoFactor)
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

impl fmt::Display for Factors {
    /// Their words, with commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, factor) in self.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(f, "{comma}{factor}")?;
        }
        Ok(())
    }
}

impl FromIterator<Factor> for Factors {
    fn from_iter<T: IntoIterator<Item = Factor>>(factors: T) -> Self {
        factors.into_iter().fold(Self::NONE, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_read_back() {
        for method in Method::ALL {
            assert_eq!(method.as_str().parse(), Ok(method));
        }
        for factor in Factor::ALL {
            assert_eq!(factor.as_str().parse(), Ok(factor));
        }
        assert_eq!("Kerberos".parse::<Method>(), Err(NoMethod));
        assert_eq!("".parse::<Factor>(), Err(NoFactor));
        let all: Factors = Factor::ALL.into_iter().collect();
        assert_eq!(all.iter().collect::<Vec<_>>(), Factor::ALL);
        assert_eq!(all.to_string(), "totp,passkey,recovery-code,remembered-device");
    }
}
