//! What survives: the embedded database in the state directory, the journal that writes it, the mark that revokes it, and the
//! administrator's first password.

mod administrator;
mod backend;
pub mod bans;
mod content;
mod continuity;
pub mod embedded;
mod error;
mod events;
pub mod history;
pub mod journal;
mod layouts;
mod open;
mod policy;
mod revocation;
mod rotation;
mod schema;
mod sealed;
mod sealer;
mod series;
pub mod sessions;
mod text;
mod users;
mod web_sessions;

#[cfg(test)]
mod tests;

pub use bans::{BanTimes, StoredBan};
pub use content::{RETENTION, StoredSetting};
pub use embedded::Store;
pub use error::{StoreError, Unkept};
pub use events::{EventKey, StoredEvent};
pub use history::{HistoryEntry, StalePeriod, Wanted};
pub use journal::{Answer, Entry, Journal, Rows};
pub use layouts::ConfiguredPolicy;
pub use policy::StoredPolicy;
pub use rotation::RotationError;
pub use sealed::{SealedRow, SealedTable};
pub use sealer::{FILE as KEY_FILE, PREVIOUS as PREVIOUS_KEY_FILE, Sealer, SealerError};
pub use series::StoredBucket;
pub use sessions::PortableSession;
pub use users::{PasswordHash, StoredUser};
pub use web_sessions::{StoredWebSession, WebSessionFacts, WebSessionKey, WebSessionTimes};
