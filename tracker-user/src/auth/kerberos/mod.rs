//! Kerberos: tickets in, identities out (`negotiate`), the conditions under which it is offered (`conditions`), what an
//! operator asks about it (`decode`, `kdc_probe`), and passwords against a KDC (`password`).

mod ap_req;
mod cause;
pub mod conditions;
mod credential;
pub mod decode;
mod der;
pub mod enctype;
pub mod kdc_probe;
mod kdc_reply;
pub mod names;
pub mod negotiate;
mod own;
pub(super) mod password;
#[cfg(test)]
pub(super) mod test_realm;
pub mod token;

pub use cause::Cause;
pub use conditions::Conditions;
pub use names::NameRules;
pub use negotiate::{Details, TicketVerifier};
pub use own::own_services;
