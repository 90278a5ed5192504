//! Another key for sealed rows ([`Sealer`]). In this order, so that a crash at any point loses nothing:
//!
//! 1. the new key is written to `second-factor.key.new`;
//! 2. the old one gets the name `second-factor.key.previous` as well;
//! 3. the new one takes the name `second-factor.key`: it is in force, and both are read;
//! 4. one transaction of the journal seals all rows on disk anew;
//! 5. `second-factor.key.previous` is removed.
//!
//! A start that finds `second-factor.key.previous` goes on with 4. Rows that were sealed under the old key and are handed to the journal
//! later are sealed anew by it before they are written, so that no row on disk needs a key that is gone.

use std::sync::{Arc, PoisonError, mpsc};

use super::error::Unkept;
use super::journal::{Entry, Journal};
use super::sealer::{Sealer, SealerError};
use crate::audit::TrailEntry;

/// The key was not changed, or not wholly.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// The key in force stays it.
    #[error("{0}")]
    Key(#[from] SealerError),
    /// The new key is in force, but there are rows under the old one on disk.
    #[error(
        "the new key is in force, but the rows on disk could not be sealed anew, and the old key is kept: {0}; once the disk takes \
         it again, repeat the order"
    )]
    Rows(Unkept),
}

impl Sealer {
    /// Puts a new key into force, and seals all rows anew. `line` tells of it, given the keys before and after, and is on disk with the
    /// rows; it is returned once the new key is in force. Blocks.
    ///
    /// # Errors
    /// See [`RotationError`].
    pub fn rotate(
        self: &Arc<Self>,
        journal: &Journal,
        line: impl FnOnce(String, String) -> Arc<TrailEntry>,
        told: impl FnOnce(Arc<TrailEntry>),
    ) -> Result<(), RotationError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // One that was cut short comes first: no more than two keys are kept.
        if self.has_previous() {
            self.settle(journal, Vec::new())?;
        }
        let before = self.key_id();
        self.turn_key()?;
        let line = line(before, self.key_id());
        told(Arc::clone(&line));
        self.settle(journal, vec![Entry::Event(line)])
    }

    /// Brings a change of the key to its end that was cut short. Blocks.
    ///
    /// # Errors
    /// When the disk does not take it: then the old key is kept.
    pub fn resume(self: &Arc<Self>, journal: &Journal) -> Result<(), RotationError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if self.has_previous() { self.settle(journal, Vec::new()) } else { Ok(()) }
    }

    fn settle(self: &Arc<Self>, journal: &Journal, mut entries: Vec<Entry>) -> Result<(), RotationError> {
        let (tell, told) = mpsc::sync_channel(1);
        entries.push(Entry::Reseal(Arc::clone(self)));
        let answer = move |kept| {
            // Whoever waits for it waits below.
            let _ = tell.send(kept);
        };
        journal.submit(entries, Some(Box::new(answer)));
        told.recv().unwrap_or_else(|_| Err(Unkept::closed())).map_err(RotationError::Rows)?;
        Ok(self.drop_previous()?)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::audit::{Actor, Event, SettingEvent, Via};
    use crate::store::{SealedRow, SealedTable, Store};

    fn line(before: String, after: String) -> Arc<TrailEntry> {
        let actor = Actor::unknown(Via::Socket);
        TrailEntry::now(Event::Setting(SettingEvent { key: "a.b", before, after, how: "rotated", actor }))
    }

    fn seal(sealer: &Sealer, table: SealedTable, key: &str) -> SealedRow {
        sealer.seal(table, key, format!("of {key}").as_bytes()).unwrap()
    }

    /// Whether a start with what is on disk opens each row.
    fn all_open(directory: &Path, store: &Store) -> Vec<(String, bool)> {
        let found = Sealer::open(directory).unwrap();
        let rows = SealedTable::ALL.into_iter().flat_map(|table| {
            store.sealed(table).unwrap().into_iter().map(move |(key, value)| (table, key, value))
        });
        let opens = |(table, key, value): (SealedTable, String, Vec<u8>)| {
            let plain = found.open_row(table, &key, &value);
            let right = plain.is_some_and(|plain| *plain == format!("of {key}").into_bytes());
            (key, right)
        };
        rows.map(opens).collect()
    }

    #[test]
    fn all_rows_of_all_tables_are_sealed_anew_and_what_comes_late_as_well() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("state");
        let store = Arc::new(Store::open(&directory, None).unwrap());
        let sealer = Arc::new(Sealer::open(&directory).unwrap());
        let mut rows: Vec<SealedRow> = (0..700)
            .map(|number| seal(&sealer, SealedTable::RememberedDevices, &format!("device{number}")))
            .collect();
        rows.extend(SealedTable::ALL.map(|table| seal(&sealer, table, table.as_str())));
        store.put_sealed(&rows, None).unwrap();
        let journal = Journal::start(Arc::clone(&store)).unwrap();
        // Handed over before, and sealed before but handed over after it.
        let before = seal(&sealer, SealedTable::Mail, "before");
        let late = seal(&sealer, SealedTable::Mail, "late");
        journal.submit(vec![Entry::Sealed(before)], None);
        let first = sealer.key_id();
        let mut told = Vec::new();
        sealer.rotate(&journal, line, |line| told.push(line)).unwrap();
        assert!(!sealer.has_previous() && sealer.key_id() != first);
        let setting = told[0].event.setting().unwrap();
        assert_eq!((&setting.before, &setting.after), (&first, &sealer.key_id()));
        journal.submit(vec![Entry::Sealed(late.clone())], None);
        journal.close();
        assert_eq!(
            sealer.open_row(late.table, &late.key, &late.value.unwrap()).as_deref().map(Vec::len),
            Some(7)
        );
        let opened = all_open(&directory, &store);
        assert_eq!(opened.len(), 707);
        assert!(opened.iter().all(|(_, right)| *right), "{opened:?}");
        let events = store.events(told[0].time, None, 10).unwrap().0;
        assert_eq!(events.iter().filter(|event| event.reason.as_deref() == Some("rotated")).count(), 1);
    }

    #[test]
    fn a_disk_that_takes_nothing_keeps_both_keys_and_the_next_order_brings_it_to_its_end() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("state");
        let store = Arc::new(Store::open(&directory, None).unwrap());
        let sealer = Arc::new(Sealer::open(&directory).unwrap());
        let row = seal(&sealer, SealedTable::Mail, "one");
        store.put_sealed(&[row], None).unwrap();
        // A journal that is closed takes nothing, as a full disk does.
        let journal = Journal::start(Arc::clone(&store)).unwrap();
        journal.close();
        let error = sealer.rotate(&journal, line, drop).unwrap_err().to_string();
        assert!(error.contains("the old key is kept") && sealer.has_previous(), "{error}");
        assert_eq!(all_open(&directory, &store), [("one".to_owned(), true)]);
        let turned = sealer.key_id();
        let error = sealer.rotate(&journal, line, drop).unwrap_err().to_string();
        assert!(error.contains("the old key is kept"), "{error}");
        assert_eq!(sealer.key_id(), turned, "never more than two keys");
        let journal = Journal::start(Arc::clone(&store)).unwrap();
        // As a start does.
        let found = Arc::new(Sealer::open(&directory).unwrap());
        found.resume(&journal).unwrap();
        assert!(!found.has_previous() && found.key_id() == turned);
        assert_eq!(all_open(&directory, &store), [("one".to_owned(), true)]);
        found.resume(&journal).unwrap();
        journal.close();
    }
}
