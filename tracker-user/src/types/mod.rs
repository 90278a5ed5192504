//! Small values that every room shares: identities of clients, connections, sessions, devices and users. Nothing here
//! knows another room, reads a clock or can fail except at parsing.

mod address_pattern;
mod connection_id;
mod device;
mod host_name;
mod identity;
mod method;
mod port_range;
mod role;
mod scope;
mod session_id;
mod traffic;
mod user_message;
mod user_name;

pub use address_pattern::{AddressPattern, parse_stars, show_network};
pub use connection_id::ConnectionId;
pub use device::{Device, NoDevice};
pub use host_name::is_host_name;
pub use identity::{ADMINISTRATOR, Identity, LOCAL_DOMAIN, told_realm};
pub use method::{Factor, Factors, Method, NoFactor, NoMethod};
pub use port_range::PortRange;
pub use role::{NoRole, Role};
pub use scope::Scope;
pub use session_id::{GatewayId, NoSessionId, SessionId};
pub use tracker_ebpf::abi::ClientAddr;
pub use traffic::Traffic;
pub use user_message::UserMessage;
pub use user_name::{DisplayName, UserQuery};
