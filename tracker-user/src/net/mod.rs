//! The proxy's own connections: the registry of those that are open. And the border where records become evidence.

mod evidence;
mod registry;

pub use registry::{
    Carries, ClientEvents, ClientStream, Connection, ConnectionInfo, Connections, Left, Limits, Over, Seen,
    Signal, Watcher,
};
