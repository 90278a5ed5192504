//! How a user proves who they are. Free of proxy types: whoever has a token asks here who sent it.

mod credential;
pub mod names;
pub mod negotiate;
pub mod token;

pub use names::NameRules;
pub use negotiate::{Outcome, Pending, Refused, Verifier, VerifyError};
