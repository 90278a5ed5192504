//! Standard output, where log, audit trail and access log go. A thread of its own writes; whoever has a line leaves it in
//! memory and goes on. So a reader that stalls, or a disk that is full, stops nobody: what does not fit in memory is
//! counted and left out here. The audit trail's promise is the store's, not this one's.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use prometheus::{IntCounter, Registry};
use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

use crate::clock::{BootTime, boot_now};
use crate::outside;

/// So much waits to be written at most; of that, the access log takes no more than half.
const MOST: usize = 4 << 20;

/// A write that takes longer than this is told to operators.
const STALLED: Duration = Duration::from_secs(2);

/// After a write that failed, and while a reader takes nothing.
const PAUSE: Duration = Duration::from_millis(50);

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `field=value`.
    Text,
    /// A JSON document a line.
    Json,
}

/// See the module; all clones are the same one.
#[derive(Clone, Debug)]
pub struct Output {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    format: Format,
    state: Mutex<State>,
    /// There is something to write.
    filled: Condvar,
    /// Something has been written.
    written: Condvar,
    lost: IntCounter,
}

#[derive(Debug, Default)]
struct State {
    gathered: Vec<u8>,
    /// Since when the write under way has taken nothing.
    stuck: Option<BootTime>,
    /// Why the last write failed.
    failed: Option<String>,
    /// Lines that were left out since one was last written, and since when.
    missing: u64,
    missing_since: Option<BootTime>,
}

impl Output {
    /// Writes to standard output from now on.
    ///
    /// # Errors
    /// When standard output is closed, or no thread can be started.
    pub fn start(format: Format) -> io::Result<Self> {
        let stdout = io::stdout().as_fd().try_clone_to_owned()?;
        Self::to(File::from(stdout), format)
    }

    fn to(file: File, format: Format) -> io::Result<Self> {
        let lost = IntCounter::new(
            "tracker_log_lines_lost_total",
            "Lines of the log, the audit trail included, that standard output did not take",
        )
        .map_err(io::Error::other)?;
        let shared = Arc::new(Shared {
            format,
            state: Mutex::default(),
            filled: Condvar::new(),
            written: Condvar::new(),
            lost,
        });
        let writer = Arc::clone(&shared);
        thread::Builder::new().name("output".into()).spawn(move || writer.write(file))?;
        Ok(Self { shared })
    }

    /// How lines look.
    #[must_use]
    pub fn format(&self) -> Format {
        self.shared.format
    }

    /// Counts what is lost in `registry`.
    ///
    /// # Errors
    /// When the metric is registered already.
    pub fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.shared.lost.clone()))
    }

    /// Leaves whole lines to be written; they are lost if too much waits already. Never waits.
    fn leave(&self, lines: &[u8]) {
        let lines = self.shared.seemly(lines);
        let mut state = self.shared.lock();
        if state.gathered.len() >= MOST {
            return self.shared.lose(&mut state, &lines);
        }
        state.gathered.extend_from_slice(&lines);
        drop(state);
        self.shared.filled.notify_one();
    }

    /// Leaves lines of the access log, which are in order already. False if there is no room: nothing was left then.
    pub fn leave_access(&self, lines: &[u8]) -> bool {
        let mut state = self.shared.lock();
        if state.gathered.len() >= MOST / 2 {
            return false;
        }
        state.gathered.extend_from_slice(lines);
        drop(state);
        self.shared.filled.notify_one();
        true
    }

    /// Waits until something has been written, or for `time`.
    pub fn wait(&self, time: Duration) {
        let state = self.shared.lock();
        drop(self.shared.written.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until everything is written, but no longer than `time`. For the end of the process.
    pub fn finish(&self, time: Duration) {
        let state = self.shared.lock();
        let busy = |state: &mut State| !state.gathered.is_empty() || state.stuck.is_some();
        let waited = self.shared.written.wait_timeout_while(state, time, busy);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// What is wrong with standard output, for operators.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let state = self.shared.lock();
        let stuck = state.stuck.map(|since| boot_now().since(since)).filter(|span| *span >= STALLED);
        let what = match (&state.failed, stuck) {
            (Some(error), _) => format!("standard output cannot be written ({error})"),
            (None, Some(span)) => format!("standard output has not been read for {} s", span.as_secs()),
            (None, None) => return None,
        };
        let missing = state.missing;
        Some(format!(
            "{what}: {missing} lines of the log are missing there so far; clients are served all the same, and trackerctl \
             events has the audit trail; see to whatever reads the log, or to its disk"
        ))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has no picture is written as its number, whoever has put it into a line.
    fn seemly<'a>(&self, lines: &'a [u8]) -> std::borrow::Cow<'a, [u8]> {
        let Ok(text) = std::str::from_utf8(lines) else { return lines.into() };
        let shown = match self.format {
            Format::Text => outside::lines(text),
            Format::Json => outside::json(text),
        };
        match shown {
            std::borrow::Cow::Borrowed(text) => text.as_bytes().into(),
            std::borrow::Cow::Owned(text) => text.into_bytes().into(),
        }
    }

    fn lose(&self, state: &mut State, lines: &[u8]) {
        let count = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.lost.inc_by(count);
        state.missing += count;
        state.missing_since.get_or_insert_with(boot_now);
    }

    /// The writing thread.
    fn write(&self, mut file: File) {
        let mut lines = Vec::new();
        loop {
            {
                let mut state = self.lock();
                while state.gathered.is_empty() {
                    state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                lines.clear();
                std::mem::swap(&mut lines, &mut state.gathered);
                state.stuck = Some(boot_now());
            }
            let outcome = self.write_all(&mut file, &lines);
            let mut state = self.lock();
            state.stuck = None;
            let gap = match &outcome {
                Ok(()) => {
                    state.failed = None;
                    let since = state.missing_since.take();
                    since.map(|since| (std::mem::take(&mut state.missing), since))
                }
                Err((error, rest)) => {
                    state.failed = Some(error.to_string());
                    self.lose(&mut state, rest);
                    None
                }
            };
            drop(state);
            self.written.notify_all();
            if let Some((lost, since)) = gap {
                let seconds = boot_now().since(since).as_secs();
                warn!(lost, seconds, "standard output is written again: lines are missing before this one");
            }
            if outcome.is_err() {
                thread::sleep(PAUSE);
            }
            // What was filled in a stall holds megabytes.
            lines.clear();
            lines.shrink_to(64 * 1024);
        }
    }

    /// Writes all, or says what could not be.
    fn write_all<'a>(&self, file: &mut File, lines: &'a [u8]) -> Result<(), (io::Error, &'a [u8])> {
        let mut rest = lines;
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(count) => {
                    rest = rest.get(count..).unwrap_or_default();
                    self.lock().stuck = Some(boot_now());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Somebody who shares the pipe has set it so.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
                Err(error) => return Err((error, rest)),
            }
        }
        Ok(())
    }
}

