//! Moments as operators write them: RFC 3339, local time, or how long ago.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::clock::wall_now;

const REMEDY: &str =
    "write 2026-07-31T12:00:00Z, \"2026-07-31 12:00\" in local time, or how long ago: 90s, 10m, 8h, 3d";

/// The moment that `text` names.
///
/// # Errors
/// When it names none, with what may be written.
pub(super) fn parse(text: &str) -> Result<Timestamp, String> {
    read(text, wall_now(), &TimeZone::system()).ok_or_else(|| format!("{text:?} is not a moment: {REMEDY}"))
}

fn read(text: &str, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let text = text.trim();
    if let Some(ago) = span(text) {
        return now.checked_sub(ago).ok();
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Some(moment);
    }
    let formats = ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"];
    let civil = formats.iter().find_map(|format| match DateTime::strptime(format, text) {
        Ok(civil) => Some(civil),
        // A day alone is its beginning.
        Err(_) => jiff::civil::Date::strptime(format, text).ok().filter(|_| text.len() == 10).map(Into::into),
    })?;
    civil.to_zoned(zone.clone()).ok().map(|zoned| zoned.timestamp())
}

fn span(text: &str) -> Option<SignedDuration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number = number.parse::<i64>().ok().filter(|_| digits)?;
    Some(SignedDuration::from_secs(number.checked_mul(seconds)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_moment() {
        let now: Timestamp = "2026-07-31T12:00:00Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let is = |text: &str, wanted: &str| {
            assert_eq!(read(text, now, &zone).map(|at| at.to_string()).as_deref(), Some(wanted), "{text}");
        };
        is("2026-07-31T09:30:00Z", "2026-07-31T09:30:00Z");
        is("2026-07-31T09:30:00.25+01:00", "2026-07-31T08:30:00.25Z");
        is("2026-07-31 09:30", "2026-07-31T07:30:00Z");
        is("2026-07-31 09:30:15", "2026-07-31T07:30:15Z");
        is("2026-07-31T09:30", "2026-07-31T07:30:00Z");
        is("2026-07-31", "2026-07-30T22:00:00Z");
        is("90s", "2026-07-31T11:58:30Z");
        is("10m", "2026-07-31T11:50:00Z");
        is("2d", "2026-07-29T12:00:00Z");
    }

    #[test]
    fn what_names_no_moment_is_refused_with_what_may_be_written() {
        for text in
            ["", "m", "-5m", "10", "10x", "yesterday", "2026-13-01 00:00", "99999999999999999999d", "ü"]
        {
            let error = parse(text).unwrap_err();
            assert!(error.contains("10m"), "{error}");
        }
    }
}
