//! `trackerctl`: commands for operators, answered by the daemon over its admin socket.

pub mod args;
mod detach;
mod run;
mod show;

pub use run::run;
