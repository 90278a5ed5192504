//! Who somebody is: what a client sends to prove it, what it is offered to prove it with, and what came of that. Free of
//! proxy types: whoever has credentials asks here whose they are.
//!
//! [`Credentials`] are what came, parsed once; an [`Offer`] is what may come; a [`Conversation`] is what one connection
//! remembers between the two; [`Verifier`] turns the one into an [`Outcome`]. None of these knows a method. What is
//! Kerberos is in [`kerberos`].

pub mod application_passwords;
mod cause;
mod channel;
mod conversation;
mod credentials;
pub mod factors;
mod fingerprint;
mod holds;
pub mod kerberos;
mod offer;
mod outcome;
pub mod password;
pub mod regulation;
mod return_targets;
mod verifier;

pub use cause::Cause;
pub use channel::Channel;
pub use conversation::{Chances, Conversation};
pub use credentials::{BadBasic, Credentials, MAX_BASIC, Malformed};
pub use fingerprint::Fingerprint;
pub use holds::LogoutHolds;
pub use offer::{NoOffer, Offer, Scheme, Schemes};
pub use outcome::{Failure, Handshake, Outcome, Proved, Rejection};
pub use password::Password;
pub use return_targets::ReturnTargets;
pub use verifier::{Context, Verifier};
