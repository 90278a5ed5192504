//! `trackerctl`: commands for operators, answered by the daemon over its admin socket.

pub mod args;
mod certificates;
mod decode;
mod detach;
mod doctor;
mod explain;
mod past;
mod run;
mod show;
mod when;

pub use run::run;
