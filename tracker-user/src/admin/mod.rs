//! The operator's interface: an HTTP API on a unix socket, and what `trackerctl` makes of it. A skin over
//! [`ops`](crate::ops): requests are read, answers and refusals are written down, and nothing else.
//!
//! Who may open the socket may administer the gateway: its file mode (0660) and its directory are the access control.

mod application_passwords;
mod certificates;
pub mod client;
mod decisions;
mod peer;
pub mod query;
mod render;
mod respond;
mod route;
mod second_factor;
pub mod server;
pub mod wire;
