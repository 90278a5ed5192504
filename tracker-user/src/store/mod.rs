//! What survives: the embedded database in the state directory, the journal that writes it, and the mark that revokes it.

pub mod embedded;
pub mod history;
pub mod journal;
pub mod revocation;
pub mod sessions;

#[cfg(test)]
mod tests;

pub use embedded::{EventKey, Store, StoreError, StoredSetting};
pub use history::{StalePeriod, Tenure, Wanted};
pub use journal::{Answer, Entry, Journal};
pub use revocation::Revocation;
pub use sessions::StoredSession;
