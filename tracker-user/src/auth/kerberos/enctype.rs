//! Kerberos' encryption types in words, and which of them are worth having.

/// The name of an encryption type, by the numbers of RFC 3961 and its successors; `None` for one that has none here.
#[must_use]
pub const fn known(number: i32) -> Option<&'static str> {
    Some(match number {
        17 => "aes128-cts-hmac-sha1-96",
        18 => "aes256-cts-hmac-sha1-96",
        19 => "aes128-cts-hmac-sha256-128",
        20 => "aes256-cts-hmac-sha384-192",
        23 => "rc4-hmac",
        1 => "des-cbc-crc",
        3 => "des-cbc-md5",
        16 => "des3-cbc-sha1",
        25 => "camellia128-cts-cmac",
        26 => "camellia256-cts-cmac",
        _ => return None,
    })
}

/// The same; the number where there is no name.
#[must_use]
pub fn name(number: i32) -> String {
    known(number).map_or_else(|| format!("enctype {number}"), ToOwned::to_owned)
}

/// The same, with a warning where one is due.
#[must_use]
pub fn in_words(number: i32) -> String {
    if is_weak(number) { format!("{} (weak)", name(number)) } else { name(number) }
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
        assert!(!is_weak(17) && !is_weak(18) && !is_weak(20) && is_weak(23));
        assert_eq!((in_words(23).as_str(), in_words(99).as_str()), ("rc4-hmac (weak)", "enctype 99"));
    }
}
