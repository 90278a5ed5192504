//! `trackerctl decode`: a Negotiate token, explained.

use std::io::{self, Read};

use serde_json::Value;

use crate::admin::client::ClientError;
use crate::auth::kerberos::decode::{Line, explain};
use crate::auth::{Credentials, Malformed};

/// More than any token takes in base64.
const MOST: u64 = 1024 * 1024;

/// Reads the token from the command line, or from standard input for `-`.
pub(super) fn decode(words: &[String]) -> Result<Vec<Line>, ClientError> {
    let text = match words {
        [only] if only == "-" => {
            let mut text = String::new();
            let read = io::stdin().take(MOST).read_to_string(&mut text);
            read.map_err(|error| ClientError::Wrong(format!("standard input: {error}")))?;
            text
        }
        words => words.join(" "),
    };
    match Credentials::parse(field(&text).as_bytes()) {
        Credentials::Negotiate(token) => Ok(explain(&token)),
        Credentials::Malformed(Malformed::Negotiate(bad)) => Err(ClientError::Wrong(bad.to_string())),
        other => {
            let why = format!(
                "the scheme {:?} was used: only Negotiate tokens can be decoded",
                other.scheme_name()
            );
            Err(ClientError::Wrong(why))
        }
    }
}

/// The field's value, however much of the field was given: `Proxy-Authorization: Negotiate X`, `Negotiate X` or `X`.
fn field(text: &str) -> String {
    let text = text.trim();
    let value = text.split_once(':').map_or(text, |(_, value)| value).trim();
    let has_scheme = value.split_whitespace().count() > 1;
    if has_scheme { value.to_owned() } else { format!("Negotiate {value}") }
}

/// The explanation for people.
pub(super) fn show(value: &Value) -> String {
    let lines: Vec<Line> = serde_json::from_value(value.clone()).unwrap_or_default();
    let mut out = String::new();
    indented(&lines, 0, &mut out);
    out.trim_end().to_owned()
}

fn indented(lines: &[Line], depth: usize, out: &mut String) {
    for line in lines {
        out.push_str(&format!("{:depth$}{}: {}\n", "", line.what, line.is, depth = depth * 2));
        indented(&line.details, depth + 1, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_much_of_the_field_as_was_copied_is_enough() {
        for text in [
            "YWJj",
            " Negotiate YWJj\n",
            "Proxy-Authorization: Negotiate YWJj",
            "authorization: negotiate  YWJj",
        ] {
            assert_eq!(
                Credentials::parse(field(text).as_bytes()),
                Credentials::Negotiate(b"abc".to_vec()),
                "{text}"
            );
        }
        assert!(decode(&["Basic x:y".to_owned()]).is_err());
    }
}
