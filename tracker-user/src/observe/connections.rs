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

/// All connections that the proxy holds to clients. TO BE BUILT by the proxy helper.
#[derive(Debug, Default)]
pub struct Connections {}
