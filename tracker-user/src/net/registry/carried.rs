//! What a connection carries at the moment.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// What one exchange on a connection is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carries {
    /// A request.
    Request {
        /// Its method.
        method: Cow<'static, str>,
        /// `host:port`.
        to: Arc<str>,
    },
    /// A tunnel.
    Tunnel {
        /// `host:port`.
        to: Arc<str>,
    },
}

impl fmt::Display for Carries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request { method, to } => write!(f, "{method} {to}"),
            Self::Tunnel { to } => write!(f, "CONNECT {to}"),
        }
    }
}

/// All that a connection carries, by the numbers of the exchanges. The first needs no memory of its own: on HTTP/1 there is
/// never another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    first: Option<(u32, Carries)>,
    more: Vec<(u32, Carries)>,
}

impl Carried {
    /// Whether it is nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.first.is_none() && self.more.is_empty()
    }

    /// An exchange is about this from now on.
    pub(super) fn begin(&mut self, exchange: u32, what: Carries) {
        let mut more = self.more.iter_mut();
        match &mut self.first {
            Some((number, known)) if *number == exchange => *known = what,
            Some(_) => match more.find(|(number, _)| *number == exchange) {
                Some((_, known)) => *known = what,
                None => self.more.push((exchange, what)),
            },
            None => match more.find(|(number, _)| *number == exchange) {
                Some((_, known)) => *known = what,
                None => self.first = Some((exchange, what)),
            },
        }
    }

    /// An exchange has ended.
    pub(super) fn end(&mut self, exchange: u32) {
        if self.first.take_if(|(number, _)| *number == exchange).is_none() {
            self.more.retain(|(number, _)| *number != exchange);
        }
    }
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("idle");
        }
        for (place, (_, what)) in self.first.iter().chain(&self.more).enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            write!(f, "{separator}{what}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exchanges_come_and_go_in_any_order() {
        let tunnel = |to: &str| Carries::Tunnel { to: to.into() };
        let mut carried = Carried::default();
        assert_eq!(carried.to_string(), "idle");
        carried.begin(1, tunnel("a:1"));
        carried.begin(3, tunnel("b:1"));
        carried.begin(1, tunnel("c:1"));
        assert_eq!(carried.to_string(), "CONNECT c:1, CONNECT b:1");
        carried.end(1);
        carried.begin(3, Carries::Request { method: "GET".into(), to: "d:1".into() });
        assert_eq!(carried.to_string(), "GET d:1");
        carried.begin(5, tunnel("e:1"));
        carried.end(3);
        assert!(!carried.is_empty());
        carried.end(5);
        carried.end(5);
        assert!(carried.is_empty());
    }
}
