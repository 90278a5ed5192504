//! Names with passwords, whatever sent them: the Basic scheme now, forms and programs' own passwords later.
//!
//! One door ([`Passwords::verify`]) for all of them: the name is read ([`Account`]), the regulation is asked, then whoever
//! knows the account: the realm's KDC ([`kdc`]) or this gateway's own list of users ([`local`]). Every refusal looks the same
//! to the person and takes the same time; the operator is told which it was.

mod accounts;
mod applications;
mod cause;
mod counters;
mod door;
pub mod kdc;
pub mod local;
mod memory;
mod name;
pub mod pace;
mod places;
mod regulated;
mod secret;
#[cfg(test)]
pub(crate) mod testing;

pub use cause::Cause;
pub use counters::Counters;
pub use door::{Parts, Passwords, Place, Settings};
pub use local::LocalUsers;
pub use name::{Account, BadAccount};
pub use pace::Pace;
pub use secret::Password;
