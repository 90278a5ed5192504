//! What an application password looks like: `tap_`, eight characters that name it, 26 that are its secret of 128 bits, and two that
//! check what was typed; of the alphabet of Crockford's base 32, in lower case. So leaks are found by
//! `tap_[0-9a-hjkmnp-tv-z]{36}`.

use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

/// Each begins with it, and nothing else does that is taken for a password.
pub const MARK: &str = "tap_";

/// Crockford's base 32: no `i`, `l`, `o` or `u`.
const LETTERS: [u8; 32] = *b"0123456789abcdefghjkmnpqrstvwxyz";
/// Bits of a letter.
const BITS: u32 = 5;
/// So many letters name one,
pub(super) const ID: usize = 8;
/// so many are its secret: 130 bits, of which the last two are 0,
const SECRET: usize = 26;
/// and so many check both.
const CHECK: usize = 2;
const ALL: usize = ID + SECRET + CHECK;

/// The largest prime below 32²: one letter that is wrong, and two that have changed places, never give the same rest.
const PRIME: u32 = 1_021;

/// What names an application password.
pub(super) type Id = [u8; ID];

/// An application password, as far as its letters tell. Wiped when it goes.
pub struct Text(Zeroizing<[u8; ALL]>);

/// It begins like an application password, and is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::auth) struct Bad;

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Text(…)")
    }
}

/// Whether somebody who typed this means an application password, whatever is wrong with it.
pub(in crate::auth) fn is_meant(typed: &str) -> bool {
    typed.starts_with(MARK)
}

impl Text {
    /// A new one. `None` where the system has no randomness.
    pub(super) fn draw() -> Option<Self> {
        let mut random = Zeroizing::new([0; 5 + 16]);
        SystemRandom::new().fill(&mut *random).ok()?;
        let (id, secret) = random.split_at(5);
        let mut text = Zeroizing::new([0; ALL]);
        spell(id, text.get_mut(..ID)?);
        spell(secret, text.get_mut(ID..ID + SECRET)?);
        let check = check(text.get(..ID + SECRET)?);
        text.get_mut(ID + SECRET..)?.copy_from_slice(&check);
        Some(Self(text))
    }

    /// Reads one that was typed: in capitals too, and with the letters that Crockford's alphabet leaves out for those that they look
    /// like.
    ///
    /// # Errors
    /// Where it is none, as something was not typed as it was shown.
    pub(in crate::auth) fn parse(typed: &str) -> Result<Self, Bad> {
        let typed = typed.strip_prefix(MARK).ok_or(Bad)?.as_bytes();
        if typed.len() != ALL {
            return Err(Bad);
        }
        let mut text = Zeroizing::new([0; ALL]);
        for (place, &byte) in text.iter_mut().zip(typed) {
            *place = match byte.to_ascii_lowercase() {
                b'o' => b'0',
                b'i' | b'l' => b'1',
                letter => letter,
            };
        }
        let (rest, checked) = text.split_at(ID + SECRET);
        if text.iter().any(|letter| value(*letter).is_none()) || check(rest) != *checked {
            return Err(Bad);
        }
        Ok(Self(text))
    }

    /// What names it.
    pub(super) fn id(&self) -> Id {
        let mut id = [0; ID];
        id.iter_mut().zip(self.0.iter()).for_each(|(to, from)| *to = *from);
        id
    }

    /// What its HMAC is made of: the name, and the secret.
    pub(super) fn signed(&self) -> &[u8] {
        self.0.get(..ID + SECRET).unwrap_or_default()
    }

    /// As it is shown once.
    pub(super) fn shown(&self) -> Zeroizing<String> {
        // As large as it becomes: a buffer that grew would leave pieces of it behind.
        let mut shown = Zeroizing::new(String::with_capacity(MARK.len() + ALL));
        shown.push_str(MARK);
        shown.extend(self.0.iter().map(|letter| char::from(*letter)));
        shown
    }
}

/// Bytes as letters: as many as there is room for, filled up with zeros.
fn spell(bytes: &[u8], letters: &mut [u8]) {
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| (byte >> (7 - at % 8)) & 1);
    for (place, letter) in letters.iter_mut().enumerate() {
        let bits = place * BITS as usize..(place + 1) * BITS as usize;
        let index = bits.fold(0, |index, at| (index << 1) | usize::from(bit(at)));
        *letter = LETTERS.get(index).copied().unwrap_or_default();
    }
}

