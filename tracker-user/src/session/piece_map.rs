//! A map that stays small and smooth: what it holds lies in pieces of fixed size that are never moved,
//! and is found by tables of four bytes an entry, each of which grows by itself. A usual hash map has room for up to
//! twice of what it holds, and moves all of it at once when it grows.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};

use hashbrown::HashTable;

/// What can be kept in a [`PieceMap`].
pub(super) trait Keyed {
    /// What it is found by.
    type Key: Copy + Eq + Hash;

    /// Its key. Never changes while it is kept.
    fn key(&self) -> Self::Key;
}

/// Where a map keeps something; given to another when it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u32);

impl Place {
    /// Places count up from 0.
    pub(super) const fn number(self) -> usize {
        self.0 as usize
    }
}

/// So many entries lie in one piece.
const PIECE: usize = 128;
/// So many tables share the places: one of them that grows among a million entries takes some milliseconds.
const TABLES: usize = 64;

/// See the module.
#[derive(Debug)]
pub(super) struct PieceMap<V> {
    tables: [HashTable<Place>; TABLES],
    len: usize,
    pieces: Vec<Vec<Option<V>>>,
    free: Vec<Place>,
    hasher: RandomState,
}

impl<V> Default for PieceMap<V> {
    fn default() -> Self {
        Self {
            tables: [const { HashTable::new() }; TABLES],
            len: 0,
            pieces: Vec::new(),
            free: Vec::new(),
            hasher: RandomState::new(),
        }
    }
}

impl<V: Keyed> PieceMap<V> {
    /// How many entries there are.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Where the key's entry is.
    pub(super) fn find(&self, key: V::Key) -> Option<Place> {
        let is_it = |place: &Place| value(&self.pieces, *place).is_some_and(|value| value.key() == key);
        let hash = self.hasher.hash_one(key);
        self.tables.get(table(hash))?.find(hash, is_it).copied()
    }

    /// What is at a place.
    pub(super) fn at(&self, place: Place) -> Option<&V> {
        value(&self.pieces, place)
    }

    /// What is at a place, to be changed.
    pub(super) fn at_mut(&mut self, place: Place) -> Option<&mut V> {
        self.slot(place)?.as_mut()
    }

    /// The key's entry.
    pub(super) fn get(&self, key: V::Key) -> Option<&V> {
        self.at(self.find(key)?)
    }

    /// The key's entry, to be changed.
    pub(super) fn get_mut(&mut self, key: V::Key) -> Option<&mut V> {
        self.at_mut(self.find(key)?)
    }

    /// Keeps an entry, in the place of its key's former one if there is one.
    pub(super) fn insert(&mut self, new: V) -> Place {
        let key = new.key();
        if let Some(place) = self.find(key) {
            if let Some(slot) = self.slot(place) {
                *slot = Some(new);
            }
            return place;
        }
        let place = self.free.pop().unwrap_or_else(|| self.another());
        if let Some(slot) = self.slot(place) {
            *slot = Some(new);
        }
        let Self { tables, pieces, hasher, .. } = self;
        let again = |place: &Place| value(pieces, *place).map_or(0, |value| hasher.hash_one(value.key()));
        let hash = hasher.hash_one(key);
        if let Some(table) = tables.get_mut(table(hash)) {
            table.insert_unique(hash, place, again);
        }
        self.len += 1;
        place
    }

    /// Takes the key's entry out, and says where it was.
    pub(super) fn remove(&mut self, key: V::Key) -> Option<(Place, V)> {
        let Self { tables, pieces, hasher, .. } = self;
        let hash = hasher.hash_one(key);
        let is_it = |place: &Place| value(pieces, *place).is_some_and(|value| value.key() == key);
        let (place, _) = tables.get_mut(table(hash))?.find_entry(hash, is_it).ok()?.remove();
        let old = self.slot(place)?.take()?;
        self.free.push(place);
        self.len -= 1;
        Some((place, old))
    }

