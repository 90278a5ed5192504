//! What there was over the last hour, day and week, as the store keeps it: a row for each bucket, which a later one of the same
//! place takes over. So there are never more rows than buckets.

use std::collections::{BTreeMap, HashMap};

use redb::{ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::embedded::{Store, existing};
use super::error::StoreError;

/// By the word for the span, and the place in it.
const SERIES: TableDefinition<'_, (&str, u8), &[u8]> = TableDefinition::new("series");

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBucket {
    /// The word for how long a time it is one of.
    #[serde(skip)]
    pub span: String,
    /// Its place in that.
    #[serde(skip)]
    pub place: u8,
    /// Its number, which tells it from the others of this place.
    pub number: i64,
    /// What was counted; what is absent is 0.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
    /// The highest levels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub levels: BTreeMap<String, u64>,
}

/// Those to be written, each in its place.
pub(super) type Series = HashMap<(String, u8), StoredBucket>;

impl Store {
    /// All of them, in no order. What cannot be read is left out.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn series(&self) -> Result<Vec<StoredBucket>, StoreError> {
        self.read(|read| {
            let Some(table) = existing(read.open_table(SERIES))? else { return Ok(Vec::new()) };
            let mut all = Vec::new();
            for entry in table.iter()? {
                let (key, value) = entry?;
                let (span, place) = key.value();
                if let Ok(bucket) = serde_json::from_slice::<StoredBucket>(value.value()) {
                    all.push(StoredBucket { span: span.to_owned(), place, ..bucket });
                }
            }
            Ok(all)
        })
    }
}

pub(super) fn write(write: &WriteTransaction, series: &Series) -> Result<(), redb::Error> {
    let mut table = write.open_table(SERIES)?;
    for ((span, place), bucket) in series {
        let value = serde_json::to_vec(bucket).unwrap_or_default();
        table.insert((span.as_str(), *place), value.as_slice())?;
    }
    Ok(())
}
