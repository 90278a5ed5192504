//! The clients of `cargo xtask bench`: each deed is one kind of load, in one process that belongs on one core.
//!
//! A deed that is measured prepares all it can (connections, tokens), says `READY`, waits for a line on its input, works,
//! and prints its figures as one line of JSON. The crowd's deeds (`touch`, `login`, `logout`) begin at once.

#![expect(clippy::disallowed_methods, reason = "a tool for measurements, not part of the gateway")]

mod accept;
mod crowd;
mod dialogue;
mod figures;
mod hold;
mod http;
mod kerberos;
mod keytab;
mod stream;
mod tls;
mod verify;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tikv_jemallocator::Jemalloc;

/// The daemon's, so that what is measured of its parts alone is what they cost in it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    deed: Deed,
}

#[derive(Debug, Subcommand)]
enum Deed {
    /// Clients that connect and reset: each leaves a record.
    Touch(crowd::Args),
    /// Clients that log in: each leaves a session.
    Login(crowd::Args),
    /// Clients that log out by the logout URL.
    Logout(crowd::Args),
    /// GETs on connections that are kept.
    Get(http::Args),
    /// CONNECT, one GET through the tunnel, the end; again and again.
    Connect(http::Args),
    /// A new connection from a new address, 407, a fresh token, 200, the end; again and again.
    Negotiate(http::Negotiate),
    /// A TLS handshake and the end; again and again.
    Handshake(tls::Handshakes),
    /// Bytes through tunnels, as many as go.
    Stream(stream::Args),
    /// Connections that do nothing, until the input ends.
    Hold(hold::Args),
    /// No network: `gss_accept_sec_context` on fresh tokens, as fast as one thread can.
    Accept(accept::Args),
    /// No network: the gateway's verifier on fresh tokens.
    Verify(verify::Args),
}

fn main() -> Result<()> {
    match Args::parse().deed {
        Deed::Touch(args) => crowd::run(&args, crowd::Deed::Touch),
        Deed::Login(args) => crowd::run(&args, crowd::Deed::Login),
        Deed::Logout(args) => crowd::run(&args, crowd::Deed::Logout),
        Deed::Get(args) => http::get(&args),
        Deed::Connect(args) => http::connect(&args),
        Deed::Negotiate(args) => http::negotiate(&args),
        Deed::Handshake(args) => tls::handshakes(&args),
        Deed::Stream(args) => stream::run(&args),
        Deed::Hold(args) => hold::run(&args),
        Deed::Accept(args) => accept::run(&args),
        Deed::Verify(args) => verify::run(&args),
    }
}
