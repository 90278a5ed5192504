//! Application passwords: secrets of programs' own, which users make in the portal once a second factor is set up, as programs
//! cannot be asked for one. Each opens the proxy alone, and can be taken away by itself.
//!
//! They are random, so that no slow hash has to protect them: what is kept is an HMAC under a key of the gateway's own, and to
//! look one up costs a request a microsecond. Nothing is remembered beside that: what is taken away, has expired, or comes
//! from elsewhere is refused with the next request.

mod book;
mod row;
mod text;

pub use book::{ApplicationPasswords, New, NotMade, Unfit, View};
pub(super) use text::is_meant;
pub use text::{MARK, Text};
