//! The second factor: giving it after a password or a ticket, setting it up, looking after it.
//!
//! Between the first factor and the second a browser has a login that is pending ([`pending`]): a cookie that is good for nothing
//! but the second factor, or its set-up where one is demanded and there is none. Users and operators go the same way.

mod complete;
mod pending;

pub(super) use self::complete::complete;
pub(super) use self::pending::{PENDING_COOKIE, PendingLogin, PendingLogins};
