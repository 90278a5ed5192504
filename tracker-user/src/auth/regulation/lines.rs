//! How many bans have a line of their own in the audit trail: whoever is banned has proved nothing, and the disk keeps
//! lines for months.

use std::time::Duration;

use crate::clock::BootTime;

/// So many at once.
const AT_ONCE: u64 = 1_000;
/// And one more each time that this has passed. In the 90 days that events are kept it is less than 780,000.
const EVERY: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// When the room for lines will be whole again.
    whole_at: BootTime,
    held_back: u64,
}

impl Lines {
    /// Whether what happens at `now` has a line; if so, how many before it had none.
    pub(super) fn ask(&mut self, now: BootTime) -> Option<u64> {
        let whole_at = self.whole_at.max(now).after(EVERY);
        if whole_at.since(now) > EVERY.saturating_mul(AT_ONCE as u32) {
            self.held_back += 1;
            return None;
        }
        self.whole_at = whole_at;
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_has_as_many_lines_as_there_is_room_for_and_the_next_one_says_how_many_had_none() {
        let mut lines = Lines::default();
        let at = |seconds: u64| BootTime::default().after(Duration::from_secs(1_000 + seconds));
        assert!((0..AT_ONCE).all(|_| lines.ask(at(0)) == Some(0)));
        assert!((0..7).all(|_| lines.ask(at(9)).is_none()));
        assert_eq!((lines.ask(at(10)), lines.ask(at(10))), (Some(7), None));
        assert_eq!((lines.ask(at(100_000)), lines.ask(at(100_000))), (Some(1), Some(0)));
    }
}
