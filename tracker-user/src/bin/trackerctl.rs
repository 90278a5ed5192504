//! `trackerctl`, the operator's tool.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A shell at whose Tab key somebody is: it has a runtime of its own.
    tracker::cli::complete();
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(tracker::cli::run()),
        Err(error) => {
            eprintln!("trackerctl: {error}");
            ExitCode::FAILURE
        }
    }
}
