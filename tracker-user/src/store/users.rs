//! The gateway's own users: names, and what their passwords are verified with.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use redb::{ReadableTable as _, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::content::STATE;
use super::embedded::{Store, existing};
use super::error::StoreError;
use super::events::Events;
use crate::audit::TrailEntry;
use crate::types::Role;

/// By name in lower case.
const USERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("users");
/// By name in lower case: when the user was last logged in, in microseconds of wall time.
const LOGINS: TableDefinition<'_, &str, i64> = TableDefinition::new("user-logins");
/// Stands in the state once there has been a user, whatever became of them.
const FOUNDED: &str = "has-had-users";

/// What a password is verified with: a PHC string. It does not print itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// This PHC string.
    #[must_use]
    pub const fn new(phc: String) -> Self {
        Self(phc)
    }

    /// The PHC string, for whoever verifies a password.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// One of the gateway's own users, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredUser {
    /// The name, as it was typed.
    pub name: String,
    /// What the password is verified with.
    pub password: PasswordHash,
    /// Nobody is let in by this name.
    #[serde(default)]
    pub disabled: bool,
    /// The password is good for nothing but changing it.
    #[serde(default)]
    pub must_change: bool,
    /// What the user may do to the gateway.
    #[serde(default)]
    pub role: Role,
    /// When the user was added.
    pub created: Timestamp,
    /// Since when the password, and whether it counts, are what they are: who logged in before did so by something else.
    pub changed: Timestamp,
}

impl StoredUser {
    /// The name by which it is found: in lower case.
    #[must_use]
    pub fn key(&self) -> String {
        self.name.to_lowercase()
    }

    /// Whether whoever has proved to be `other` has proved to be this one: the password, and whether it counts, are the same.
    #[must_use]
    pub fn is_proved_like(&self, other: &Self) -> bool {
        let Self { name, password, disabled, must_change, role: _, created, changed } = self;
        (name, password, disabled, must_change, created, changed)
            == (
                &other.name,
                &other.password,
                &other.disabled,
                &other.must_change,
                &other.created,
                &other.changed,
            )
    }

    /// Whether the user may administer the gateway now.
    #[must_use]
    pub const fn administers(&self) -> bool {
        self.role.may_change() && !self.disabled
    }

    /// One that cannot be read has its name, and lets nobody in.
    fn unreadable(key: &str) -> Self {
        Self {
            name: key.to_owned(),
            password: PasswordHash::new(String::new()),
            disabled: true,
            must_change: false,
            role: Role::User,
            created: Timestamp::UNIX_EPOCH,
            changed: Timestamp::UNIX_EPOCH,
        }
    }
}

impl Store {
    /// The gateway's own users. One that cannot be read is disabled: the name is taken all the same.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn users(&self) -> Result<Vec<StoredUser>, StoreError> {
        self.read(|read| {
            let Some(table) = existing(read.open_table(USERS))? else { return Ok(Vec::new()) };
            let mut users = Vec::new();
            for entry in table.iter()? {
                let (key, value) = entry?;
                users.push(serde_json::from_slice(value.value()).unwrap_or_else(|_| {
                    tracing::warn!(
                        user = key.value(),
                        "a local user in the store cannot be read, and is disabled"
                    );
                    StoredUser::unreadable(key.value())
                }));
            }
            Ok(users)
        })
    }

    /// When the gateway's own users were last logged in, by name in lower case; whoever never was is not there.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn last_logins(&self) -> Result<HashMap<String, Timestamp>, StoreError> {
        self.read(|read| {
            let Some(table) = existing(read.open_table(LOGINS))? else { return Ok(HashMap::new()) };
            let mut logins = HashMap::new();
            for entry in table.iter()? {
                let (key, at) = entry?;
                if let Ok(at) = Timestamp::from_microsecond(at.value()) {
                    logins.insert(key.value().to_owned(), at);
                }
            }
            Ok(logins)
        })
    }

    /// Whether there is a user of the gateway's own, or ever was one.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn has_had_users(&self) -> Result<bool, StoreError> {
        self.read(|read| {
            if let Some(state) = existing(read.open_table(STATE))?
                && state.get(FOUNDED)?.is_some()
            {
                return Ok(true);
            }
            match existing(read.open_table(USERS))? {
                Some(users) => Ok(users.first()?.is_some()),
                None => Ok(false),
            }
        })
    }

    /// Keeps a user, with the line of the audit trail that tells of it, if one does: both are on disk when this returns, or
    /// neither.
    ///
    /// # Errors
    /// When it cannot be written; what was before stands.
    pub fn put_user(&self, user: &StoredUser, line: Option<&TrailEntry>) -> Result<(), StoreError> {
        let (key, value) = (user.key(), serde_json::to_vec(user).unwrap_or_default());
        self.transaction(|write| {
            write.open_table(USERS)?.insert(key.as_str(), value.as_slice())?;
            write.open_table(STATE)?.insert(FOUNDED, &b"true"[..])?;
            line.map_or(Ok(()), |line| Events::open(write)?.add(line))
        })
    }

    /// Forgets the user of this name in lower case; likewise.
    ///
    /// # Errors
    /// When it cannot be written; the user stands.
    pub fn remove_user(&self, key: &str, line: &TrailEntry) -> Result<(), StoreError> {
        self.transaction(|write| {
            write.open_table(USERS)?.remove(key)?;
            write.open_table(LOGINS)?.remove(key)?;
            Events::open(write)?.add(line)
        })
    }
}

/// Whether a user may administer the gateway was a yes or a no before there were roles. What cannot be read stays as it is.
pub(super) fn roles_of_administrators(write: &WriteTransaction) -> Result<(), redb::Error> {
    let mut users = write.open_table(USERS)?;
    let mut changed = Vec::new();
    for entry in users.iter()? {
        let (key, value) = entry?;
        let Ok(mut user) = serde_json::from_slice::<Value>(value.value()) else { continue };
        let Some(fields) = user.as_object_mut() else { continue };
        let administers = fields.remove("administrator").is_some_and(|word| word == true);
        let role = if administers { Role::Administrator } else { Role::User };
        fields.insert("role".into(), role.as_str().into());
        changed.push((key.value().to_owned(), serde_json::to_vec(&user).unwrap_or_default()));
    }
    for (key, value) in changed {
        users.insert(key.as_str(), value.as_slice())?;
    }
    Ok(())
}

/// Makes the tables where they are missing.
pub(super) fn create(write: &WriteTransaction) -> Result<(), redb::Error> {
    write.open_table(USERS)?;
    write.open_table(LOGINS)?;
    Ok(())
}

/// Notes who of the gateway's own users has logged in by these events.
pub(super) fn note_logins(write: &WriteTransaction, events: &[Arc<TrailEntry>]) -> Result<(), redb::Error> {
    let logins = events.iter().filter(|entry| entry.event.is_admission());
    let logins = logins.filter_map(|entry| {
        let user = entry.event.user().filter(|user| user.is_local())?;
        Some((user.user().to_lowercase(), entry.time.as_microsecond()))
    });
    let logins: HashMap<String, i64> = logins.collect();
    if logins.is_empty() {
        return Ok(());
    }
    let (users, mut table) = (write.open_table(USERS)?, write.open_table(LOGINS)?);
    for (key, at) in &logins {
        // Removed meanwhile: nothing of them is left behind.
        if users.get(key.as_str())?.is_some() {
            table.insert(key.as_str(), at)?;
        }
    }
    Ok(())
}
