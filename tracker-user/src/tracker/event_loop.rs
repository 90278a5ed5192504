//! The loop's own thread: a runtime that nothing else runs on, so that nobody's work can hold it.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

use super::core::Core;

/// The event loop, ready to run.
pub struct EventLoop {
    /// `None` once it runs.
    parts: Option<(Core, Runtime)>,
}

/// Closed when the event loop has ended; nothing ever comes.
pub type Ended = oneshot::Receiver<()>;

impl EventLoop {
    /// The loop that `make` makes, within its runtime: what it waits for has to be registered there.
    pub(super) fn new(make: impl FnOnce() -> io::Result<Core>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let core = {
            let _within = runtime.enter();
            make()?
        };
        Ok(Self { parts: Some((core, runtime)) })
    }

    /// Runs on a thread of its own until every handle on it is gone. Only a panic ends it before.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(mut self) -> io::Result<Ended> {
        let (running, ended) = oneshot::channel();
        let parts = self.parts.take();
        thread::Builder::new().name("event-loop".into()).spawn(move || {
            // Dropped with the thread, also by a panic.
            let _running: oneshot::Sender<()> = running;
            if let Some((core, runtime)) = parts {
                runtime.block_on(core.run());
            }
        })?;
        Ok(ended)
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        if let Some((core, runtime)) = self.parts.take() {
            drop(core);
            // Whoever gives it up may be within a runtime, where no other may be waited for.
            runtime.shutdown_background();
        }
    }
}
