//! A range of TCP ports.

use std::fmt;

/// The ports from `first` to `last`, both among them; one port where they are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest, not below the lowest.
    pub last: u16,
}

impl PortRange {
    /// One port.
    #[must_use]
    pub const fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// Whether this names one port and no other.
    #[must_use]
    pub const fn is_one(self) -> bool {
        self.first == self.last
    }

    /// Whether `port` is one of these.
    #[must_use]
    pub const fn has(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// `443` or `1025-65535`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let port = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse::<u16>().ok().filter(|port| plain && *port != 0)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = Self { first: port(first.trim_end())?, last: port(last.trim_start())? };
        (range.first <= range.last).then_some(range)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_one() { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges() {
        for (text, shown) in
            [("443", "443"), ("1025-65535", "1025-65535"), ("8000 - 8009", "8000-8009"), ("7-7", "7")]
        {
            assert_eq!(PortRange::parse(text).unwrap().to_string(), shown);
        }
        for text in ["", "-", "0", "0-9", "1-", "-1", "9-8", "65536", "1-65536", "+1", "1-2-3", "x"] {
            assert_eq!(PortRange::parse(text), None, "{text}");
        }
        let range = PortRange { first: 8000, last: 8009 };
        assert!(range.has(8000) && range.has(8009) && !range.has(7999) && !range.has(8010));
    }
}
