//! What clients do on the wire.

pub mod connections;

pub use connections::{ClientEvents, ClientStream, Connection, ConnectionId, ConnectionInfo, Connections};
