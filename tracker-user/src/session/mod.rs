//! The core.

pub mod settings;
