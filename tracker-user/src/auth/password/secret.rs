//! A password in memory: shown by nothing, wiped when it is no longer needed.

use std::fmt;

use zeroize::Zeroizing;

/// A password. It does not print itself, cannot be copied, and its memory is overwritten when it is dropped.
#[derive(PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// This text. It is moved, not copied: no other trace of it is left behind by this type.
    #[must_use]
    pub const fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// The text, for whoever verifies it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_not_show_itself() {
        let password = Password::new(Zeroizing::new("secret".into()));
        assert_eq!(format!("{password:?} {:#?}", Some(&password)).matches("secret").count(), 0);
        assert_eq!(password.reveal(), "secret");
    }
}
