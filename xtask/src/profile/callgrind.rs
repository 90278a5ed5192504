//! Instructions of the user side, counted by valgrind: they do not depend on how busy the machine is.
//!
//! The same load runs twice, once with a tenth of the requests; the difference is what requests cost, without the start and
//! everything else that is done once.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use lab::wait::until;

use super::{Options, Stage};
use crate::sh;

/// Functions that are shown.
const TOP: usize = 60;
/// valgrind writes down what it has counted.
const WRITES: Duration = Duration::from_secs(120);

/// Counts, and returns what there is to read.
pub(super) fn run(options: &Options, dir: &Path) -> Result<String> {
    let name = options.scenario.name();
    let (few, many) = (options.count.div_ceil(10), options.count);
    let file = |count: u64| dir.join(format!("{name}.{count}.callgrind"));
    for count in [few, many] {
        let output = format!("--callgrind-out-file={}", file(count).display());
        // valgrind has no eBPF to offer the daemon; the observer is the kernel's work anyway.
        let mut stage = Stage::new(options, &["valgrind", "--tool=callgrind", "--quiet", &output])?;
        stage.bounded(count)?;
        let Stage { subject, .. } = &stage;
        let pid = subject.tracker()?.gateway.pid();
        subject.tracker()?.gateway.signal(nix::sys::signal::Signal::SIGTERM)?;
        until("valgrind to write its counts", WRITES, || {
            let ended =
                fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
            (ended && file(count).exists()).then_some(())
        })?;
    }
    let total = |count: u64| -> Result<u64> {
        let text = fs::read_to_string(file(count))?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("summary:").or_else(|| line.strip_prefix("totals:")));
        Ok(line.context("no totals")?.trim().parse()?)
    };
    let each = (total(many)? as f64 - total(few)? as f64) / (many - few) as f64;
    let path = file(many).display().to_string();
    let listed = sh::ask("callgrind_annotate", &["--auto=no", "--threshold=95", &path])
        .context("callgrind_annotate")?;
    let top: String = listed.lines().take(TOP).map(|line| format!("{line}\n")).collect();
    let unit = options.scenario.unit();
    Ok(format!(
        "{each:.0} instructions of the user side per {unit}: the difference between {few} and {many} of them, divided.\n\
         All of the longer run, with the start (callgrind_annotate {path}):\n\n{top}"
    ))
}
