//! How a user proves who they are. Free of proxy types: whoever has a token asks here who sent it.

mod ap_req;
pub mod conditions;
mod credential;
pub mod decode;
mod der;
pub mod enctype;
pub mod inquiry;
mod kdc_reply;
pub mod names;
pub mod negotiate;
pub mod recent;
pub mod token;

pub use conditions::Conditions;
pub use names::NameRules;
pub use negotiate::{Outcome, Pending, Refused, Verifier, VerifyError};
pub use recent::Recent;
