//! Metrics and probes.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use lab::Lab;
use lab::wait::until;

use crate::common::{ORIGIN, SOON};

#[test]
fn the_metrics_are_clean_and_name_nobody() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let lab = Lab::start("")?;
    lab.curl(0).get(ORIGIN)?;
    lab.login(0, "alice")?;
    lab.login(0, "bob")?;
    let metrics = lab.gateway.metrics()?;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("promtool comes with prometheus; `cargo xtask setup` installs it")?;
    promtool.stdin.take().context("no pipe")?.write_all(metrics.as_bytes())?;
    let output = promtool.wait_with_output()?;
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}\n{metrics}");
    for name in ["alice", "bob", "10.77.0."] {
        assert!(!metrics.contains(name), "{name} in a metric: {metrics}");
    }
    let strangers: Vec<&str> = metrics
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("tracker_") && !line.is_empty())
        .collect();
    assert!(strangers.is_empty(), "{strangers:?}");
    Ok(())
}

#[test]
fn live_and_ready_answer() -> Result<()> {
    if lab::skipped() {
        return Ok(());
    }
    let mut lab = Lab::start("")?;
    assert_eq!(lab.gateway.http("/live")?.0, 200);
    assert_eq!(lab.gateway.http("/ready")?.0, 200);
    assert_eq!(lab.gateway.http("/nothing")?.0, 404);
    let status = lab.gateway.stop()?;
    assert!(status.success(), "SIGTERM is a clean end: {status}");
    until("its port to be closed", SOON, || lab.gateway.http("/live").is_err().then_some(()))
}
