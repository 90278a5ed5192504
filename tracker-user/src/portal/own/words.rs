//! Times and texts with something in them, as pages have them.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A moment, in the gateway's time zone, which is named.
pub(in crate::portal) fn moment(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// A span, by units that all languages write alike.
pub(in crate::portal) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let parts = [(seconds / 3_600, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let mut text = String::new();
    for (count, unit) in parts.into_iter().filter(|(count, _)| *count > 0) {
        let space = if text.is_empty() { "" } else { " " };
        let _ = write!(text, "{space}{count} {unit}");
    }
    if text.is_empty() { "0 s".into() } else { text }
}

/// A text in whose first `{}` something stands.
pub(in crate::portal) fn fill(text: &str, value: impl Display) -> String {
    text.replacen("{}", &value.to_string(), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_at_a_glance() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (600, "10 min"),
            (90, "1 min 30 s"),
            (28_800, "8 h"),
            (3_601, "1 h 1 s"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
        assert_eq!(fill("after {}.", "5 s"), "after 5 s.");
    }
}
