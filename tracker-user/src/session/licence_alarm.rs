//! When licences are about to run out, and when they have: told once for each crossing, whoever comes and goes around it.

/// Scarce from so many per cent on.
const SCARCE: u64 = 80;
/// In per cent: a level is left once the licences in use are fewer than its threshold by more than this.
const SLACK: u64 = 10;

/// How many licences are left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LicenceLevel {
    /// Enough, or there is no limit.
    #[default]
    Available,
    /// Four of five are in use.
    Scarce,
    /// All are in use.
    Exhausted,
}

impl LicenceLevel {
    /// Every level, from the best on.
    pub const ALL: [Self; 3] = [Self::Available, Self::Scarce, Self::Exhausted];

    /// Its word, the same in logs, metrics, on disk and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Scarce => "scarce",
            Self::Exhausted => "exhausted",
        }
    }

    /// From so many per cent in use on.
    const fn threshold(self) -> u64 {
        match self {
            Self::Available => 0,
            Self::Scarce => SCARCE,
            Self::Exhausted => 100,
        }
    }

    /// What it is with so many in use of so many; 0 is no limit.
    #[must_use]
    pub fn of(used: u32, max: u32) -> Self {
        let is_reached = |level: &Self| is_reached(used, max, level.threshold());
        Self::ALL.into_iter().rev().find(is_reached).unwrap_or_default()
    }
}

fn is_reached(used: u32, max: u32, percent: u64) -> bool {
    percent == 0 || max > 0 && u64::from(used) * 100 >= u64::from(max) * percent
}

/// The level that was told last.
#[derive(Clone, Copy, Debug, Default)]
pub struct LicenceAlarm {
    told: LicenceLevel,
}

impl LicenceAlarm {
    /// So many licences are in use now, of so many (0 is no limit): the level, if it is another than the one told last. A
    /// level that is reached is told at once; that it is left, only when it is by a tenth of all.
    pub fn observe(&mut self, used: u32, max: u32) -> Option<LicenceLevel> {
        let now = LicenceLevel::of(used, max);
        let holds = |level: &LicenceLevel| {
            *level > now && *level <= self.told && is_reached(used, max, level.threshold() - SLACK)
        };
        let level = LicenceLevel::ALL.into_iter().rev().find(holds).unwrap_or(now);
        (std::mem::replace(&mut self.told, level) != level).then_some(level)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::LicenceLevel::{Available, Exhausted, Scarce};
    use super::*;

    /// What is told, one after the other.
    fn told(max: u32, used: &[u32]) -> Vec<Option<LicenceLevel>> {
        let mut alarm = LicenceAlarm::default();
        used.iter().map(|used| alarm.observe(*used, max)).collect()
    }

    #[test]
    fn each_threshold_is_told_when_it_is_reached_and_when_it_is_left_by_a_tenth() {
        assert_eq!(told(10, &[7, 8, 9, 10, 11]), [None, Some(Scarce), None, Some(Exhausted), None]);
        assert_eq!(
            told(10, &[10, 9, 10, 9, 8, 7, 8, 6]),
            [Some(Exhausted), None, None, None, Some(Scarce), None, None, Some(Available)]
        );
        assert_eq!(told(10, &[10, 0]), [Some(Exhausted), Some(Available)]);
        assert_eq!(told(1, &[0, 1, 1, 0]), [None, Some(Exhausted), None, Some(Available)]);
        assert_eq!(told(0, &[0, 1, u32::MAX]), [None; 3], "without a limit");
    }

    #[test]
    fn another_limit_is_judged_like_another_use() {
        let mut alarm = LicenceAlarm::default();
        assert_eq!(alarm.observe(5, 10), None);
        assert_eq!(alarm.observe(5, 3), Some(Exhausted));
        assert_eq!(alarm.observe(5, 100), Some(Available));
        assert_eq!(alarm.observe(u32::MAX, u32::MAX), Some(Exhausted));
        assert_eq!(alarm.observe(u32::MAX, 0), Some(Available));
    }

    proptest! {
        /// Whoever listens knows of every moment at which all are in use, and is never told the same twice.
        #[test]
        fn no_crossing_is_missed_or_told_twice(steps in prop::collection::vec((0..30_u32, 0..25_u32), 1..60)) {
            let (mut alarm, mut known) = (LicenceAlarm::default(), Available);
            for (used, max) in steps {
                if let Some(level) = alarm.observe(used, max) {
                    prop_assert!(level != known);
                    known = level;
                }
                prop_assert!(known >= LicenceLevel::of(used, max));
                prop_assert!(known == Available || max > 0);
                prop_assert!(u64::from(used) * 100 >= u64::from(max) * known.threshold().saturating_sub(SLACK));
            }
        }
    }
}
