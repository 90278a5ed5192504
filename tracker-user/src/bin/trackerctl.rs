//! `trackerctl`, the operator's tool.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tracker::cli::run().await
}
