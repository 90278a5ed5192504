//! When to begin, and how the result is told.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;

/// Says that everything is prepared, and waits for the word.
pub(crate) fn ready() -> Result<()> {
    println!("READY");
    std::io::stdout().flush()?;
    std::io::stdin().read_line(&mut String::new())?;
    Ok(())
}

/// Prints what came of it: `done` is how many there were, `times` how long each of them took.
pub(crate) fn print(took: Duration, mut times: Vec<Duration>, failed: u64) {
    times.sort_unstable();
    let at = |share: f64| {
        let rank = (times.len() as f64 * share) as usize;
        times.get(rank.min(times.len().saturating_sub(1))).map_or(0, Duration::as_micros)
    };
    let seconds = took.as_secs_f64();
    println!(
        r#"{{"done":{},"failed":{failed},"seconds":{seconds:.6},"per_second":{:.0},"p50_us":{},"p99_us":{},"max_us":{}}}"#,
        times.len(),
        times.len() as f64 / seconds,
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
