//! What operators' words look like in a request's path and after its question mark (`name=value` pairs): percent-encoded.

/// `text` as it may stand in a query.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b':') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// The value of `name` in a query, decoded; `None` if it is not there. What is not well encoded stands as it is.
#[must_use]
pub fn value(query: Option<&str>, name: &str) -> Option<String> {
    let pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(key, _)| *key == name).map(|(_, value)| decode(value));
    values.next()
}

/// What was meant by a text that was encoded.
pub(super) fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let pair = after.first_chunk::<2>().filter(|_| *first == b'%');
        let byte = pair.and_then(|pair| std::str::from_utf8(pair).ok());
        match byte.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_comes_back() {
        for text in ["alice@EXAMPLE.TEST", "a&b=c d", "größe", "100%", "%4", "fd77::1"] {
            let query = format!("x=1&user={}&y", encode(text));
            assert_eq!(value(Some(&query), "user").as_deref(), Some(text));
        }
        assert_eq!(value(Some("x=1"), "user"), None);
        assert_eq!(value(Some("user=%zz%"), "user").as_deref(), Some("%zz%"));
    }
}
