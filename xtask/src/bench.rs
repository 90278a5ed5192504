//! `cargo xtask bench SCENARIO`: what is claimed of speed, measured. Figures go to docs/BENCHMARKS.md with their method.

mod closure;
mod figures;
mod forward;
mod scale;

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::build;

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Subcommand)]
enum Scenario {
    /// From a client's FIN or RST to its session's clock running.
    Closure(closure::Options),
    /// Plain requests, side by side with squid and haproxy.
    Forward(forward::Options),
    /// A million records and 200,000 sessions: memory, taking over, deadlines. Takes some minutes and 2 GiB.
    Scale(scale::Options),
}

/// Builds the optimised programs and measures.
pub(crate) fn run(options: &Options) -> Result<()> {
    let bin = build::run(&build::Options::default())?;
    match &options.scenario {
        Scenario::Closure(options) => closure::run(options, &bin),
        Scenario::Forward(options) => forward::run(options, &bin),
        Scenario::Scale(options) => scale::run(options, &bin),
    }
}
