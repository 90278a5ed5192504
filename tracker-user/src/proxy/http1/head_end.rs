//! When to look at a head again: one that comes byte by byte must not be parsed from its beginning at every byte.

/// Remembers how much was looked at.
#[derive(Debug, Default)]
pub(in crate::proxy) struct HeadEnd {
    seen: usize,
}

impl HeadEnd {
    /// Whether it is worth parsing: the first bytes are, for their mistakes; later ones if there is an empty line.
    pub(in crate::proxy) fn may_be_in(&mut self, unread: &[u8]) -> bool {
        let from = self.seen.saturating_sub(3);
        let first = self.seen == 0;
        self.seen = unread.len();
        let new = unread.get(from..).unwrap_or_default();
        let is_empty_line = |bytes: &[u8]| bytes.starts_with(b"\n\r\n") || bytes.starts_with(b"\n\n");
        first || (0..new.len()).any(|at| is_empty_line(new.get(at..).unwrap_or_default()))
    }

    /// The next head begins.
    pub(in crate::proxy) const fn begin(&mut self) {
        self.seen = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_line_is_seen_wherever_it_is_cut() {
        for head in ["GET / HTTP/1.1\r\nA: b\r\n\r\n", "GET / HTTP/1.1\nA: b\n\n"] {
            for first in 1..head.len() {
                for second in first..head.len() {
                    let mut end = HeadEnd::default();
                    assert!(end.may_be_in(&head.as_bytes()[..first]));
                    assert!(!end.may_be_in(&head.as_bytes()[..second]), "{first} {second}");
                    assert!(end.may_be_in(head.as_bytes()), "{first} {second}");
                }
            }
        }
    }
}