/// The two letters that check these: the rest of the number that they spell.
fn check(letters: &[u8]) -> [u8; CHECK] {
    let value = |letter: &u8| value(*letter).unwrap_or_default();
    let rest = letters.iter().fold(0, |rest, letter| ((rest << BITS) + value(letter)) % PRIME);
    [rest >> BITS, rest % 32].map(|index| LETTERS.get(index as usize).copied().unwrap_or_default())
}

/// What a letter stands for.
fn value(letter: u8) -> Option<u32> {
    let index = match letter {
        b'0'..=b'9' => letter - b'0',
        b'a'..=b'h' => letter - b'a' + 10,
        b'j' | b'k' => letter - b'j' + 18,
        b'm' | b'n' => letter - b'm' + 20,
        b'p'..=b't' => letter - b'p' + 22,
        b'v'..=b'z' => letter - b'v' + 27,
        _ => return None,
    };
    Some(index.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn letters_have_values_and_no_others_do() {
        for byte in 0..=u8::MAX {
            let expected = LETTERS.iter().position(|letter| *letter == byte);
            assert_eq!(value(byte).map(|value| value as usize), expected, "{byte}");
        }
    }

    #[test]
    fn what_is_drawn_is_read_back() {
        let one = Text::draw().unwrap();
        let shown = one.shown();
        assert_eq!(shown.len(), 40);
        assert!(is_meant(&shown));
        assert!(shown[4..].bytes().all(|letter| LETTERS.contains(&letter)), "{}", shown.len());
        let read = Text::parse(&shown).unwrap();
        assert_eq!((read.id(), read.signed()), (one.id(), one.signed()));
        assert_eq!(one.signed().last().map(|last| value(*last).unwrap() % 4), Some(0), "128 bits");
        let other = Text::draw().unwrap();
        assert!(other.id() != one.id() && other.signed() != one.signed());
        assert_eq!(format!("{one:?}"), "Text(…)");
    }

    #[test]
    fn all_bits_of_the_secret_are_spelled() {
        let mut letters = [0; SECRET];
        spell(&[0xff; 16], &mut letters);
        assert_eq!(&letters, b"zzzzzzzzzzzzzzzzzzzzzzzzzw");
        spell(&[0; 16], &mut letters);
        assert_eq!(letters, [b'0'; SECRET]);
    }

    #[test]
    fn what_looks_alike_is_the_same() {
        let shown =
            (0..).map(|_| Text::draw().unwrap().shown()).find(|text| text.contains(['0', '1'])).unwrap();
        let capitals = format!("{MARK}{}", shown[4..].to_uppercase());
        for typed in [capitals, format!("{MARK}{}", shown[4..].replace('0', "O").replace('1', "l"))] {
            assert_eq!(Text::parse(&typed).unwrap().signed(), Text::parse(&shown).unwrap().signed());
        }
        for (typed, is) in [("tap_", true), ("tap_x", true), ("TAP_x", false), ("tap", false), ("", false)] {
            assert_eq!(is_meant(typed), is);
            assert_eq!(Text::parse(typed).err(), Some(Bad), "{typed}");
        }
    }

    proptest! {
        /// Every single letter that is wrong, and every two that have changed places, are noticed.
        #[test]
        fn typing_errors_are_told_apart(seed in prop::array::uniform21(any::<u8>()), at in 0..ALL, to in 0..ALL, letter in 0usize..32) {
            let mut text = [0; ALL];
            spell(&seed[..5], &mut text[..ID]);
            spell(&seed[5..], &mut text[ID..ID + SECRET]);
            let check = check(&text[..ID + SECRET]);
            text[ID + SECRET..].copy_from_slice(&check);
            let typed = |text: &[u8]| format!("{MARK}{}", std::str::from_utf8(text).unwrap());
            prop_assert!(Text::parse(&typed(&text)).is_ok());
            let mut wrong = text;
            wrong[at] = LETTERS[letter];
            prop_assert_eq!(Text::parse(&typed(&wrong)).is_ok(), wrong == text);
            let mut swapped = text;
            swapped.swap(at, to);
            if at < ID + SECRET && to < ID + SECRET {
                prop_assert_eq!(Text::parse(&typed(&swapped)).is_ok(), swapped == text);
            }
            prop_assert!(Text::parse(&typed(&text)[..39]).is_err());
        }

        /// Whatever is typed: nothing panics.
        #[test]
        fn anything_is_read(typed in "(tap_)?(?s).{0,44}") {
            let _ = Text::parse(&typed);
        }
    }
}
