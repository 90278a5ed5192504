//! Counts and levels over the last hour, day and week, in buckets. Pure: the time is an argument.
//!
//! Time is the wall clock's, in minutes: what people see on the axis. A bucket holds what was noted while the clock stood in it;
//! a clock that is set back notes into buckets that are there already, and one that is set forward leaves a gap. A bucket in which
//! nothing was noted is a gap, not a zero: the gateway did not run, or slept.

use super::measures::{COUNTS, Count, LEVELS, Level};

/// For how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Span {
    /// The last hour, by minutes.
    Hour,
    /// The last day, by quarters of an hour.
    Day,
    /// The last week, by two hours.
    Week,
}

impl Span {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Week];

    /// Its word, on disk and on pages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
        }
    }

    /// The one that this word is of.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|span| span.as_str() == word)
    }

    /// How long a bucket is, in minutes.
    #[must_use]
    pub const fn width(self) -> i64 {
        match self {
            Self::Hour => 1,
            Self::Day => 15,
            Self::Week => 120,
        }
    }

    /// How many buckets it has.
    #[must_use]
    pub const fn buckets(self) -> usize {
        match self {
            Self::Hour => 60,
            Self::Day => 96,
            Self::Week => 84,
        }
    }

    /// The number of the bucket that a minute is in.
    const fn number(self, minute: i64) -> i64 {
        minute.div_euclid(self.width())
    }

    /// Where the bucket of this number is kept.
    const fn place(self, number: i64) -> usize {
        // Both fit: there are less than a hundred.
        number.rem_euclid(self.buckets() as i64) as usize
    }
}

/// What was counted since the start, and what there is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) counts: [u64; COUNTS],
    pub(super) levels: [u64; LEVELS],
}

/// What was noted in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its number: the minutes since 1970, in units of its width.
    pub(super) number: i64,
    /// So many.
    pub(super) counts: [u64; COUNTS],
    /// The highest level.
    pub(super) levels: [u64; LEVELS],
}

impl Bucket {
    const fn new(number: i64) -> Self {
        Self { number, counts: [0; COUNTS], levels: [0; LEVELS] }
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self, count: Count) -> u64 {
        self.counts.get(count.place()).copied().unwrap_or_default()
    }

    /// The highest level.
    #[must_use]
    pub fn level(&self, level: Level) -> u64 {
        self.levels.get(level.place()).copied().unwrap_or_default()
    }

    fn add(&mut self, counts: &[u64; COUNTS], levels: &[u64; LEVELS]) {
        for (sum, more) in self.counts.iter_mut().zip(counts) {
            *sum = sum.saturating_add(*more);
        }
        for (highest, level) in self.levels.iter_mut().zip(levels) {
            *highest = (*highest).max(*level);
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Buckets {
    rings: [Vec<Option<Bucket>>; 3],
    /// What had been counted when something was last noted.
    last: [u64; COUNTS],
    /// What has changed since it was last taken.
    changed: Vec<(Span, usize)>,
}

impl Default for Buckets {
    fn default() -> Self {
        let rings = Span::ALL.map(|span| vec![None; span.buckets()]);
        Self { rings, last: [0; COUNTS], changed: Vec::new() }
    }
}

impl Buckets {
    /// Takes a bucket as it was kept. One that is older than what is there already does not count.
    pub(super) fn restore(&mut self, span: Span, bucket: Bucket) {
        if let Some(slot) = self.slot(span, bucket.number)
            && slot.is_none_or(|known| known.number < bucket.number)
        {
            *slot = Some(bucket);
        }
    }

    /// Notes what has been counted since the last note, and what there is now.
    pub(super) fn note(&mut self, minute: i64, reading: &Reading) {
        let mut counts = reading.counts;
        for (count, before) in counts.iter_mut().zip(self.last) {
            *count = count.saturating_sub(before);
        }
        for (last, now) in self.last.iter_mut().zip(reading.counts) {
            // One that is behind, as something is on its way from one place to another, has not been counted twice then.
            *last = (*last).max(now);
        }
        for span in Span::ALL {
            let number = span.number(minute);
            let Some(slot) = self.slot(span, number) else { continue };
            let bucket = slot.get_or_insert(Bucket::new(number));
            if bucket.number != number {
                *bucket = Bucket::new(number);
            }
            bucket.add(&counts, &reading.levels);
            let place = (span, span.place(number));
            if !self.changed.contains(&place) {
                self.changed.push(place);
            }
        }
    }

    /// What has changed since this was last asked.
    pub(super) fn take_changed(&mut self) -> Vec<(Span, Bucket)> {
        let changed = std::mem::take(&mut self.changed);
        let bucket = |(span, place): (Span, usize)| {
            let bucket = self.rings.get(span as usize)?.get(place)?.as_ref()?;
            Some((span, *bucket))
        };
        changed.into_iter().filter_map(bucket).collect()
    }

    /// The buckets of the time that ends with this minute, the oldest first; `None`: nothing was noted.
    pub(super) fn until(&self, span: Span, minute: i64) -> Vec<Option<Bucket>> {
        let last = span.number(minute);
        let ring = self.rings.get(span as usize);
        let bucket = |number: i64| {
            let bucket = ring?.get(span.place(number))?.as_ref()?;
            (bucket.number == number).then_some(*bucket)
        };
        (last - span.buckets() as i64 + 1..=last).map(bucket).collect()
    }

    fn slot(&mut self, span: Span, number: i64) -> Option<&mut Option<Bucket>> {
        self.rings.get_mut(span as usize)?.get_mut(span.place(number))
    }
}
