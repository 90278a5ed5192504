//! The operator's interface: an HTTP API on a unix socket, and what `trackerctl` makes of it.
//!
//! Who may open the socket may administer the gateway: its file mode (0660) and its directory are the access control.

pub mod client;
mod decisions;
mod explain;
mod history;
pub mod query;
pub mod report;
pub mod server;
pub mod wire;
