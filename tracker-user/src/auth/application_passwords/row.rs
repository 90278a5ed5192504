//! An application password on disk: what it is of, and the HMAC that it is known by.

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::store::{SealedRow, SealedTable, Sealer};

const TABLE: SealedTable = SealedTable::ApplicationPasswords;

/// A row, unsealed. There is nothing in it that would open anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    /// Whose: how they are called,
    pub(super) user: String,
    /// their domain, as people see it,
    pub(super) domain: String,
    /// and [`Identity::key`](crate::types::Identity::key).
    pub(super) owner: String,
    /// What its owner calls it.
    pub(super) name: String,
    /// Of which of the gateway's keys the HMAC is,
    pub(super) key: String,
    /// in hexadecimal.
    pub(super) hmac: String,
    /// Since when.
    pub(super) created: Timestamp,
    /// From then on it is not good any more.
    pub(super) expires: Option<Timestamp>,
    /// Where it may come from; from everywhere where none is named.
    pub(super) networks: Vec<IpNet>,
    /// When it was last used,
    pub(super) used: Option<Timestamp>,
    /// and from where.
    pub(super) used_from: Option<String>,
}

impl Row {
    /// What is in a row of this key.
    pub(super) fn open(sealer: &Sealer, id: &str, sealed: &[u8]) -> Option<Self> {
        serde_json::from_slice(&sealer.open_row(TABLE, id, sealed)?).ok()
    }

    /// As it goes to disk. `None` where the system has no randomness.
    pub(super) fn seal(&self, sealer: &Sealer, id: &str) -> Option<SealedRow> {
        let plain = Zeroizing::new(serde_json::to_vec(self).ok()?);
        sealer.seal(TABLE, id, &plain)
    }

    /// That it is no more.
    pub(super) fn gone(id: &str) -> SealedRow {
        SealedRow { table: TABLE, key: id.to_owned(), value: None }
    }
}
