//! `cargo xtask prove PROOF`: the long versions of what the end-to-end tests try in short, on the optimised programs.
//! Their figures stand in docs/SECURITY.md.

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};

use crate::{build, sh};

/// What to prove.
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    proof: Proof,
}

#[derive(Subcommand)]
enum Proof {
    /// Random clients against a gateway that is killed again and again: no decision may differ from the reference.
    Crash(Crash),
    /// Who is taken for whom and how long: writes the table in docs/SECURITY.md anew.
    Takeover,
    /// All messages of other projects' test suites, whole, in pieces and byte by byte: prints the table in docs/SECURITY.md.
    Http,
}

/// How long, and which schedule.
#[derive(Args)]
struct Crash {
    /// How many times the gateway is killed, over all modes.
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// Repeats the schedule that this seed makes; each run prints its own.
    #[arg(long)]
    seed: Option<u64>,
}

/// Builds the optimised programs, and runs the tests with them.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(sh::is_root(), "this needs root: it makes network namespaces");
    let bin = build::run(&build::Options::default())?;
    let mut cargo = sh::cargo();
    cargo.env("TRACKER_BIN_DIR", bin).env("TRACKER_REQUIRE_PRIVILEGED", "1");
    cargo.args(["test", "--workspace", "--test", "e2e"]);
    let what = match &options.proof {
        Proof::Crash(Crash { kills, seed }) => {
            cargo.env("TRACKER_KILLS", kills.to_string());
            if let Some(seed) = seed {
                cargo.env("TRACKER_SEED", seed.to_string());
            }
            cargo.args(["crash::", "--", "--nocapture", "--test-threads=3"]);
            // The three modes run side by side; a kill, with what comes before and after it, takes about three seconds.
            format!("{kills} kills, about {kills} s")
        }
        Proof::Takeover => {
            cargo.env("TRACKER_BLESS", "1").args(["takeover_table::", "--", "--nocapture"]);
            "the takeover table, about a minute".to_owned()
        }
        Proof::Http => {
            cargo.env("TRACKER_CORPUS_ALL", "1").args(["corpus::", "--", "--nocapture"]);
            "19,000 messages three ways, about two minutes".to_owned()
        }
    };
    sh::step(&what, &mut cargo)
}
