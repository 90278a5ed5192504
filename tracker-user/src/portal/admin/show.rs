//! Small things as pages show them.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What stands where there is nothing to show.
pub(super) const NONE: &str = "–";

/// A moment in the gateway's time zone, which every page names at its end. HTML's element `time` takes it as it is.
pub(super) fn moment(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A length of time in two units at most: `3 d 4 h`, `12 min 5 s`.
pub(super) fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes, seconds % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, 0) => format!("{m} min"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, 0, _) => format!("{h} h"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, 0, _, _) => format!("{d} d"),
        (d, h, _, _) => format!("{d} d {h} h"),
    }
}

/// Bytes, by powers of 1,024.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1_024 {
        return format!("{count} B");
    }
    let (mut value, mut unit) = (count as f64 / 1_024.0, "KiB");
    for larger in UNITS.into_iter().skip(1) {
        if value < 1_024.0 {
            break;
        }
        (value, unit) = (value / 1_024.0, larger);
    }
    format!("{value:.1} {unit}")
}

/// The moment that somebody typed into a form: as browsers send `datetime-local`, in the gateway's time zone, or as RFC 3339 has
/// it. `Ok(None)`: none.
pub(super) fn typed_moment(typed: &str) -> Result<Option<Timestamp>, NoMoment> {
    let typed = typed.trim();
    if typed.is_empty() {
        return Ok(None);
    }
    if let Ok(moment) = typed.parse::<Timestamp>() {
        return Ok(Some(moment));
    }
    let civil = typed.parse::<jiff::civil::DateTime>().map_err(|_| NoMoment)?;
    let zoned = civil.to_zoned(TimeZone::system()).map_err(|_| NoMoment)?;
    Ok(Some(zoned.timestamp()))
}

/// What was typed is no moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoMoment;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_bytes_are_short() {
        for (seconds, shown) in [
            (0.4, "0 s"),
            (59.9, "59 s"),
            (60.0, "1 min"),
            (3_599.0, "59 min 59 s"),
            (3_600.0, "1 h"),
            (90_000.0, "1 d 1 h"),
            (172_801.0, "2 d"),
            (-1.0, "0 s"),
        ] {
            assert_eq!(span(seconds), shown);
        }
        assert_eq!((bytes(0), bytes(1_023)), ("0 B".to_owned(), "1023 B".to_owned()));
        assert_eq!((bytes(1_536), bytes(3 << 40)), ("1.5 KiB".to_owned(), "3.0 TiB".to_owned()));
        assert_eq!(bytes(u64::MAX), "16384.0 PiB");
    }

    #[test]
    fn a_moment_is_read_as_browsers_send_it() {
        let noon: Timestamp = "2026-07-31T12:00:00Z".parse().unwrap();
        assert_eq!(typed_moment("2026-07-31T12:00:00Z"), Ok(Some(noon)));
        assert_eq!(typed_moment(" "), Ok(None));
        for typed in ["2026-07-31T12:00", "2026-07-31 12:00:05"] {
            let civil: jiff::civil::DateTime = typed.parse().unwrap();
            let zoned = civil.to_zoned(TimeZone::system()).unwrap();
            assert_eq!(typed_moment(typed), Ok(Some(zoned.timestamp())));
        }
        assert_eq!(typed_moment("yesterday"), Err(NoMoment));
        assert_eq!(typed_moment("9999-99-99T00:00"), Err(NoMoment));
    }
}
