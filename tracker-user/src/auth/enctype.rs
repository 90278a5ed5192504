//! Kerberos' encryption types in words, and which of them are worth having.

/// The name of an encryption type, by the numbers of RFC 3961 and its successors.
#[must_use]
pub fn in_words(number: i64) -> String {
    let known = match number {
        17 => "aes128-cts-hmac-sha1-96",
        18 => "aes256-cts-hmac-sha1-96",
        19 => "aes128-cts-hmac-sha256-128",
        20 => "aes256-cts-hmac-sha384-192",
        23 => "rc4-hmac (weak)",
        1 | 3 => "single DES (broken)",
        16 => "triple DES (weak)",
        25 | 26 => "camellia",
        other => return format!("enctype {other}"),
    };
    known.to_owned()
}

/// Whether an encryption type is one that today's KDCs and clients no longer use by default.
#[must_use]
pub const fn is_weak(number: i32) -> bool {
    matches!(number, 1..=3 | 16 | 23 | 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_weak_is_said_to_be() {
        for number in 0..30 {
            let words = in_words(number.into());
            let says_so = words.contains("weak") || words.contains("broken");
            assert!(!says_so || is_weak(number), "{number}: {words}");
        }
        assert!(!is_weak(17) && !is_weak(18) && !is_weak(20) && is_weak(23));
        assert_eq!(in_words(99), "enctype 99");
    }
}
