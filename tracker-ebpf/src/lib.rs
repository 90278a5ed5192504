//! The contract between the kernel side and user space, and the transitions of a client's record.
//!
//! Everything here is pure: no IO, no clock, no allocation, and nothing can fail. The eBPF programs (`main.rs`), the
//! fallback observer in user space and the tests on the host all call the same functions.

#![no_std]

pub mod abi;
pub mod mark;
pub mod record;
