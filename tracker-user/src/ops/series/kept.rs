//! A bucket as the store keeps it: by words, so that another version reads what it knows.

use super::measures::{COUNTS, Count, LEVELS, Level};
use super::timeline::{Bucket, Span};
use crate::store::StoredBucket;

/// A bucket, to be kept.
pub(super) fn written(span: Span, bucket: &Bucket) -> StoredBucket {
    let counts = Count::all().map(|count| (count.word(), bucket.count(count)));
    let levels = Level::ALL.into_iter().map(|level| (level.word().to_owned(), bucket.level(level)));
    StoredBucket {
        span: span.as_str().into(),
        place: u8::try_from(bucket.number.rem_euclid(span.buckets() as i64)).unwrap_or_default(),
        number: bucket.number,
        counts: counts.filter(|(_, count)| *count > 0).collect(),
        levels: levels.filter(|(_, level)| *level > 0).collect(),
    }
}

/// The bucket that was kept; `None` if it is of no span.
pub(super) fn read(kept: &StoredBucket) -> Option<(Span, Bucket)> {
    let span = Span::of(&kept.span)?;
    let mut bucket = Bucket { number: kept.number, counts: [0; COUNTS], levels: [0; LEVELS] };
    for count in Count::all() {
        if let (Some(slot), Some(kept)) =
            (bucket.counts.get_mut(count.place()), kept.counts.get(&count.word()))
        {
            *slot = *kept;
        }
    }
    for level in Level::ALL {
        if let (Some(slot), Some(kept)) =
            (bucket.levels.get_mut(level.place()), kept.levels.get(level.word()))
        {
            *slot = *kept;
        }
    }
    Some((span, bucket))
}
