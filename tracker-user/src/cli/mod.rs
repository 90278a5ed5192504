//! `trackerctl`: commands for operators, answered by the daemon over its admin socket.

mod app_passwords;
pub mod args;
mod bans;
mod certificates;
mod check;
mod complete;
mod decode;
mod detach;
mod doctor;
mod events;
mod explain;
mod list;
mod lists;
mod past;
mod run;
mod second_factor;
mod secret;
mod show;
mod top;
mod user;
mod when;

pub use complete::complete;
pub use run::run;
