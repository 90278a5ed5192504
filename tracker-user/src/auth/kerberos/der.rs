//! Just enough DER (X.690) to look into tokens: values one after the other, never beyond what is there.

/// The values in some bytes, until something is no DER.
#[derive(Clone, Debug)]
pub(super) struct Der<'a>(&'a [u8]);

/// One value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
}

impl<'a> Der<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What has not been read yet.
    pub(super) const fn rest(&self) -> &'a [u8] {
        self.0
    }
}

impl<'a> Iterator for Der<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        // Tags of more than one byte do not occur in what is read here.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let count = usize::from(first & 0x7f);
            // Neither the indefinite form nor lengths beyond any token.
            if count == 0 || count > 4 {
                return None;
            }
            let (digits, rest) = rest.split_at_checked(count)?;
            (digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit)), rest)
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Value { tag, content })
    }
}

impl<'a> Value<'a> {
    /// The values inside.
    pub(super) const fn inside(&self) -> Der<'a> {
        Der::new(self.content)
    }

    /// The values of the one SEQUENCE inside; none if there is something else.
    pub(super) fn sequence(&self) -> Der<'a> {
        self.inside().next().filter(|value| value.tag == 0x30).map_or(Der::new(&[]), |value| value.inside())
    }
}

/// An INTEGER's number; of a longer one only the first eight bytes.
pub(super) fn integer(content: &[u8]) -> i64 {
    let negative = content.first().is_some_and(|byte| byte & 0x80 != 0);
    content.iter().take(8).fold(if negative { -1 } else { 0 }, |value, byte| (value << 8) | i64::from(*byte))
}
