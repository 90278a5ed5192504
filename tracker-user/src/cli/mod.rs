//! `trackerctl`: commands for operators, answered by the daemon over its admin socket.

pub mod args;
mod bans;
mod decode;
mod detach;
mod doctor;
mod explain;
mod past;
mod run;
mod secret;
mod show;
mod user;
mod when;

pub use run::run;
