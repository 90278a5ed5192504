//! Names with passwords, whatever sent them: the Basic scheme now, forms and programs' own passwords later.
//!
//! One door ([`Passwords::verify`]) for all of them: the name is read ([`Account`]), the regulation is asked, then whoever
//! knows the account: the realm's KDC ([`kdc`]) or this gateway's own list of users ([`local`]). Every refusal looks the same
//! to the person and takes the same time; the operator is told which it was.

mod cause;
mod door;
pub mod kdc;
pub mod local;
mod name;
pub mod pace;
mod secret;

pub use cause::Cause;
pub use door::{Parts, Passwords};
pub use name::{Account, BadAccount};
pub use pace::Pace;
pub use secret::Password;
