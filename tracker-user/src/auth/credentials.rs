//! What a client sends to prove who its user is: the value of a `Proxy-Authorization` field, parsed once (RFC 9110,
//! section 11.4: a scheme in any case, white space, and what the scheme wants).

use std::fmt;

use base64::Engine as _;
use zeroize::Zeroizing;

use super::kerberos::token::{self, BadToken};
use super::offer::Scheme;
use super::password::Password;

/// The largest `user:password`, in bytes: a user's name has at most 256, and no password that is worth hashing has more than
/// the rest.
pub const MAX_BASIC: usize = 1024;

/// How much of the name of a scheme that is not known is kept.
const MAX_SCHEME: usize = 16;

/// What a client sent to prove who its user is.
#[derive(Debug, PartialEq, Eq)]
pub enum Credentials {
    /// A token of the Negotiate scheme (RFC 4559).
    Negotiate(Vec<u8>),
    /// A name and a password (RFC 7617).
    Basic {
        /// The name, as it was typed.
        user: String,
        /// The password.
        password: Password,
    },
    /// A scheme that is not known here. The rest may be a secret: only the scheme's name is kept, cut to 16 characters, and
    /// with `?` for what is neither a letter, a digit nor a hyphen; and for the whole of a word that nothing follows.
    Unknown(String),
    /// A scheme that is known, but not what it wants behind it.
    Malformed(Malformed),
}

/// Credentials of a known scheme that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not a Negotiate token.
    #[error(transparent)]
    Negotiate(#[from] BadToken),
    /// Not a name and a password.
    #[error(transparent)]
    Basic(#[from] BadBasic),
}

/// Why what follows `Basic` is no name and password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBasic {
    /// Nothing follows.
    #[error("the Basic credentials are empty")]
    Empty,
    /// Not base64.
    #[error("the Basic credentials are not base64")]
    NotBase64,
    /// More than [`MAX_BASIC`].
    #[error("the Basic credentials are larger than {MAX_BASIC} bytes")]
    TooLarge,
    /// Not UTF-8. In which other encoding a client writes is not known, and a guess could make another name of it.
    #[error("the Basic credentials are not UTF-8")]
    NotUtf8,
    /// There is no colon between a name and a password.
    #[error("the Basic credentials have no colon")]
    NoColon,
    /// Control characters, which neither part may have (RFC 7617, section 2).
    #[error("the Basic credentials contain control characters")]
    Control,
}

impl Credentials {
    /// The credentials in the value of an `Authorization` or `Proxy-Authorization` field. Any bytes are some.
    #[must_use]
    pub fn parse(field: &[u8]) -> Self {
        let field = field.trim_ascii();
        let end = field.iter().position(u8::is_ascii_whitespace).unwrap_or(field.len());
        let (name, rest) = field.split_at_checked(end).unwrap_or_default();
        let rest = rest.trim_ascii();
        match Scheme::named(name) {
            Some(Scheme::Negotiate) => match token::decode(rest) {
                Ok(token) => Self::Negotiate(token),
                Err(bad) => Self::Malformed(bad.into()),
            },
            Some(Scheme::Basic) => match basic(rest) {
                Ok((user, password)) => Self::Basic { user, password },
                Err(bad) => Self::Malformed(bad.into()),
            },
            // A word with nothing behind it may be no scheme, but the secret itself: some clients leave the scheme out.
            None if rest.is_empty() && !name.is_empty() && !is_named_alone(name) => Self::Unknown("?".into()),
            None => Self::Unknown(shown(name)),
        }
    }

    /// Their scheme, if it is a known one.
    #[must_use]
    pub const fn scheme(&self) -> Option<Scheme> {
        match self {
            Self::Negotiate(_) | Self::Malformed(Malformed::Negotiate(_)) => Some(Scheme::Negotiate),
            Self::Basic { .. } | Self::Malformed(Malformed::Basic(_)) => Some(Scheme::Basic),
            Self::Unknown(_) => None,
        }
    }

    /// The name of their scheme, as logs have it.
    #[must_use]
    pub fn scheme_name(&self) -> &str {
        match self {
            Self::Unknown(name) => name,
            _ => self.scheme().map_or("", Scheme::name),
        }
    }
}

impl fmt::Display for Credentials {
    /// What they are, for operators; never what is in them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => malformed.fmt(f),
            _ => write!(f, "credentials of the scheme {:?}", self.scheme_name()),
        }
    }
}

/// The name of a scheme, so that it can be shown.
fn shown(scheme: &[u8]) -> String {
    let shown = |&b: &u8| if b.is_ascii_alphanumeric() || b == b'-' { char::from(b) } else { '?' };
    scheme.iter().take(MAX_SCHEME).map(shown).collect()
}

/// Whether this is the name of another scheme, whatever stands behind it.
fn is_named_alone(word: &[u8]) -> bool {
    ["NTLM", "Digest", "Bearer", "Kerberos"].iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()))
}

/// `base64(user ":" password)`: the first colon ends the name, which has none; the password may have some.
fn basic(encoded: &[u8]) -> Result<(String, Password), BadBasic> {
    if encoded.is_empty() {
        return Err(BadBasic::Empty);
    }
    if encoded.len() > MAX_BASIC.div_ceil(3) * 4 {
        return Err(BadBasic::TooLarge);
    }
    // As large as it can become: a buffer that grew would leave pieces of the password behind.
    let mut decoded = Zeroizing::new(Vec::with_capacity(MAX_BASIC + 2));
    token::BASE64.decode_vec(encoded, &mut decoded).map_err(|_| BadBasic::NotBase64)?;
    if decoded.len() > MAX_BASIC {
        return Err(BadBasic::TooLarge);
    }
    let text = std::str::from_utf8(&decoded).map_err(|_| BadBasic::NotUtf8)?;
    let (user, password) = text.split_once(':').ok_or(BadBasic::NoColon)?;
    if text.chars().any(char::is_control) {
        return Err(BadBasic::Control);
    }
    Ok((user.to_owned(), Password::new(Zeroizing::new(password.to_owned()))))
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
