//! The deadlines of the sessions, by the place of each session: a heap that knows where everyone's deadline stands in it,
//! so that a deadline that moves is moved and none is left behind. Twenty bytes a session.

use super::piece_map::Place;
use crate::clock::BootTime;

/// Each has so many below it: fewer levels than with two, and their moments lie side by side.
const BELOW: usize = 4;
/// The position of who has no deadline.
const NOWHERE: u32 = u32::MAX;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// None is earlier than the one above it.
    heap: Vec<(BootTime, Place)>,
    /// Where in the heap, by place.
    positions: Vec<u32>,
}

impl Deadlines {
    /// The earliest.
    pub(super) fn first(&self) -> Option<(BootTime, Place)> {
        self.heap.first().copied()
    }

    /// Sets the deadline of `place`, or that it has none.
    pub(super) fn set(&mut self, place: Place, at: Option<BootTime>) {
        let position = self.positions.get(place.number()).filter(|position| **position != NOWHERE);
        match (position.map(|position| *position as usize), at) {
            (None, None) => {}
            (None, Some(at)) => {
                self.heap.push((at, place));
                self.rise(self.heap.len() - 1);
            }
            (Some(position), Some(at)) => {
                if let Some(entry) = self.heap.get_mut(position) {
                    entry.0 = at;
                }
                self.settle(position);
            }
            (Some(position), None) => {
                self.heap.swap_remove(position);
                self.note(place, NOWHERE);
                if position < self.heap.len() {
                    self.settle(position);
                }
            }
        }
    }

    fn settle(&mut self, position: usize) {
        let position = self.rise(position);
        self.sink(position);
    }

    /// Brings an entry up to where it belongs, and says where that is.
    fn rise(&mut self, mut position: usize) -> usize {
        while position > 0 {
            let above = (position - 1) / BELOW;
            if self.heap.get(above) <= self.heap.get(position) {
                break;
            }
            self.exchange(above, position);
            position = above;
        }
        self.note_at(position);
        position
    }

    /// Brings an entry down to where it belongs.
    fn sink(&mut self, mut position: usize) {
        loop {
            let first = position * BELOW + 1;
            let below = first..(first + BELOW).min(self.heap.len());
            let Some(earliest) = below.min_by_key(|below| self.heap.get(*below)) else { break };
            if self.heap.get(position) <= self.heap.get(earliest) {
                break;
            }
            self.exchange(position, earliest);
            position = earliest;
        }
        self.note_at(position);
    }

    /// Exchanges two entries; the position of one of them is noted when it has come to rest.
    fn exchange(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.note_at(a);
        self.note_at(b);
    }

    fn note_at(&mut self, position: usize) {
        if let Some((_, place)) = self.heap.get(position).copied() {
            self.note(place, u32::try_from(position).unwrap_or(NOWHERE));
        }
    }

    fn note(&mut self, place: Place, position: u32) {
        if place.number() >= self.positions.len() {
            self.positions.resize(place.number() + 1, NOWHERE);
        }
        if let Some(noted) = self.positions.get_mut(place.number()) {
            *noted = position;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::piece_map::tests::place;
    use super::*;

    proptest! {
        #[test]
        fn the_first_is_always_the_earliest_of_those_that_are_set(
            steps in prop::collection::vec((0..60_u32, prop::option::weighted(0.7, 0..40_u64)), 1..400),
        ) {
            let mut deadlines = Deadlines::default();
            let mut model = BTreeMap::new();
            let first = |model: &BTreeMap<u32, BootTime>| model.iter().map(|(who, at)| (*at, place(*who))).min();
            for (who, at) in steps {
                let at = at.map(BootTime::from_nanos);
                deadlines.set(place(who), at);
                match at {
                    Some(at) => model.insert(who, at),
                    None => model.remove(&who),
                };
                prop_assert_eq!(deadlines.first(), first(&model));
            }
            while let Some((_, who)) = deadlines.first() {
                prop_assert_eq!(deadlines.first(), first(&model));
                deadlines.set(who, None);
                model.remove(&(who.number() as u32));
            }
            prop_assert!(model.is_empty());
        }
    }
}
