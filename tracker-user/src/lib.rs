//! The tracker: an explicit-proxy gateway that knows who sits behind each client address.
//!
//! docs/ARCHITECTURE.md draws the rooms and the one way data takes through them.

pub mod admin;
pub mod app;
pub mod audit;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod links;
pub mod mail;
pub mod metrics;
pub mod net;
pub mod observe;
pub mod ops;
pub mod output;
pub mod outside;
pub mod pages;
pub mod panics;
pub mod portal;
pub mod private;
pub mod proxy;
pub mod session;
pub mod store;
pub mod threads;
pub mod tracker;
pub mod types;
