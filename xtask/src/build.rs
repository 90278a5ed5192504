//! `cargo xtask build`: the kernel side first, then the two programs that carry it.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::{build_ebpf, setup, sh};

/// What to build.
#[derive(Args, Default)]
pub(crate) struct Options {
    /// Build without optimisation, as the tests do.
    #[arg(long)]
    pub(crate) debug: bool,
    /// Build optimised; this is the default.
    #[arg(long, conflicts_with = "debug")]
    pub(crate) release: bool,
}

/// Builds everything and returns the directory of `trackerd` and `trackerctl`.
pub(crate) fn run(options: &Options) -> Result<PathBuf> {
    setup::run()?;
    let target = sh::target_dir();
    build_ebpf::build_ebpf(&target)?;
    let mut cargo = sh::cargo();
    cargo.args(["build", "--bins"]);
    let dir = if options.debug {
        // All members at once, with the features that `cargo test --workspace` gives them: nothing is built twice.
        cargo.arg("--workspace");
        target.join("debug")
    } else {
        cargo.args(["--release", "--package", "tracker-user"]);
        target.join("release")
    };
    sh::step("building trackerd and trackerctl", &mut cargo)?;
    if !options.debug {
        eprintln!("built {} and {}", dir.join("trackerd").display(), dir.join("trackerctl").display());
    }
    Ok(dir)
}
