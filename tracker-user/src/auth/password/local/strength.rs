//! Which passwords a local user may be given, after NIST SP 800-63B: long enough, not one that is tried first, and no rules
//! about what kinds of characters are in it.

use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use crate::auth::application_passwords::is_meant;
use crate::auth::password::Password;

/// No new password has fewer characters.
const LEAST: usize = 8;
/// No password has more: it is refused before anything is made of it.
const MOST: usize = 128;
/// Nor more bytes.
const MOST_BYTES: usize = 512;
/// What is tried first, in lower case, as far as it is long enough; and this product's own.
const COMMON: &[&str] = &[
    "password",
    "password1",
    "password12",
    "password123",
    "passw0rd",
    "p@ssw0rd",
    "p@ssword",
    "pa$$word",
    "12345678",
    "123456789",
    "1234567890",
    "123123123",
    "12341234",
    "87654321",
    "11223344",
    "1q2w3e4r",
    "1q2w3e4r5t",
    "1qaz2wsx",
    "qwertyui",
    "qwertyuiop",
    "qwerty12",
    "qwerty123",
    "qwertz123",
    "asdfghjk",
    "asdfghjkl",
    "zaq12wsx",
    "abcd1234",
    "abc12345",
    "abcdefgh",
    "a1b2c3d4",
    "iloveyou",
    "sunshine",
    "princess",
    "football",
    "baseball",
    "superman",
    "trustno1",
    "starwars",
    "whatever",
    "letmein1",
    "welcome1",
    "welcome123",
    "changeme",
    "changeme1",
    "changeme123",
    "administrator",
    "administrator1",
    "admin123",
    "admin1234",
    "passwort",
    "passwort1",
    "geheim123",
    "trackerd",
    "tracker1",
    "tracker123",
    "trackerctl",
];

/// A password that nobody is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weak {
    /// It is too short.
    #[error("the password has fewer than {LEAST} characters: take a longer one; several words are good")]
    Short,
    /// It is too long.
    #[error("the password has more than {MOST} characters, or {MOST_BYTES} bytes: take a shorter one")]
    Long,
    /// A control character, which no client can send (RFC 7617).
    #[error("the password contains a control character, which browsers cannot send: leave it out")]
    Control,
    /// It is the user's name.
    #[error("the password is the user's name: take another one")]
    Name,
    /// It is one of those that are tried first.
    #[error("the password is one of those that are tried first: take another one")]
    Common,
    /// It begins as application passwords do: it would be taken for one.
    #[error("the password begins with tap_, as application passwords do: take another one")]
    Mark,
}

/// Whether a password may be looked at at all: it is not empty, and not longer than any.
pub(super) fn has_a_length(password: &Password) -> bool {
    let text = password.reveal();
    !text.is_empty() && text.len() <= MOST_BYTES && text.chars().nth(MOST).is_none()
}

/// Whether the user of this name may be given this password.
///
/// # Errors
/// What speaks against it.
pub(super) fn judge(name: &str, password: &Password) -> Result<(), Weak> {
    let text = password.reveal();
    if text.chars().nth(LEAST - 1).is_none() {
        return Err(Weak::Short);
    }
    if !has_a_length(password) {
        return Err(Weak::Long);
    }
    if text.chars().any(char::is_control) {
        return Err(Weak::Control);
    }
    let lower = Zeroizing::new(text.to_lowercase());
    if *lower == name.to_lowercase() {
        return Err(Weak::Name);
    }
    let first = lower.chars().next();
    let same = lower.chars().all(|c| Some(c) == first);
    if same || is_a_row(&lower) || COMMON.contains(&lower.as_str()) {
        return Err(Weak::Common);
    }
    if is_meant(password.reveal()) {
        return Err(Weak::Mark);
    }
    Ok(())
}

/// `12345678`, `hgfedcba` and the like.
fn is_a_row(text: &str) -> bool {
    let steps = |by: i64| {
        let pairs = text.chars().zip(text.chars().skip(1));
        pairs.into_iter().all(|(a, b)| i64::from(u32::from(b)) - i64::from(u32::from(a)) == by)
    };
    steps(1) || steps(-1)
}

/// The password as it is hashed: however its characters were written, and whatever blanks are in it, it is the same (NFC and
/// the mapping of spaces of RFC 8265, `OpaqueString`).
pub(super) fn prepared(password: &Password) -> Zeroizing<String> {
    let text = password.reveal();
    // As much as NFC can make of it: what has to be moved would be left behind.
    let mut prepared = Zeroizing::new(String::with_capacity(3 * text.len()));
    let spaces = |c: char| if is_space(c) { ' ' } else { c };
    if text.is_ascii() {
        prepared.push_str(text);
    } else {
        prepared.extend(text.chars().map(spaces).nfc());
    }
    prepared
}

/// Unicode's category Zs.
const fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::new(Zeroizing::new(text.into()))
    }

    #[test]
    fn what_is_long_enough_and_not_tried_first_is_good_whatever_is_in_it() {
        for good in
            ["correct horse battery staple", "pässwört", "aaaaaaab", "        x", "12345679", "bobbobbob"]
        {
            assert_eq!(judge("bob", &password(good)), Ok(()), "{good}");
        }
        assert_eq!(judge("bob", &password(&"ä1".repeat(MOST / 2))), Ok(()));
    }

    #[test]
    fn what_is_weak_is_refused_with_its_reason() {
        for (bad, why) in [
            ("", Weak::Short),
            ("1234567", Weak::Short),
            ("ääääää7", Weak::Short),
            ("Bartholomew", Weak::Name),
            ("PassWord1", Weak::Common),
            ("aaaaaaaaaaaa", Weak::Common),
            ("23456789", Weak::Common),
            ("hgfedcba", Weak::Common),
            ("tap_good enough", Weak::Mark),
            ("good\tenough", Weak::Control),
        ] {
            assert_eq!(judge("bartholomew", &password(bad)), Err(why), "{bad}");
        }
        assert_eq!(judge("bob", &password(&"ab".repeat(65))), Err(Weak::Long));
        assert_eq!(judge("bob", &password(&"\u{1f512}b".repeat(MOST_BYTES / 5 + 1))), Err(Weak::Long));
        for common in COMMON {
            assert!(common.chars().count() >= LEAST && *common == common.to_lowercase(), "{common}");
        }
    }

    #[test]
    fn a_password_is_the_same_however_it_is_written() {
        assert_eq!(*prepared(&password("mu\u{308}ller\u{a0}x")), "müller x");
        assert_eq!(*prepared(&password("Plain Text ")), "Plain Text ");
        // Nothing is folded.
        assert_ne!(*prepared(&password("ﬁsh")), "fish");
        let longest = password(&"\u{1d160}".repeat(MOST));
        let room = 3 * longest.reveal().len();
        assert!(prepared(&longest).capacity() == room, "it was not moved");
    }
}
