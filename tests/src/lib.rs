//! The lab: network namespaces, a real KDC, real clients, a web server, and the gateway under test.
//!
//! Used by the end-to-end tests and by `cargo xtask demo`. It needs root and Debian packages only; see [`require_root`].
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a lab fails loudly"
)]

pub mod net;
pub mod ns;
pub mod realm;
pub mod scratch;
pub mod wait;