    /// All entries, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &V> {
        self.pieces.iter().flatten().flatten()
    }

    /// How many places there are, taken and free: all entries are at places with smaller numbers.
    pub(super) fn end(&self) -> usize {
        match self.pieces.split_last() {
            Some((last, full)) => full.len() * PIECE + last.len(),
            None => 0,
        }
    }

    /// The entries at so many places from the one with this number on.
    pub(super) fn range(&self, from: usize, places: usize) -> impl Iterator<Item = &V> {
        let numbers = from..from.saturating_add(places).min(self.end());
        numbers.filter_map(|number| value(&self.pieces, Place(u32::try_from(number).ok()?)))
    }

    /// A new place at the end.
    fn another(&mut self) -> Place {
        // Four billion entries would not fit into memory.
        let place = Place(u32::try_from(self.end()).unwrap_or(u32::MAX));
        match self.pieces.last_mut().filter(|last| last.len() < PIECE) {
            Some(last) => last.push(None),
            None => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push(None);
                self.pieces.push(piece);
            }
        }
        place
    }

    fn slot(&mut self, place: Place) -> Option<&mut Option<V>> {
        self.pieces.get_mut(place.number() / PIECE)?.get_mut(place.number() % PIECE)
    }
}

/// Which table: by bits that the tables themselves do not go by.
const fn table(hash: u64) -> usize {
    (hash >> 40) as usize % TABLES
}

fn value<V>(pieces: &[Vec<Option<V>>], place: Place) -> Option<&V> {
    pieces.get(place.number() / PIECE)?.get(place.number() % PIECE)?.as_ref()
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::types::ClientAddr;

    impl Keyed for (ClientAddr, u32) {
        type Key = ClientAddr;

        fn key(&self) -> ClientAddr {
            self.0
        }
    }

    pub(in super::super) const fn place(number: u32) -> Place {
        Place(number)
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16, u32),
        Remove(u16),
        Change(u16, u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        // Few clients, so that they come back; more than one piece of them.
        let client = 0..300_u16;
        let step = prop_oneof![
            4 => (client.clone(), any::<u32>()).prop_map(|(client, value)| Step::Insert(client, value)),
            2 => client.clone().prop_map(Step::Remove),
            1 => (client, any::<u32>()).prop_map(|(client, value)| Step::Change(client, value)),
        ];
        prop::collection::vec(step, 1..900)
    }

    proptest! {
        #[test]
        fn holds_what_a_map_holds_each_at_its_place(steps in steps()) {
            let address = |client: u16| ClientAddr::from_v4([10, 0, (client >> 8) as u8, client as u8]);
            let mut map = PieceMap::default();
            let mut model: BTreeMap<u16, (Place, u32)> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Insert(client, value) => {
                        let place = map.insert((address(client), value));
                        if let Some((before, _)) = model.insert(client, (place, value)) {
                            prop_assert_eq!(before, place);
                        }
                    }
                    Step::Remove(client) => {
                        let removed = map.remove(address(client)).map(|(place, entry)| (place, entry.1));
                        prop_assert_eq!(removed, model.remove(&client));
                    }
                    Step::Change(client, value) => {
                        let there = map.get_mut(address(client)).map(|entry| entry.1 = value);
                        prop_assert_eq!(there.is_some(), model.contains_key(&client));
                        model.entry(client).and_modify(|entry| entry.1 = value);
                    }
                }
                prop_assert_eq!(map.len(), model.len());
            }
            for client in 0..300 {
                let expected = model.get(&client).copied();
                let found = map.find(address(client));
                prop_assert_eq!(found, expected.map(|(place, _)| place));
                prop_assert_eq!(map.get(address(client)).map(|entry| entry.1), expected.map(|(_, value)| value));
                prop_assert!(found.is_none_or(|place| place.number() < map.end()));
            }
            let mut all: Vec<_> = map.iter().copied().collect();
            // A walk in portions tells the same.
            let walk = (0..map.end()).step_by(7).flat_map(|from| map.range(from, 7).copied());
            prop_assert_eq!(walk.collect::<Vec<_>>(), all.clone());
            all.sort_unstable();
            let expected: Vec<_> =
                model.iter().map(|(client, (_, value))| (address(*client), *value)).collect();
            prop_assert_eq!(all, expected);
        }
    }
}
