//! The tracker: an explicit-proxy gateway that knows who sits behind each client address.
//!
//! docs/ARCHITECTURE.md draws the rooms and the one way data takes through them.

pub mod auth;
pub mod clock;
pub mod observe;
pub mod proxy;
pub mod session;
pub mod tracker;
