//! What people see of the gateway, whoever shows it: the house style, the languages, and whom the gateway belongs to. The
//! proxy's own answers and the portal's pages both go by it.

mod brand;
mod colour;
mod file;
mod house;
mod language;
#[cfg(test)]
mod language_tests;

pub use brand::{Brand, Logo, LogoError};
pub use colour::accent;
pub use house::House;
pub use language::{Language, LanguageError, Languages};

/// The house style: one column, calm, in light and dark, and on a phone.
pub const STYLE: &str = include_str!("style.css");
