//! Names of the gateway's own users.

use unicode_normalization::UnicodeNormalization as _;

use crate::auth::kerberos::names::is_odd;

/// No name has more characters.
const MOST: usize = 64;

/// A name of a local user, as it was typed, but for the form in which its characters are written (NFC).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalName(String);

/// What was typed can be no local user's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLocalName {
    /// It is empty, or too long.
    #[error("a user's name has 1 to {MOST} characters")]
    Length,
    /// A character that a user's name cannot have.
    #[error(
        "the name {0:?} contains a character that a user's name cannot have: no @ / \\ or :, no blanks, quotes or \
         invisible characters; local users are written without a domain"
    )]
    Character(String),
    /// It would be a computer's.
    #[error("the name {0:?} ends in $, as computers' accounts do")]
    Machine(String),
}

impl LocalName {
    /// Reads a typed name. It passes the rules of Kerberos users, so that one is shown like the other; and it has no colon,
    /// which ends a name in the Basic scheme (RFC 7617).
    ///
    /// # Errors
    /// See [`BadLocalName`].
    pub fn parse(typed: &str) -> Result<Self, BadLocalName> {
        // Before anything is made of it.
        if typed.is_empty() || typed.chars().nth(MOST).is_some() {
            return Err(BadLocalName::Length);
        }
        let name: String = typed.nfc().collect();
        let shown = || crate::outside::shown(&name, crate::outside::NAME).into_owned();
        // As it was typed, too: of some signs NFC makes the letter that they look like.
        if typed.chars().chain(name.chars()).any(|c| is_odd(c) || matches!(c, '@' | '/' | '\\' | ':')) {
            return Err(BadLocalName::Character(shown()));
        }
        if name.ends_with('$') {
            return Err(BadLocalName::Machine(shown()));
        }
        Ok(Self(name))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name by which the user is found: in lower case.
    #[must_use]
    pub fn key(&self) -> String {
        self.0.to_lowercase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_kept_as_typed_and_found_in_lower_case() {
        for name in ["bob", "Anna.Müller", "o'brien", "кот", "a$b", "x+1", "-v", "..", "名前"] {
            let parsed = LocalName::parse(name).unwrap();
            assert_eq!((parsed.as_str(), parsed.key()), (name, name.to_lowercase()));
        }
        // Written with a combining mark, it is the same name.
        assert_eq!(LocalName::parse("u\u{308}te").unwrap().as_str(), "üte");
        assert!(LocalName::parse(&"ä".repeat(MOST)).is_ok());
    }

    #[test]
    fn what_is_no_users_name_is_refused() {
        for (bad, why) in [
            (String::new(), BadLocalName::Length),
            ("a".repeat(MOST + 1), BadLocalName::Length),
            ("pc-17$".into(), BadLocalName::Machine("pc-17$".into())),
        ] {
            assert_eq!(LocalName::parse(&bad), Err(why));
        }
        for bad in [
            "a b",
            "bob@local",
            "local\\bob",
            "HTTP/x",
            "a:b",
            "a\tb",
            "\u{202e}bob",
            "<b>",
            "\u{212a}urt",
            "a\0",
        ] {
            assert!(matches!(LocalName::parse(bad), Err(BadLocalName::Character(_))), "{bad:?}");
        }
        let said = LocalName::parse("\u{202e}bob").unwrap_err().to_string();
        assert!(!said.contains('\u{202e}'), "{said}");
    }
}
