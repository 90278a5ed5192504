//! The house style of pages that stand alone: an answer under another server's name can have nothing but itself.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};

use super::Brand;

/// The style, for light and dark. Small: it is in every page.
const STYLE: &str = include_str!("inline.css");

/// See the module.
#[derive(Clone, Debug)]
pub struct House {
    style: String,
    policy: String,
    organisation: Option<Arc<str>>,
    contact: Option<Arc<str>>,
}

impl Default for House {
    fn default() -> Self {
        Self::of(&Brand::default())
    }
}

impl House {
    /// The style of a brand, but for its logo.
    #[must_use]
    pub fn of(brand: &Brand) -> Self {
        let own = brand.colour.as_ref().map(|colour| format!(":root{{--accent:{colour}}}"));
        let style = format!("{}{}", STYLE.trim_end(), own.unwrap_or_default());
        let hash = STANDARD.encode(digest(&SHA256, style.as_bytes()));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        let (organisation, contact) = (brand.organisation.clone(), brand.contact.clone());
        Self { style, policy, organisation, contact }
    }

    /// The content of the page's `style`.
    #[must_use]
    pub fn style(&self) -> &str {
        &self.style
    }

    /// The value of `Content-Security-Policy`: this style, and nothing else.
    #[must_use]
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// Whose gateway it is.
    #[must_use]
    pub fn organisation(&self) -> Option<&str> {
        self.organisation.as_deref()
    }

    /// Whom people turn to.
    #[must_use]
    pub fn contact(&self) -> Option<&str> {
        self.contact.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_is_of_the_style() {
        let plain = House::default();
        let red = House::of(&Brand { colour: Some("#ff0000".into()), ..Brand::default() });
        assert!(red.style().ends_with(":root{--accent:#ff0000}") && red.policy() != plain.policy());
        let hash = STANDARD.encode(digest(&SHA256, red.style().as_bytes()));
        assert!(red.policy().contains(&format!("'sha256-{hash}'")), "{}", red.policy());
        assert!(!plain.style().contains('<') && plain.style().len() < 1_000);
    }
}
