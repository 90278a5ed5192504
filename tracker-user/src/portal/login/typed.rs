//! A password as a form has it: moved from what was decoded, not copied, and wiped.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use zeroize::Zeroizing;

use crate::auth::Password;

/// See the module.
#[derive(Debug)]
pub(in crate::portal) struct Typed(pub(in crate::portal) Password);

impl Default for Typed {
    fn default() -> Self {
        Self(Password::new(Zeroizing::default()))
    }
}

impl<'de> Deserialize<'de> for Typed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Typed;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a password")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Typed, E> {
                self.visit_string(text.to_owned())
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Typed, E> {
                Ok(Typed(Password::new(Zeroizing::new(text))))
            }
        }

        deserializer.deserialize_string(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_and_not_shown() {
        let typed: Typed = serde_json::from_str("\"geheim ü\"").unwrap();
        assert_eq!(typed.0.reveal(), "geheim ü");
        assert!(!format!("{typed:?}").contains("geheim"));
        assert_eq!(Typed::default().0.reveal(), "");
    }
}
