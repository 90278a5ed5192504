//! Rows that are secrets: sealed by whoever writes them ([`Sealer`]), so that neither a copy of the database nor a row that was
//! copied to another key tells anything.

use std::ops::Bound;

use redb::{ReadableTable as _, TableDefinition, WriteTransaction};

use super::embedded::{Store, existing};
use super::error::StoreError;
use super::events::Events;
use super::sealer::Sealer;
use crate::audit::TrailEntry;

/// So many rows are looked at at once.
const PORTION: usize = 256;

/// A table of sealed rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SealedTable {
    /// What users have set up for their second factor, by [`Identity::key`](crate::types::Identity::key).
    SecondFactors,
    /// Application passwords, by their id.
    ApplicationPasswords,
    /// Browsers that are remembered, by the SHA-256 of their secret in hexadecimal.
    RememberedDevices,
    /// Mail that waits to be sent, by its number.
    Mail,
    /// Keys of the gateway's own, by their name.
    Keys,
}

impl SealedTable {
    /// Each of them.
    pub const ALL: [Self; 5] =
        [Self::SecondFactors, Self::ApplicationPasswords, Self::RememberedDevices, Self::Mail, Self::Keys];

    /// Its name, on disk and in what rows are sealed with.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SecondFactors => "second-factors",
            Self::ApplicationPasswords => "application-passwords",
            Self::RememberedDevices => "remembered-devices",
            Self::Mail => "mail",
            Self::Keys => "keys",
        }
    }

    const fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(self.as_str())
    }
}

/// What a row is from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedRow {
    /// Where,
    pub table: SealedTable,
    /// under which key,
    pub key: String,
    /// and what, sealed; `None`: it is no more.
    pub value: Option<Vec<u8>>,
}

impl Store {
    /// The rows of a table, by key.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn sealed(&self, table: SealedTable) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.read(|read| {
            let Some(table) = existing(read.open_table(table.definition()))? else { return Ok(Vec::new()) };
            let mut rows = Vec::new();
            for entry in table.iter()? {
                let (key, value) = entry?;
                rows.push((key.value().to_owned(), value.value().to_vec()));
            }
            Ok(rows)
        })
    }

    /// Writes rows, with the line of the audit trail that tells of it, if one does: all on disk when this returns, or none.
    ///
    /// # Errors
    /// When they cannot be written; what was before stands.
    pub fn put_sealed(&self, rows: &[SealedRow], line: Option<&TrailEntry>) -> Result<(), StoreError> {
        self.transaction(|change| {
            write(change, rows)?;
            line.map_or(Ok(()), |line| Events::open(change)?.add(line))
        })
    }
}

/// Writes rows.
pub(super) fn write<'a>(
    write: &WriteTransaction,
    rows: impl IntoIterator<Item = &'a SealedRow>,
) -> Result<(), redb::Error> {
    for SealedRow { table, key, value } in rows {
        let mut table = write.open_table(table.definition())?;
        match value {
            Some(value) => table.insert(key.as_str(), value.as_slice())?.map(drop),
            None => table.remove(key.as_str())?.map(drop),
        };
    }
    Ok(())
}

/// Seals all rows under the key in force. What cannot be opened stays as it is.
pub(super) fn renew(write: &WriteTransaction, sealer: &Sealer) -> Result<(), redb::Error> {
    let mut unreadable = 0_usize;
    for table in SealedTable::ALL {
        let mut rows = write.open_table(table.definition())?;
        let mut next: Option<String> = None;
        // A portion at a time: a table may be large.
        loop {
            let from = next.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut portion = Vec::with_capacity(PORTION);
            for entry in rows.range::<&str>((from, Bound::Unbounded))?.take(PORTION) {
                let (key, value) = entry?;
                portion.push((key.value().to_owned(), value.value().to_vec()));
            }
            for (key, value) in &portion {
                if let Some(renewed) = sealer.renewed(table, key, value) {
                    rows.insert(key.as_str(), renewed.as_slice())?;
                } else if sealer.open_row(table, key, value).is_none() {
                    unreadable += 1;
                }
            }
            match portion.pop() {
                Some((last, _)) => next = Some(last),
                None => break,
            }
        }
    }
    if unreadable > 0 {
        tracing::warn!(
            unreadable,
            "rows that no key of these opens stay as they are: they were sealed under a key that is not there"
        );
    }
    Ok(())
}