/// Takes a line at a time.
impl Write for Output {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.leave(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Output {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    const LINE: &[u8] =
        b"a line of a usual length, as there are many of them in a log, the longer the busier it is\n";
    const PATIENCE: Duration = Duration::from_secs(30);

    fn pipe(format: Format) -> (Output, File) {
        let (read, write) = nix::unistd::pipe().unwrap();
        (Output::to(File::from(write), format).unwrap(), File::from(read))
    }

    /// Reads up to a line with these words.
    fn read_until(from: &mut File, words: &str) -> String {
        let (mut all, mut part) = (Vec::new(), [0; 4096]);
        while !String::from_utf8_lossy(&all).contains(words) {
            let count = from.read(&mut part).unwrap();
            assert!(count > 0);
            all.extend_from_slice(&part[..count]);
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn nobody_waits_for_a_reader_and_what_is_lost_is_counted() {
        let (output, mut reader) = pipe(Format::Text);
        let mut writer = output.clone();
        let lines = 3 * MOST / LINE.len();
        for _ in 0..lines {
            writer.write_all(LINE).unwrap();
        }
        let lost = output.shared.lost.get();
        assert!(lost as usize > lines / 3 && (lost as usize) < lines, "{lost} of {lines}");
        assert!(output.shared.lock().gathered.len() < MOST + LINE.len());
        assert!(!output.leave_access(LINE), "the access log waits with its lines");
        output.finish(Duration::from_millis(10));
        output.shared.lock().stuck = Some(boot_now().before(STALLED));
        let problem = output.problem().unwrap();
        assert!(
            problem.contains("has not been read") && problem.contains(&format!("{lost} lines")),
            "{problem}"
        );
        // The reader comes back: everything that was not lost is there.
        let reading = thread::spawn(move || {
            let mut left = lines - lost as usize;
            let mut part = [0; 64 * 1024];
            while left > 0 {
                let count = reader.read(&mut part).unwrap();
                left -= part[..count].iter().filter(|byte| **byte == b'\n').count();
            }
            reader
        });
        let _reader = reading.join().unwrap();
        output.finish(PATIENCE);
        assert_eq!(output.problem(), None);
        assert!(output.leave_access(LINE));
    }

    #[test]
    fn a_write_that_fails_is_told_until_one_succeeds() {
        let (output, reader) = pipe(Format::Text);
        drop(reader);
        output.leave(LINE);
        output.finish(PATIENCE);
        let problem = output.problem().unwrap();
        assert!(problem.contains("cannot be written") && problem.contains("1 lines"), "{problem}");
        assert_eq!(output.shared.lost.get(), 1);
    }

    #[test]
    fn no_line_does_anything_on_a_terminal() {
        let (output, mut reader) = pipe(Format::Text);
        output.leave("client sent \u{202e}gnp.exe\u{1b}[2J\nend\n".as_bytes());
        assert_eq!(read_until(&mut reader, "end\n"), "client sent \\u{202e}gnp.exe\\u{1b}[2J\nend\n");
        let (output, mut reader) = pipe(Format::Json);
        let line = serde_json::json!({ "sent": "\u{202e}x", "last": true }).to_string();
        output.leave(format!("{line}\n").as_bytes());
        let read = read_until(&mut reader, "\n");
        assert!(read.is_ascii(), "{read}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&read).unwrap()["sent"], "\u{202e}x");
    }
}
