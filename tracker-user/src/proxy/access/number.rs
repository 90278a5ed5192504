//! The number by which a page and its line in the log find each other.

use std::fmt;

use crate::types::ConnectionId;

/// `c1a2b-3`: the connection's number, and which of its requests it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct RequestNumber {
    connection: ConnectionId,
    request: u32,
}

impl RequestNumber {
    /// The `request`-th of a connection, counted from 1.
    pub(in crate::proxy) const fn new(connection: ConnectionId, request: u32) -> Self {
        Self { connection, request }
    }
}

impl fmt::Display for RequestNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{:x}-{}", self.connection.number(), self.request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_short_enough_to_be_read_out_on_the_telephone() {
        let connection = ConnectionId::new(0x1a2b.try_into().unwrap());
        assert_eq!(RequestNumber::new(connection, 3).to_string(), "c1a2b-3");
    }
}
