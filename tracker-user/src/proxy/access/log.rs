//! Lines gather in lanes, one for each core; a thread writes them out.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus::IntCounter;

use super::Line;
use super::line::Writer;
use crate::output::Output;

/// How long lines gather before they are written.
const GATHER: Duration = Duration::from_millis(20);

/// More than this does not gather in one lane.
const MAX_GATHERED: usize = 4 << 20;

/// How often it is looked whether the output takes lines again.
const STALLED_LOOK: Duration = Duration::from_secs(1);

/// The access log; all clones are the same one.
#[derive(Clone)]
pub struct AccessLog {
    shared: Arc<Shared>,
}

struct Shared {
    /// `None` is no log.
    output: Option<Output>,
    lanes: Mutex<Vec<Arc<Mutex<Vec<u8>>>>>,
    /// The writer has been told that there is something: only the first who fills an empty lane has to wake it.
    told: AtomicBool,
    writer: Mutex<()>,
    wake: Condvar,
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog").field("output", &self.shared.output).finish_non_exhaustive()
    }
}

impl AccessLog {
    /// Nothing is logged.
    #[must_use]
    pub fn off() -> Self {
        Self::new(None)
    }

    /// Logs to `output`.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(output: Output) -> io::Result<Self> {
        let log = Self::new(Some(output));
        let writer = log.clone();
        thread::Builder::new().name("access-log".into()).spawn(move || {
            loop {
                writer.wait();
                thread::sleep(GATHER);
                while !writer.flush() {
                    // Meanwhile lines gather in the lanes, and are lost where these are full.
                    if let Some(output) = &writer.shared.output {
                        output.wait(STALLED_LOOK);
                    }
                }
            }
        })?;
        Ok(log)
    }

    fn new(output: Option<Output>) -> Self {
        let shared = Shared {
            output,
            lanes: Mutex::default(),
            told: AtomicBool::new(false),
            writer: Mutex::new(()),
            wake: Condvar::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Has written what has gathered, as far as the output takes it; false if that is not all. The last lines of a daemon that
    /// stops need it.
    pub fn flush(&self) -> bool {
        let Some(output) = &self.shared.output else { return true };
        // Told anew by whoever comes after this.
        self.shared.told.store(false, Ordering::SeqCst);
        let lanes = lock(&self.shared.lanes).clone();
        let mut gathered = Vec::new();
        for lane in lanes {
            std::mem::swap(&mut gathered, &mut lock(&lane));
            if !gathered.is_empty() && !output.leave_access(&gathered) {
                // They go back before those that have come meanwhile.
                let mut lines = lock(&lane);
                gathered.extend_from_slice(&lines);
                std::mem::swap(&mut gathered, &mut lines);
                return false;
            }
            gathered.clear();
        }
        true
    }

    /// Waits until there is something to write.
    fn wait(&self) {
        let mut guard = lock(&self.shared.writer);
        while !self.shared.told.load(Ordering::SeqCst) {
            guard = self.shared.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn tell(&self) {
        if !self.shared.told.swap(true, Ordering::SeqCst) {
            // With the lock, the writer cannot be between its look and its sleep.
            let _guard = lock(&self.shared.writer);
            self.shared.wake.notify_one();
        }
    }

    /// A lane for the thread that asks; `lost` counts what it cannot hold.
    pub(in crate::proxy) fn lane(&self, lost: &IntCounter) -> Lane {
        let lines = Arc::new(Mutex::new(Vec::new()));
        if self.shared.output.is_some() {
            lock(&self.shared.lanes).push(Arc::clone(&lines));
        }
        Lane { log: self.clone(), lines, lost: lost.clone(), writer: RefCell::default() }
    }
}

/// One core's lines.
pub(in crate::proxy) struct Lane {
    log: AccessLog,
    lines: Arc<Mutex<Vec<u8>>>,
    lost: IntCounter,
    writer: RefCell<Writer>,
}

impl Lane {
    pub(super) fn write(&self, line: &Line, complete: bool) {
        let Some(output) = &self.log.shared.output else { return };
        {
            let mut lines = lock(&self.lines);
            if lines.len() > MAX_GATHERED {
                return self.lost.inc();
            }
            self.writer.borrow_mut().write(&mut lines, output.format(), line, complete);
        }
        if !self.log.shared.told.load(Ordering::SeqCst) {
            self.log.tell();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
