//! The project's own commands. `cargo xtask setup` prepares a machine, `cargo xtask demo` shows what it is all for.

mod bench;
mod build;
mod build_ebpf;
mod demo;
mod profile;
mod prove;
mod run;
mod setup;
mod sh;
mod shots;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building and testing need: Debian packages, bpf-linker, a mounted bpffs.
    Setup,
    /// Build the kernel side, `trackerd` and `trackerctl`.
    Build(build::Options),
    /// Build, then start the gateway on this machine on 127.0.0.1:3128.
    Run(run::Options),
    /// Show everything at work, with a throw-away realm and client hosts; needs root.
    Demo(demo::Options),
    /// All checks and all tests; the end-to-end tests need root.
    Test(test::Options),
    /// Measure; see docs/BENCHMARKS.md.
    Bench(bench::Options),
    /// Where the gateway's time goes; see docs/BENCHMARKS.md.
    Profile(profile::Options),
    /// The long proofs; see docs/SECURITY.md.
    Prove(prove::Options),
    /// Make the pictures of the pages that the documents show; needs root.
    Shots(shots::Options),
    /// Check the rules of the architecture.
    Tidy(tidy::Options),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Task::Setup => setup::run(),
        Task::Build(options) => build::run(&options).map(drop),
        Task::Run(options) => run::run(&options),
        Task::Demo(options) => demo::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Profile(options) => profile::run(&options),
        Task::Prove(options) => prove::run(&options),
        Task::Shots(options) => shots::run(&options),
        Task::Tidy(options) => tidy::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
