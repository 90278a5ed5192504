//! From a record to evidence: beyond this border there are no raw stamps, and no 0 that means never. Used for the records of
//! clients by `observe/`, and here for those of single connections.

use tracker_ebpf::record::Record;

use crate::clock::BootTime;
use crate::session::{Evidence, Gap};

impl From<&Record> for Evidence {
    fn from(record: &Record) -> Self {
        let gap = |start: u64, end: u64| {
            Some(Gap { end: BootTime::from_stamp(end)?, start: BootTime::from_nanos(start) })
        };
        // What a client has ended holds it open up to a moment that there was, whatever its number.
        let stamp = if record.half > 0 { |at| Some(BootTime::from_nanos(at)) } else { BootTime::from_stamp };
        Self {
            open: record.open,
            half_closed: record.half,
            opened_at: BootTime::from_stamp(record.opened_at),
            left_at: BootTime::from_stamp(record.left_at),
            closed_from: record.closes_at().and_then(stamp),
            closed_at: BootTime::from_stamp(record.closed_at),
            traffic_at: BootTime::from_stamp(record.traffic_at),
            closed_gap: gap(record.closed_gap_start, record.closed_gap_end),
            traffic_gap: gap(record.traffic_gap_start, record.traffic_gap_end),
            received: record.rx,
            sent: record.tx,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tracker_ebpf::record::GRACE;

    use super::*;

    fn stamp() -> impl Strategy<Value = u64> {
        prop_oneof![1 => Just(0_i64), 6 => 1..200_i64, 1 => -9..0_i64].prop_map(i64::cast_unsigned)
    }

    #[test]
    fn what_never_was_is_none() {
        assert_eq!(Evidence::from(&Record::default()), Evidence::default());
    }

    proptest! {
        #[test]
        fn evidence_says_what_the_record_says(
            open in 0..3_u32, half in 0..3_u32, left_at in stamp(), closed_at in stamp(), held in stamp(), now in 1..300_u64,
        ) {
            let held_at = held.wrapping_sub(GRACE);
            // Who has ended a connection has left.
            let left_at = if half > 0 { left_at.max(1) } else { left_at };
            let record = Record { open, half, left_at, closed_at, held_at, ..Record::default() };
            let (evidence, at) = (Evidence::from(&record), BootTime::from_nanos(now));
            prop_assert_eq!(evidence.is_open(at), record.is_open(now));
            let closed_by = evidence.closed_by(at).map_or(0, BootTime::as_nanos);
            prop_assert_eq!(closed_by, record.closed_by(now));
            prop_assert_eq!(evidence.connections(), record.connections());
        }
    }
}
