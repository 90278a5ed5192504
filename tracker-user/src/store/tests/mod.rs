//! The store's tests, by subject.

mod faults;
mod history;
mod opening;
