//! How much data moved.

/// Payload bytes, as TCP delivered them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Received from the client.
    pub rx: u64,
    /// Sent to the client.
    pub tx: u64,
}

impl Traffic {
    /// What moved between two readings of one counter. `None` if it was set back in between: then nobody knows.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Option<Self> {
        match (self.rx.checked_sub(earlier.rx), self.tx.checked_sub(earlier.tx)) {
            (Some(rx), Some(tx)) => Some(Self { rx, tx }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_was_set_back_tells_nothing() {
        let reading = |rx, tx| Traffic { rx, tx };
        assert_eq!(reading(7, 9).since(reading(5, 9)), Some(reading(2, 0)));
        assert_eq!(reading(7, 9).since(reading(8, 0)), None);
        assert_eq!(reading(7, 9).since(reading(0, 10)), None);
    }
}
