//! Random numbers that a seed brings back: for tests that try a new schedule on each run and must be able to repeat it.

use std::ops::Range;
use std::time::Duration;

/// A generator (splitmix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The generator of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Another one, for part `number` of the same test.
    #[must_use]
    pub fn part(&self, number: u64) -> Self {
        let mut part = Self(self.0 ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        part.bits();
        part
    }

    /// The seed in `TRACKER_SEED`, or a new one.
    #[must_use]
    pub fn seed() -> u64 {
        let given = std::env::var("TRACKER_SEED").ok().and_then(|seed| seed.parse().ok());
        given.unwrap_or_else(|| {
            use std::hash::{BuildHasher as _, Hasher as _};
            let fresh = std::collections::hash_map::RandomState::new().build_hasher().finish();
            // Short enough to be typed.
            fresh % 1_000_000
        })
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in the range.
    pub fn number(&mut self, range: Range<u64>) -> u64 {
        range.start + self.bits() % (range.end - range.start).max(1)
    }

    /// A time in the range, in whole milliseconds.
    pub fn span(&mut self, range: Range<Duration>) -> Duration {
        let ms = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.number(ms(range.start)..ms(range.end)))
    }

    /// True in so many of 100 cases.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.number(0..100) < percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_brings_the_same_numbers_back() {
        let draw = |seed| {
            let mut chance = Chance::new(seed).part(3);
            [chance.number(0..1000), chance.number(5..6), chance.number(0..1000)]
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert_eq!(draw(7)[1], 5);
    }
}
