//! Tests of the configuration as a whole.

mod docs;
mod file;
mod live;
