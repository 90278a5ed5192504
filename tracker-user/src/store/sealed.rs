//! Rows that are secrets: sealed by whoever writes them ([`Sealer`]), so that neither a copy of the database nor a row that was
//! copied to another key tells anything.

use redb::{ReadableTable as _, TableDefinition, WriteTransaction};

use super::embedded::{Store, existing};
use super::error::StoreError;
use super::events::Events;
use crate::audit::TrailEntry;

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
