//! What survives: the embedded database in the state directory, the journal that writes it, and the mark that revokes it.

mod backend;
mod content;
mod continuity;
pub mod embedded;
mod error;
pub mod history;
pub mod journal;
mod open;
mod revocation;
mod schema;
pub mod sessions;

#[cfg(test)]
mod tests;

pub use content::{EventKey, RETENTION, StoredSetting};
pub use embedded::Store;
pub use error::{StoreError, Unkept};
pub use history::{StalePeriod, Tenure, Wanted};
pub use journal::{Answer, Entry, Journal};
pub use sessions::StoredSession;
