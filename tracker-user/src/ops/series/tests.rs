//! Counts and levels over time, beside a model that forgets nothing.

use std::sync::Arc;

use proptest::prelude::*;

use super::kept::{read, written};
use super::measures::{COUNTS, Count, LEVELS, Level};
use super::timeline::{Bucket, Buckets, Reading, Span};
use crate::store::{Entry, Journal, Store};

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    /// The clock goes on, or is set: by so many minutes.
    Clock(i64),
    /// Something is noted: so much more was counted, and there is so much.
    Note { more: u64, level: u64 },
    /// The daemon ends in order and starts again.
    Restart,
    /// It is killed: what has not been kept is lost.
    Crash,
    /// What has been noted is kept.
    Keep,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_i64..3).prop_map(Step::Clock),
        2 => (0_i64..400).prop_map(Step::Clock),
        1 => (-20_000_i64..20_000).prop_map(Step::Clock),
        8 => (0_u64..1_000, 0_u64..100).prop_map(|(more, level)| Step::Note { more, level }),
        1 => Just(Step::Restart),
        1 => Just(Step::Crash),
        2 => Just(Step::Keep),
    ]
}

/// A note, as the model remembers it.
#[derive(Clone, Copy, Debug)]
struct Noted {
    minute: i64,
    more: u64,
    level: u64,
}

/// What a span shows at a minute: of the notes in a bucket, those behind the last note in another bucket that takes the same
/// place.
fn expected(notes: &[Noted], span: Span, now: i64) -> Vec<Option<(u64, u64)>> {
    let (width, many) = (span.width(), span.buckets() as i64);
    let number = |minute: i64| minute.div_euclid(width);
    let last = number(now);
    let shown = |wanted: i64| {
        let rival = notes.iter().rposition(|note| {
            number(note.minute) != wanted && (number(note.minute) - wanted).rem_euclid(many) == 0
        });
        let since = &notes[rival.map_or(0, |at| at + 1)..];
        let mut own = since.iter().filter(|note| number(note.minute) == wanted).peekable();
        own.peek()?;
        Some(own.fold((0, 0), |(sum, high), note| (sum + note.more, high.max(note.level))))
    };
    (last - many + 1..=last).map(shown).collect()
}

fn shown(buckets: &Buckets, span: Span, now: i64) -> Vec<Option<(u64, u64)>> {
    let all = buckets.until(span, now).into_iter();
    all.map(|bucket| bucket.map(|bucket| (bucket.count(Count::Sent), bucket.level(Level::Users)))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    /// Whatever the clock does, and however often the daemon ends: each span shows what was noted in its buckets, and gaps where
    /// nothing was.
    #[test]
    fn each_span_shows_what_was_noted(steps in prop::collection::vec(step(), 1..80)) {
        let (mut buckets, mut counted, mut minute) = (Buckets::default(), 0_u64, 29_000_000_i64);
        // What is on disk, by place; and the notes that it is of.
        let mut disk: std::collections::HashMap<(Span, i64), Bucket> = std::collections::HashMap::new();
        let (mut notes, mut on_disk): (Vec<Noted>, usize) = (Vec::new(), 0);
        for step in steps {
            let keep = |buckets: &mut Buckets, disk: &mut std::collections::HashMap<(Span, i64), Bucket>| {
                for (span, bucket) in buckets.take_changed() {
                    disk.insert((span, bucket.number.rem_euclid(span.buckets() as i64)), bucket);
                }
            };
            match step {
                Step::Clock(minutes) => minute += minutes,
                Step::Note { more, level } => {
                    counted += more;
                    let mut reading = Reading { counts: [0; COUNTS], levels: [0; LEVELS] };
                    reading.counts[Count::Sent.place()] = counted;
                    reading.levels[Level::Users.place()] = level;
                    buckets.note(minute, &reading);
                    notes.push(Noted { minute, more, level });
                }
                Step::Keep => {
                    keep(&mut buckets, &mut disk);
                    on_disk = notes.len();
                }
                Step::Restart | Step::Crash => {
                    if matches!(step, Step::Restart) {
                        keep(&mut buckets, &mut disk);
                        on_disk = notes.len();
                    }
                    notes.truncate(on_disk);
                    (buckets, counted) = (Buckets::default(), 0);
                    disk.iter().for_each(|((span, _), bucket)| buckets.restore(*span, *bucket));
                }
            }
            for span in Span::ALL {
                prop_assert_eq!(shown(&buckets, span, minute), expected(&notes, span, minute), "{:?}", span);
            }
        }
    }

    /// What is kept is what is read.
    #[test]
    fn a_bucket_is_kept_by_its_words(number in any::<i64>(), counts: [u64; COUNTS], levels: [u64; LEVELS]) {
        let bucket = Bucket { number, counts, levels };
        for span in Span::ALL {
            prop_assert_eq!(read(&written(span, &bucket)), Some((span, bucket)));
        }
    }
}

#[test]
fn what_another_version_kept_is_read_as_far_as_it_is_known() {
    let bucket = Bucket { number: 7, counts: [1; COUNTS], levels: [2; LEVELS] };
    let mut kept = written(Span::Day, &bucket);
    kept.counts.insert("refused-by-the-moon".into(), 9);
    assert_eq!(read(&kept), Some((Span::Day, bucket)));
    kept.span = "century".into();
    assert_eq!(read(&kept), None);
}

#[test]
fn a_restart_keeps_the_buckets_in_as_many_rows_as_there_are_places() {
    let directory = tempfile::tempdir().unwrap();
    let bucket = |number| Bucket { number, counts: [3; COUNTS], levels: [4; LEVELS] };
    for round in 0..2 {
        let store = Arc::new(Store::open(directory.path(), None).unwrap());
        let journal = Journal::start(Arc::clone(&store)).unwrap();
        let all =
            (0..1_000).map(|number| Entry::Series(written(Span::Hour, &bucket(round * 1_000 + number))));
        let (tell, told) = std::sync::mpsc::channel();
        journal.submit(all.collect(), Some(Box::new(move |outcome| tell.send(outcome).unwrap())));
        told.recv().unwrap().unwrap();
        journal.close();
        store.close();
    }
    let store = Store::open(directory.path(), None).unwrap();
    let mut kept: Vec<i64> =
        store.series().unwrap().iter().filter_map(read).map(|(_, bucket)| bucket.number).collect();
    kept.sort_unstable();
    assert_eq!(kept, (1_940..2_000).collect::<Vec<i64>>());
}
