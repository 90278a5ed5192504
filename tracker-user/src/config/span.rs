//! Lengths of time as operators write them: `90s`, `10m`, `8h`; a bare number is minutes, the vendor's unit.

use std::time::Duration;

use toml::Value;

use super::codec::{Codec, Faults};
use super::node::{Node, Raw};
use super::problem::Refusal;

/// The length of time that `text` names.
pub(super) fn parse(text: &str) -> Result<Duration, Refusal> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    if number.is_empty() {
        return Err(Refusal::new(format!("{text:?} is not a length of time"), REMEDY));
    }
    let seconds = match unit {
        "s" => 1,
        "" | "m" => 60,
        "h" => 3600,
        _ => return Err(Refusal::new(format!("{text:?} has the unknown unit {unit:?}"), REMEDY)),
    };
    Ok(seconds_of(number.parse().unwrap_or(u64::MAX), seconds))
}

const REMEDY: &str =
    r#"write a whole number and s, m or h, like "90s", "10m" or "8h"; a bare number is minutes"#;

fn seconds_of(number: u64, unit: u64) -> Duration {
    // What does not fit is out of every range, and is refused as that.
    Duration::from_secs(number.saturating_mul(unit))
}

/// `span` in the largest unit that is exact; what is below a second is left out.
#[must_use]
pub fn show(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => "0s".to_owned(),
        _ if seconds.is_multiple_of(3600) => format!("{}h", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

/// A length of time within bounds.
pub(super) struct Span {
    pub(super) least: Duration,
    /// The lower bound for what is written in seconds, which nobody does by mistake.
    pub(super) least_in_seconds: Duration,
    pub(super) most: Duration,
}

impl Span {
    fn check(&self, span: Duration, written: &str, in_seconds: bool) -> Result<Duration, Refusal> {
        let least = if in_seconds { self.least_in_seconds } else { self.least };
        if span > self.most {
            let message = format!("{written} is too long: {}", self.wants());
            return Err(Refusal::new(message, format!("write at most \"{}\"", minutes(self.most))));
        }
        if span < least {
            let message = format!("{written} is too short: {}", self.wants());
            let mut remedy = format!("write at least \"{}\"", short(least));
            if span >= self.least_in_seconds {
                remedy = format!("{remedy}, or \"{}s\" if so little is meant", span.as_secs());
            }
            return Err(Refusal::new(message, remedy));
        }
        Ok(span)
    }
}

/// The vendors give upper bounds in minutes.
fn minutes(span: Duration) -> String {
    format!("{}m", span.as_secs() / 60)
}

fn short(span: Duration) -> String {
    if span.as_secs() < 60 { show(span) } else { minutes(span) }
}

impl Codec for Span {
    type Value = Duration;

    fn read(&self, node: Node) -> Result<Duration, Faults> {
        let span = match &node.raw {
            Raw::Integer(number) => match u64::try_from(*number) {
                Ok(number) => self.check(seconds_of(number, 60), &format!("{number} minutes"), false),
                Err(_) if *number > 0 => self.check(Duration::MAX, &number.to_string(), false),
                Err(_) => Err(Refusal::new(format!("{number} is not a length of time"), REMEDY)),
            },
            _ => {
                let text = node.text(&self.wants(), &self.example())?;
                let text = text.trim();
                let bare = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                let written = if bare { format!("{text} minutes") } else { text.to_owned() };
                parse(text).and_then(|span| self.check(span, &written, text.ends_with('s')))
            }
        };
        Ok(span.map_err(|refusal| refusal.at(node.at))?)
    }

    fn write(&self, value: &Duration) -> Value {
        // What is allowed in seconds only has to come back in seconds.
        Value::String(if *value < self.least { format!("{}s", value.as_secs()) } else { show(*value) })
    }

    fn wants(&self) -> String {
        let range = format!("{} to {}", short(self.least), minutes(self.most));
        if self.least_in_seconds < self.least {
            format!("{range}; from {} if written in seconds", show(self.least_in_seconds))
        } else {
            range
        }
    }

    fn example(&self) -> String {
        "\"10m\"".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_their_lengths() {
        for (text, seconds) in
            [("90s", 90), ("10m", 600), ("10", 600), ("8h", 28_800), (" 1s ", 1), ("0", 0), ("007m", 420)]
        {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "s", "-1m", "1.5h", "500ms", "2d", "1h30m", "10 m", "١٠m", "0x10", "10M"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("99999999999999999999999h"), Ok(Duration::from_secs(u64::MAX)));
    }

    #[test]
    fn the_largest_exact_unit_is_shown() {
        for (seconds, text) in [(0, "0s"), (59, "59s"), (60, "1m"), (90, "90s"), (5400, "90m"), (7200, "2h")]
        {
            assert_eq!(show(Duration::from_secs(seconds)), text);
        }
    }
}
