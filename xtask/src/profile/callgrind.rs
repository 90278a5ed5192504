//! Instructions of the user side, counted by valgrind: they do not depend on how busy the machine is.
//!
//! The counts are set to zero after a tenth of the requests: what is done once is not what the time goes into.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::{Options, Stage};
use crate::sh;

/// Functions that are shown.
const TOP: usize = 60;
/// Counts, and returns what there is to read.
pub(super) fn run(options: &Options, dir: &Path) -> Result<String> {
    let (name, unit) = (options.scenario.name(), options.scenario.unit());
    let output = dir.join(format!("{name}.callgrind"));
    // The first dump on demand has a number.
    let dump = dir.join(format!("{name}.callgrind.1"));
    let _ = fs::remove_file(&dump);
    let under = format!("--callgrind-out-file={}", output.display());
    let mut stage = Stage::new(options, &["valgrind", "--tool=callgrind", "--quiet", &under])?;
    let pid = stage.subject.tracker()?.gateway.pid().to_string();
    let control = |what: &str| sh::ask("callgrind_control", &[what, &pid]).context("callgrind_control");
    stage.bounded(options.count.div_ceil(10))?;
    control("--zero")?;
    let work = stage.bounded(options.count)?;
    control("--dump")?;
    let text = fs::read_to_string(&dump).context("callgrind wrote nothing")?;
    let total =
        text.lines().find_map(|line| line.strip_prefix("totals:").or_else(|| line.strip_prefix("summary:")));
    let each = total.context("no totals")?.trim().parse::<f64>()? / work.units;
    let path = dump.display().to_string();
    let listed = sh::ask("callgrind_annotate", &["--auto=no", "--threshold=100", &path]);
    let listed = listed.context("callgrind_annotate")?;
    let top: String = listed.lines().filter_map(function).take(TOP).collect();
    Ok(format!(
        "{each:.0} instructions of the user side per {unit}, over {:.0}; the rest of `callgrind_annotate {path}` is \
         below.\n\n{top}",
        work.units
    ))
}

/// A function's line without what says more about the machine that built it than about the function: count, share,
/// file, name.
fn function(line: &str) -> Option<String> {
    let (count, place) = line.split_once("%)  ")?;
    let share: f64 = count.rsplit('(').next()?.trim().parse().ok()?;
    let (file, name) = place.split_once(':')?;
    let (file, name) = (file.rsplit('/').next()?, name.split(" [").next()?);
    // What was running when the counts were set to zero is charged with all that it has called since.
    (share < 90.0).then(|| format!("{count} %)  {file}: {name}\n"))
}

#[cfg(test)]
mod tests {
    use super::function;

    #[test]
    fn functions_lose_their_paths() {
        let line =
            " 3,434 ( 5.70%)  ./string/../x86_64/multiarch/memmove.S:__memcpy_avx [/usr/lib/libc.so.6]";
        assert_eq!(function(line).as_deref(), Some(" 3,434 ( 5.70 %)  memmove.S: __memcpy_avx\n"));
        assert_eq!(function("60,235 (100.0%)  ./misc/clone.S:clone [/usr/lib/libc.so.6]"), None);
        assert_eq!(function("60,235 (100.0%)  PROGRAM TOTALS"), None);
    }
}
