//! The gateway's side of TCP: listeners and what they are for, the transports of what they accept, and the registry of
//! the connections that are open. And the border where records become evidence.

pub mod certificates;
mod client_stream;
pub mod descriptors;
mod evidence;
pub mod handed;
mod listener;
pub mod proxy_protocol;
mod registry;
mod served_stream;
mod socket_options;
mod splice;
#[cfg(test)]
pub(crate) mod testing;
mod tls;
mod transport;

pub use client_stream::{ClientStream, Handshake};
pub use handed::Handed;
pub use listener::{Endpoint, Listener, Security, Service};
pub use proxy_protocol::Caller;
pub use registry::{
    Carried, Carries, ClientEvents, Connection, ConnectionInfo, Connections, Left, Limits, Over, Payload,
    Seen, SeenConnection, Signal, Watcher,
};
pub use served_stream::ServedStream;
pub use socket_options::tune;
pub use splice::{ByteStream, Spliceable};
pub use tls::{ChannelBinding, ChannelBindingType, HandshakeError, TlsServer};
