//! Waiting with a deadline; the only place of the lab that reads a clock.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long to sleep between two looks.
const STEP: Duration = Duration::from_millis(10);

/// How long a browser may take for a page; about two seconds on an idle machine.
pub const PAGE: Duration = Duration::from_secs(90);

/// A stopwatch, running since it was made.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts one.
    #[expect(clippy::disallowed_methods, reason = "the daemon's clock.rs is not the lab's")]
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since it was started.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Looks again and again until `look` finds something, or fails with `what` was waited for after `limit`.
///
/// # Errors
/// When `limit` has passed.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let watch = Stopwatch::start();
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if watch.elapsed() >= limit {
            bail!("waited {limit:?} in vain for: {what}");
        }
        std::thread::sleep(STEP);
    }
}

/// Makes sure that `holds` stays true all the time until `span` has passed.
///
/// # Errors
/// As soon as it does not hold.
pub fn throughout(what: &str, span: Duration, mut holds: impl FnMut() -> bool) -> Result<()> {
    let watch = Stopwatch::start();
    loop {
        if !holds() {
            bail!("after {:?} no longer true: {what}", watch.elapsed());
        }
        if watch.elapsed() >= span {
            return Ok(());
        }
        std::thread::sleep(STEP * 5);
    }
}

/// Sleeps; for the silences that a test is about, never to wait for something that can be looked at.
pub fn silence(span: Duration) {
    std::thread::sleep(span);
}
