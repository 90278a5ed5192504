//! `cargo xtask test`: every check and every test, as CI runs them.

use std::process::Command;

use anyhow::Result;
use clap::Args;

use crate::{build, sh, tidy};

/// How many end-to-end tests run at a time: most of them wait for a timeout most of the time.
const THREADS: &str = "--test-threads=4";

/// What to test.
#[derive(Args)]
pub(crate) struct Options {
    /// Run only tests whose name contains this, without the other checks; more words go to cargo test.
    filter: Vec<String>,
}

/// Runs everything, and fails if anything failed.
pub(crate) fn run(options: &Options) -> Result<()> {
    let debug = build::Options { debug: true, release: false };
    let bin = build::run(&debug)?;
    if options.filter.is_empty() {
        sh::step("cargo fmt", sh::cargo().args(["fmt", "--all", "--check"]))?;
        let mut clippy = sh::cargo();
        clippy.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]);
        sh::step("cargo clippy", &mut clippy)?;
        tidy::check()?;
    }
    if !sh::is_root() {
        eprintln!("xtask: without root the end-to-end tests are skipped");
    }
    let test = |arguments: &[&str]| -> Command {
        let mut cargo = sh::cargo();
        cargo.env("TRACKER_BIN_DIR", &bin).arg("test").args(arguments);
        cargo
    };
    let mut unit = test(&["--workspace", "--exclude", "tracker-tests"]);
    unit.args(&options.filter);
    let unit = sh::step("unit tests", &mut unit);
    // Selected from the whole workspace, so that nothing is built with other features than before.
    let mut e2e = test(&["--workspace", "--test", "e2e"]);
    e2e.args(&options.filter).args(["--", THREADS]);
    // The second kind runs also if the first failed: one run shows all that is broken.
    let e2e = sh::step("end-to-end tests", &mut e2e);
    unit.and(e2e)
}
