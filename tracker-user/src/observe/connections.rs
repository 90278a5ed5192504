//! The proxy's own connections: which client each belongs to, which session it was served on, and how to end it.

use std::fmt;

/// The number of a connection that the proxy accepted; never used twice in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// STUB
#[derive(Debug, Default)]
pub struct Connections {}
/// STUB
pub struct ConnectionInfo {
    pub peer: std::net::SocketAddr,
    pub since: crate::clock::BootTime,
    pub session: Option<crate::session::SessionId>,
    pub carries: String,
    pub received: u64,
    pub sent: u64,
}
impl Connections {
    pub fn len(&self) -> usize {
        0
    }
    pub fn of(&self, _: tracker_ebpf::abi::ClientAddr) -> Vec<ConnectionInfo> {
        vec![]
    }
    pub fn destroy(
        &self,
        _: tracker_ebpf::abi::ClientAddr,
        _: crate::session::SessionId,
        _: Option<ConnectionId>,
    ) -> usize {
        0
    }
}
