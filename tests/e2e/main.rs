//! End-to-end tests: real kernel, real KDC, real curl and Chromium, the real programs. `cargo xtask test` builds and runs them.
//!
//! One of them: `cargo xtask test NAME`, or, with what was built before, `cargo test -p tracker-tests --test e2e NAME`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

mod bad_input;
mod browser;
mod clocks;
mod closing;
mod common;
mod conditions;
mod corpus;
mod crash;
mod device;
mod disk;
mod doctor;
mod explain;
mod keys;
mod kickout;
mod lab_itself;
mod login;
mod metrics;
mod modes;
mod names;
mod ntlm;
mod operator;
mod past;
mod proxying;
mod realms;
mod replay;
mod sight;
mod storm;
mod takeover;
mod takeover_table;
mod tokens;
