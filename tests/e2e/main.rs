//! End-to-end tests: real kernel, real KDC, real curl, Chromium and Firefox, the real programs. `cargo xtask test` builds and runs them.
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
mod balancer;
mod basic;
mod battery;
mod bindings;
mod browser;
mod certificate_doctor;
mod clocks;
mod closing;
mod common;
mod conditions;
mod corpus;
mod crash;
mod device;
mod disk;
mod doctor;
mod exhaustion;
mod explain;
mod factor_apps;
mod factor_browser;
mod factor_codes;
mod factor_operator;
mod factor_passkey;
mod factor_recovery;
mod factor_step_up;
mod guard;
mod half_closed;
mod keys;
mod kickout;
mod lab_itself;
mod limits;
mod links;
mod lists;
mod local_users;
mod local_users_login;
mod login;
mod machine;
mod metrics;
mod modes;
mod modes_tls;
mod names;
mod ntlm;
mod operator;
mod output;
mod outside;
mod passwords;
mod past;
mod portal_admin;
mod portal_browser;
mod portal_kerberos;
mod portal_licences;
mod portal_login;
mod portal_logout;
mod portal_logout_browser;
mod portal_password;
mod portal_proxy;
mod portal_server;
mod portal_status;
mod programs;
mod proxying;
mod realms;
mod regulation;
mod reopen;
mod replay;
mod restore;
mod settings;
mod shared;
mod sight;
mod storm;
mod strangers;
mod takeover;
mod takeover_table;
mod tls;
mod tls_browsers;
mod tls_scan;
mod tls_strangers;
mod tokens;
mod trail;
mod uploads;
