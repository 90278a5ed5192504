//! Threads for what blocks: names that are resolved, files that are read. A runtime's own blocking threads end the process
//! when the system gives no more of them; these are started early, more are added while there are any to be had, and what
//! finds none waits its turn.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::debug;

/// A thread beyond the first ones ends when it has had nothing to do for this long.
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// A pool of threads.
pub struct Threads {
    shared: Arc<Shared>,
}

/// How large a pool is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// So many threads are started at once, and stay.
    pub least: usize,
    /// So many there are at most.
    pub most: usize,
    /// So much may wait for one of them.
    pub queue: usize,
}

struct Shared {
    name: &'static str,
    size: Size,
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
    closed: bool,
}

/// All threads work, and as much waits for them as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too much waits to be done")]
pub struct Busy;

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

impl Threads {
    /// Starts the first threads, which are called `name` and a number.
    ///
    /// # Errors
    /// When the system gives not even these.
    pub fn start(name: &'static str, size: Size) -> io::Result<Self> {
        let shared = Shared { name, size, state: Mutex::default(), filled: Condvar::new() };
        let threads = Self { shared: Arc::new(shared) };
        for _ in 0..size.least {
            threads.shared.lock().threads += 1;
            threads.add()?;
        }
        Ok(threads)
    }

    /// Has `work` done by one of them. What it comes to is not computed where nobody waits for it any more.
    ///
    /// # Errors
    /// When too much waits already.
    pub fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<oneshot::Receiver<T>, Busy> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move || {
            if !reply.is_closed() {
                // Whoever asked may have gone meanwhile.
                let _ = reply.send(work());
            }
        });
        let mut state = self.shared.lock();
        if state.jobs.len() >= self.shared.size.queue {
            return Err(Busy);
        }
        state.jobs.push_back(job);
        let one_more = state.idle < state.jobs.len() && state.threads < self.shared.size.most;
        if one_more {
            state.threads += 1;
        }
        drop(state);
        self.shared.filled.notify_one();
        if one_more && let Err(error) = self.add() {
            debug!(%error, name = self.shared.name, "no thread can be added: the others go on");
        }
        Ok(answer)
    }

    /// Starts a thread that has been counted already.
    fn add(&self) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let started = thread::Builder::new().name(self.shared.name.into()).spawn(move || shared.work());
        if started.is_err() {
            self.shared.lock().threads -= 1;
        }
        started.map(drop)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        // Whoever waits for an answer hears that there will be none.
        state.jobs.clear();
        drop(state);
        self.shared.filled.notify_all();
    }
}

impl Shared {
    fn work(&self) {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
                drop(state);
                job();
                state = self.lock();
                continue;
            }
            if state.closed {
                state.threads -= 1;
                return;
            }
            state.idle += 1;
            let (again, timed_out) =
                self.filled.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = again;
            state.idle -= 1;
            if timed_out.timed_out() && state.jobs.is_empty() && state.threads > self.size.least {
                state.threads -= 1;
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn pool(least: usize, most: usize, queue: usize) -> Threads {
        Threads::start("test", Size { least, most, queue }).unwrap()
    }

    #[tokio::test]
    async fn work_is_done() {
        let threads = pool(1, 2, 8);
        assert_eq!(threads.run(|| 6 * 7).unwrap().await, Ok(42));
        assert_eq!(threads.run(|| 1).unwrap().await, Ok(1));
    }

    #[tokio::test]
    async fn threads_are_added_up_to_a_bound_and_then_work_waits_up_to_a_bound() {
        let threads = pool(1, 2, 2);
        let (release, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let (began, begun) = mpsc::channel();
        let block = || {
            let (held, began) = (Arc::clone(&held), began.clone());
            move || {
                began.send(()).unwrap();
                let _ = held.lock().unwrap().recv();
            }
        };
        let first = threads.run(block()).unwrap();
        begun.recv().unwrap();
        // A second thread, which waits for the lock that the first one holds.
        let second = threads.run(block()).unwrap();
        begun.recv().unwrap();
        let waiting = [threads.run(|| ()).unwrap(), threads.run(|| ()).unwrap()];
        assert_eq!(threads.run(|| ()).err(), Some(Busy));
        drop(release);
        for answer in [first, second].into_iter().chain(waiting) {
            answer.await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_done() {
        let threads = pool(1, 1, 8);
        let (release, held) = mpsc::channel::<()>();
        let blocked = threads.run(move || held.recv().is_err()).unwrap();
        let (did, done) = mpsc::channel();
        drop(threads.run(move || did.send(()).unwrap()).unwrap());
        drop(release);
        assert_eq!(blocked.await, Ok(true));
        assert_eq!(threads.run(|| ()).unwrap().await, Ok(()));
        assert!(done.recv().is_err(), "it was thrown away");
    }

    #[tokio::test]
    async fn a_pool_that_is_gone_answers_nobody() {
        let threads = pool(1, 1, 8);
        let (release, held) = mpsc::channel::<()>();
        let (began, begun) = mpsc::channel();
        let blocked = threads.run(move || began.send(()).map(|()| held.recv())).unwrap();
        begun.recv().unwrap();
        let waiting = threads.run(|| ()).unwrap();
        drop(threads);
        assert!(waiting.await.is_err());
        drop(release);
        assert!(blocked.await.unwrap().unwrap().is_err(), "what had begun is finished");
    }
}
