//! The store's tests, by subject.

mod history;
