//! Names of hosts, as DNS has them.

/// Names longer than this are not in the DNS.
const MAX_NAME: usize = 253;

/// The same for each of their labels.
const MAX_LABEL: usize = 63;

/// Whether a text is a host name: labels of letters, digits, `-` and `_`, with a final dot or without. IPv4 addresses are, too.
#[must_use]
pub fn is_host_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= MAX_NAME && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_between_dots() {
        let label = "a".repeat(MAX_LABEL);
        let longest = [&*label; 3].join(".") + "." + &"b".repeat(MAX_NAME - 3 * (MAX_LABEL + 1));
        for name in
            ["a", "A-1.b_c", "wiki.example.test.", "127.0.0.1", &label, &longest, &format!("{longest}.")]
        {
            assert!(is_host_name(name), "{name}");
        }
        for text in [
            "",
            ".",
            "a..b",
            ".a",
            "a..",
            "a b",
            "a:80",
            "a%00",
            "m\u{fc}nchen",
            &format!("{label}a"),
            &format!("{longest}b"),
        ] {
            assert!(!is_host_name(text), "{text}");
        }
    }
}
