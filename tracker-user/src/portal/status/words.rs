//! Numbers and times as people read them.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A number, its digits in groups of three: with a narrow space, as both a comma and a point are taken for a decimal somewhere.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 * 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// Bytes, in the unit that leaves three digits or less.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1_000 {
        return format!("{bytes}\u{a0}B");
    }
    let mut amount = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if amount < 999.5 {
            break;
        }
        amount /= 1_024.0;
        unit = next;
    }
    if amount < 9.95 { format!("{amount:.1}\u{a0}{unit}") } else { format!("{amount:.0}\u{a0}{unit}") }
}

/// Bytes per second.
pub(super) fn rate(rate: f64) -> String {
    if rate < 0.5 {
        return "0".into();
    }
    // Far below what a number holds.
    format!("{}/s", bytes(rate.round() as u64))
}

/// A time, by its two largest units.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match () {
        () if days > 0 => format!("{days}\u{a0}d {}\u{a0}h", hours % 24),
        () if hours > 0 => format!("{hours}\u{a0}h {}\u{a0}min", minutes % 60),
        () if minutes > 0 => format!("{minutes}\u{a0}min {}\u{a0}s", seconds % 60),
        () => format!("{seconds}\u{a0}s"),
    }
}

/// From one moment to a later one; none where it is earlier.
pub(super) fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// How moments are shown: in the gateway's time zone. Cheap to make once a page.
pub(super) struct Clock(TimeZone);

impl Clock {
    pub(super) fn here() -> Self {
        Self(TimeZone::system())
    }

    /// Date and time, to the second.
    pub(super) fn moment(&self, moment: Timestamp) -> String {
        let shown = self.0.to_datetime(moment);
        let (date, time) = (shown.date(), shown.time());
        format!(
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}",
            date.year(),
            date.month(),
            date.day(),
            time.hour(),
            time.minute(),
            time.second()
        )
    }

    /// Date and time, to the minute.
    pub(super) fn minute(&self, moment: Timestamp) -> String {
        let mut shown = self.moment(moment);
        shown.truncate("0000-00-00 00:00".len());
        shown
    }

    /// The zone's short name at a moment.
    pub(super) fn zone(&self, moment: Timestamp) -> String {
        moment.to_zoned(self.0.clone()).strftime("%Z").to_string()
    }
}

/// A sentence with names in braces, filled in.
pub(super) fn filled(sentence: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(sentence.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_people_read_them() {
        for (value, shown) in
            [(0, "0"), (999, "999"), (5_000, "5\u{202f}000"), (1_234_567, "1\u{202f}234\u{202f}567")]
        {
            assert_eq!(number(value), shown);
        }
        for (value, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 KiB"),
            (1_023, "1.0 KiB"),
            (10_240, "10 KiB"),
            (1 << 20, "1.0 MiB"),
            (1_048_000, "1.0 MiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(bytes(value).replace('\u{a0}', " "), shown, "{value}");
        }
        assert_eq!(rate(0.2), "0");
        assert_eq!(rate(1_536.0).replace('\u{a0}', " "), "1.5 KiB/s");
        for (seconds, shown) in [(0, "0 s"), (61, "1 min 1 s"), (7_260, "2 h 1 min"), (90_000, "1 d 1 h")] {
            assert_eq!(span(Duration::from_secs(seconds)).replace('\u{a0}', " "), shown);
        }
        assert_eq!(filled("{from}–{to} of {all}", &[("from", "1"), ("to", "2"), ("all", "3")]), "1–2 of 3");
    }
}
