//! The proxy's own connections: the registry of those that are open.

mod registry;

pub use registry::{
    Carried, Carries, ClientEvents, ClientStream, Connection, ConnectionInfo, Connections, Left, Limits,
    Over, Seen, Signal, Watcher,
};
