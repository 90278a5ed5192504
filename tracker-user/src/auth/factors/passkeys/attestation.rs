//! What an authenticator says of its make is not asked for, and is thrown away unread where it comes all the same: of the object that
//! a browser sends (WebAuthn, section 6.5.4) only the authenticator's data is kept. So no certificate of a stranger is parsed.

/// An object (CBOR, RFC 8949) that says nothing (`fmt` is `none`), up to the data.
const NONE: &[u8] = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData";
/// The data's key, as it stands in every such object.
const KEY: &[u8] = b"\x68authData";

/// The same object without the statement; `None` where it has no data.
pub(super) fn stripped(object: &[u8]) -> Option<Vec<u8>> {
    let at = object.windows(KEY.len()).rposition(|window| window == KEY)?;
    let rest = object.get(at + KEY.len()..)?;
    // A string of bytes, whose length is in one byte or two (RFC 8949, section 3).
    let (head, length) = match *rest {
        [0x58, length, ..] => (2, usize::from(length)),
        [0x59, high, low, ..] => (3, usize::from(u16::from_be_bytes([high, low]))),
        _ => return None,
    };
    Some([NONE, rest.get(..head + length)?].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_data_is_kept() {
        let data = |length: u8| [&[0x58, length][..], &vec![7; usize::from(length)]].concat();
        let plain = [NONE, &data(37)].concat();
        assert_eq!(stripped(&plain), Some(plain.clone()));
        let packed =
            [b"\xa3\x63fmt\x66packed\x67attStmt\xa1\x63alg\x26\x68authData".as_slice(), &data(37)].concat();
        assert_eq!(stripped(&packed), Some(plain.clone()));
        let long = [b"\x68authData\x59\x01\x00".as_slice(), &[9; 256]].concat();
        assert_eq!(stripped(&long), Some([NONE, &long[KEY.len()..]].concat()));
        for bad in [&plain[..plain.len() - 1], &long[..40], KEY, b"", b"\x68authData\x5a\x00\x00\x00\x01a"] {
            assert_eq!(stripped(bad), None);
        }
    }
}
