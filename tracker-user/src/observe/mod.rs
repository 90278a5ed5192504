//! What clients do on the wire.

pub mod connections;

pub use connections::{ConnectionId, Connections};
