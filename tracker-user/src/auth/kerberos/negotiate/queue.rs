//! A bounded queue between async tasks and threads: pushing never waits, popping does.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(super) struct Queue<T> {
    bound: usize,
    state: Mutex<State<T>>,
    filled: Condvar,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    /// How many threads wait that nobody has woken yet, or more: waking is a system call, and none is needed without them.
    waiting: usize,
    closed: bool,
}

impl<T> Queue<T> {
    pub(super) fn new(bound: usize) -> Self {
        let state = Mutex::new(State { items: VecDeque::new(), waiting: 0, closed: false });
        Self { bound, state, filled: Condvar::new() }
    }

    /// Gives the item back if the queue is full or closed.
    pub(super) fn push(&self, item: T) -> Result<(), T> {
        let mut state = self.lock();
        if state.closed || state.items.len() >= self.bound {
            return Err(item);
        }
        state.items.push_back(item);
        let somebody_waits = state.waiting > 0;
        state.waiting = state.waiting.saturating_sub(1);
        drop(state);
        if somebody_waits {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Waits for an item; `None` once the queue is closed.
    pub(super) fn pop(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if let Some(item) = state.items.pop_front() {
                return Some(item);
            }
            state.waiting += 1;
            // Whoever wakes it counts it out. One that wakes by itself is counted twice, and woken once in vain.
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        // Whoever waits for an answer hears that there will be none.
        state.items.clear();
        drop(state);
        self.filled.notify_all();
    }

    pub(super) fn len(&self) -> usize {
        self.lock().items.len()
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
